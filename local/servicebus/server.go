// Package servicebus is Azure Service Bus on one machine: an AMQP 1.0 server
// that azservicebus, @azure/service-bus and azure-servicebus speak to as they
// do to the cloud, over plain TCP on loopback with
// UseDevelopmentEmulator=true in the connection string. The folder conformance
// runs the live tests of azservicebus against it.
//
// It has queues, with and without sessions: peek-lock and receive-and-delete,
// complete, abandon, defer, dead-letter, locks that expire and renew, session
// state, times to live, scheduled messages, batches, dead-letter queues,
// SAS-verified claims that may be narrowed to single queues, and the management
// operations of the SDKs. It keeps the limits of a Standard namespace. An
// acknowledged message is on disk. Locks end with the server, and the messages
// come again. A receiver gets the bytes of the sender; only the header changes, and
// annotations (and application properties, by settling) are added.
//
// Queues come and go while it runs, by the administration over HTTP; they may
// drop duplicates, forward, and be disabled. AMQP, AMQP in WebSockets and the
// administration share one port, with TLS if it has a certificate.
//
// It has no topics and no transactions. It never deletes an idle queue, does not
// drop idle links, and checks a claim only when a link is attached or an operation
// is requested.
//
// Order of mutexes: Server.changing, then session.sending, then conn.mu, session.mu,
// the mu of a link, entity.mu and registry, of which none is held while another of
// them is taken, except that outLink.setReceiver takes conn.mu inside its own.
// outbox.mu comes last: a frame may be queued under any of them.
package servicebus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/internal/tlsport"
	"dsvmpools/local/servicebus/admin"
	"dsvmpools/local/servicebus/queue"
	"dsvmpools/shared/door"
)

// Limits of a Standard namespace.
const (
	maxMessageSize   = 256 << 10 // of a Standard namespace
	maxPremiumBatch  = 1 << 20   // of a batch in a Premium namespace, whose single messages may be larger
	maxPropertyBytes = 64 << 10  // of all properties of a message
	maxPropertySize  = 32 << 10  // of one
	maxIDLength      = 128       // characters of a message or session id, or a partition key
	maxNameLength    = 260       // of a queue
	maxLockDuration  = 5 * time.Minute
	minWindow        = 20 * time.Second   // in which duplicates are dropped
	maxWindow        = 7 * 24 * time.Hour // likewise
)

// Defaults of a queue, as the service has them.
const (
	defaultLock          = time.Minute
	defaultMaxDeliveries = 10
)

// QueueConfig is one queue.
type QueueConfig struct {
	Name             string
	RequiresSession  bool
	LockDuration     time.Duration // 0 = 1 min; at most 5 min
	MaxDeliveryCount int           // 0 = 10
	DefaultTTL       time.Duration // how long messages live at most; 0 = no limit
	// DeadLetterExpired keeps messages that outlived their time in the dead-letter
	// queue; otherwise they are dropped.
	DeadLetterExpired bool
	// DuplicateWindow is how long a message is remembered: another one of the same
	// id is accepted and dropped. 0 = not at all.
	DuplicateWindow time.Duration
	// ForwardTo and ForwardDeadLettersTo name the queues that messages, and dead
	// letters, go on to; empty = they stay.
	ForwardTo, ForwardDeadLettersTo string
}

// AccessKey is a shared access key with its rights.
type AccessKey struct {
	Name, Key            string
	Send, Listen, Manage bool
	// Entities limits the key to these queues, by name; all others are refused.
	// nil = all queues with the rights above.
	Entities map[string]Right
}

// Right is what a limited key may do with one queue.
type Right struct{ Send, Listen bool }

// allows reports whether the key may send to, or listen on, a queue.
func (r AccessKey) allows(queue string, send, listen bool) bool {
	if r.Entities != nil {
		right := r.Entities[strings.ToLower(queue)]
		return (!send || right.Send) && (!listen || right.Listen)
	}
	return r.Manage || (!send || r.Send) && (!listen || r.Listen)
}

// Config says where the server listens, where it stores, and which queues and keys it has.
type Config struct {
	Addr string // loopback host:port; port 0 = any free one
	Path string // store file
	// Queues exist from the start, with these options. Others may be created at
	// run time, and last.
	Queues     []QueueConfig
	AccessKeys []AccessKey
	Log        *slog.Logger     // nil = discard
	Now        func() time.Time // nil = the clock

	// TLS is for clients that begin with TLS; on the same port others speak plain TCP.
	// nil = plain TCP alone, or with the certificate at CertificatePath.
	TLS *tls.Config
	// CertificatePath is a PEM file, beside which its private key lies, with a certificate
	// of the server's own. It is made when it is missing. "" = none.
	CertificatePath string

	Premium bool // messages up to 100 MB, as a queue's description says; no partitions
	// TrustBearer accepts every token that is no SAS token, unchecked and with all
	// rights. Only for a test that needs a token credential.
	TrustBearer bool
	// CloudRates keeps the rates of a Standard namespace: 1,000 credits per second,
	// and the service's throttling errors beyond.
	CloudRates bool
	// Credits is how many credits a second has with CloudRates; 0 = as in the cloud.
	Credits int
	// Chaos holds the failures to inject, by queue, at connect, token, attach,
	// send, receive, settle and management; nil = nothing.
	Chaos *chaos.Set

	bounds *bounds // nil = the usual ones
}

// Stats are counts since the start.
type Stats struct {
	MessagesSent      int64 // accepted, scheduled ones included
	MessagesDelivered int64 // handed to receivers; peeks are not counted
	Settled           int64
}

// Server is a running namespace.
type Server struct {
	cfg      Config
	broker   *queue.Broker
	listener net.Listener
	keys     map[string]AccessKey
	now      func() time.Time
	log      *slog.Logger

	sent, delivered, settled atomic.Int64

	bounds   bounds
	started  time.Time
	rates    *rates
	entities registry
	changing sync.Mutex // held while queues come, go or change
	web      *handed    // connections that speak HTTP
	stopWeb  func() error

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// Start opens the store and listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if !door.IsLoopback(host) {
		return nil, fmt.Errorf("%s is not a loopback address; the local Service Bus serves this machine only", cfg.Addr)
	}
	s := &Server{
		cfg:      cfg,
		keys:     map[string]AccessKey{},
		now:      cfg.Now,
		log:      cfg.Log,
		open:     map[net.Conn]struct{}{},
		entities: registry{all: map[string]*entity{}},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, r := range cfg.AccessKeys {
		s.keys[r.Name] = r
	}
	s.started, s.bounds = s.now(), usual
	if cfg.bounds != nil {
		s.bounds = *cfg.bounds
	}
	if cfg.CloudRates {
		s.rates = newRates(s.now, cfg.Credits)
	}
	s.broker, err = queue.Open(queue.Config{Path: cfg.Path, Now: s.now, Mark: mark, Warn: func(name string, err error) {
		s.log.Error("storing a change of the queue failed; trying again", "queue", name, "error", err)
	}})
	if err != nil {
		return nil, err
	}
	if err := s.addQueues(); err != nil {
		s.broker.Close()
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		s.broker.Close()
		return nil, err
	}
	if cfg.TLS == nil && cfg.CertificatePath != "" {
		certificate, err := tlsport.OwnCertificate(cfg.CertificatePath, s.Addr(), s.now())
		if err != nil {
			s.listener.Close()
			s.broker.Close()
			return nil, err
		}
		s.cfg.TLS = tlsport.Config(certificate)
	}
	s.web = &handed{addr: s.listener.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	s.startAllMovers()
	web := s.serveWeb()
	s.stopWeb = web.Close
	s.wg.Go(s.accept)
	return s, nil
}

// addQueues adds the queues that are configured, and those of an earlier run.
func (s *Server) addQueues() error {
	for _, q := range s.cfg.Queues {
		d := q.describe()
		switch err := checkName(q.Name); {
		case err != nil:
			return err
		case q.LockDuration < 0 || q.LockDuration > maxLockDuration:
			return fmt.Errorf("queue %s: a lock lasts up to %s, not %s", q.Name, maxLockDuration, q.LockDuration)
		case q.MaxDeliveryCount < 0 || q.DefaultTTL < 0:
			return fmt.Errorf("queue %s: neither MaxDeliveryCount nor DefaultTTL is negative", q.Name)
		case q.DuplicateWindow != 0 && (q.DuplicateWindow < minWindow || q.DuplicateWindow > maxWindow):
			return fmt.Errorf(
				"queue %s: duplicates are looked for within %s to %s, not %s",
				q.Name,
				minWindow,
				maxWindow,
				q.DuplicateWindow,
			)
		}
		if err := d.Complete(s.cfg.Premium); err != nil {
			return fmt.Errorf("queue %s: %w", q.Name, err)
		}
		if _, err := s.add(note{q.Name, d, s.started, s.started}, false); errors.Is(err, admin.ErrExists) {
			return fmt.Errorf("queue %s is configured twice; two names must differ by more than case", q.Name)
		} else if err != nil {
			return fmt.Errorf("%s: %w", s.cfg.Path, err)
		}
	}
	if err := s.restoreQueues(); err != nil {
		return fmt.Errorf("%s: %w", s.cfg.Path, err)
	}
	for _, e := range s.entities.all {
		if e.saved {
			continue
		}
		if err := s.checkForward(e.name, e.about); err != nil {
			return fmt.Errorf("queue %s: %w", e.name, err)
		}
	}
	return nil
}

// startAllMovers starts the movers of all queues.
func (s *Server) startAllMovers() {
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, e := range s.entities.all {
		s.restartMovers(e)
	}
}

// TLS returns the configuration of clients that begin with TLS; nil = there is none.
func (s *Server) TLS() *tls.Config { return s.cfg.TLS }

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// ConnectionString is the connection string of a client with the named key. It
// holds the key: do not log it.
func (s *Server) ConnectionString(key string) string {
	plain := ";UseDevelopmentEmulator=true"
	if s.cfg.TLS != nil && s.cfg.CertificatePath == "" {
		plain = ""
	}
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s%s", s.Addr(), key, s.keys[key].Key, plain)
}

// SecureConnectionString is for clients that speak TLS.
func (s *Server) SecureConnectionString(key string) string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return fmt.Sprintf("Endpoint=sb://localhost:%s;SharedAccessKeyName=%s;SharedAccessKey=%s", port, key, s.keys[key].Key)
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	return Stats{MessagesSent: s.sent.Load(), MessagesDelivered: s.delivered.Load(), Settled: s.settled.Load()}
}

// Counts says how many messages a queue has: active ones, scheduled ones, those
// locked by a receiver (active too), and those in its dead-letter queue.
func (s *Server) Counts(name string) (active, scheduled, locked, deadLettered int) {
	q := s.broker.Queue(name)
	if q == nil {
		return 0, 0, 0, 0
	}
	active, scheduled, _, locked = q.Counts()
	if dead := q.DeadLetters(); dead != nil {
		deadLettered, _, _, _ = dead.Counts()
	}
	return active, scheduled, locked, deadLettered
}

// Close ends the connections and closes the store.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.listener.Close()
	_ = s.stopWeb()
	s.changing.Lock()
	for _, e := range s.entities.all {
		e.stopMoving()
	}
	s.changing.Unlock()
	s.wg.Wait()
	return s.broker.Close()
}
