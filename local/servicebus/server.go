// Package servicebus is Azure Service Bus on one machine: an AMQP 1.0 server
// that azservicebus, @azure/service-bus and azure-servicebus speak to as they
// speak to the cloud, over plain TCP on loopback with
// UseDevelopmentEmulator=true in the connection string.
//
// It has queues, with and without sessions: peek-lock and receive-and-delete,
// complete, abandon, defer, dead-letter, locks that expire and renew, session
// state, times to live, scheduled messages, batches, dead-letter queues,
// SAS-verified claims that may be narrowed to single queues, and the management
// operations of the SDKs. It keeps the limits of a Standard namespace. What it
// acknowledges is on disk; locks end with the server, and the messages come
// again. What a sender encoded comes back as it was, byte for byte, but for the
// header and what is added to the annotations and, by settling, to the
// application properties.
//
// It has no topics, transactions, duplicate detection, forwarding, TLS,
// WebSockets or administration over HTTP, and queues are named when it starts. It
// does not throttle, does not drop links that are idle, and looks at a claim when
// a link is attached or an operation asked for, not in between.
package servicebus

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/local/servicebus/queue"
)

// Limits of a Standard namespace.
const (
	maxMessageSize   = 256 << 10
	maxPropertyBytes = 64 << 10 // of all properties of a message
	maxPropertySize  = 32 << 10 // of one
	maxIDLength      = 128      // characters of a message or session id
	maxNameLength    = 260      // of a queue
	maxLockDuration  = 5 * time.Minute
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
}

// Rule is a shared access key with its rights.
type Rule struct {
	Name, Key            string
	Send, Listen, Manage bool
	// Entities narrows the rule to queues, by name: what is not here is refused.
	// nil = all queues with the rights above.
	Entities map[string]Right
}

// Right is what a narrowed rule may do with one queue.
type Right struct{ Send, Listen bool }

// may reports whether the rule allows it on an entity.
func (r Rule) may(entity string, send, listen bool) bool {
	entity, _, _ = strings.Cut(strings.ToLower(entity), "/")
	if r.Entities != nil {
		right := r.Entities[entity]
		return (!send || right.Send) && (!listen || right.Listen)
	}
	return r.Manage || (!send || r.Send) && (!listen || r.Listen)
}

// Config says where the server listens, where it stores, and what it has.
type Config struct {
	Addr   string // loopback host:port; port 0 = any free one
	Path   string // store file
	Queues []QueueConfig
	Rules  []Rule
	Log    *slog.Logger     // nil = discard
	Now    func() time.Time // nil = the clock
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
	rules    map[string]Rule
	now      func() time.Time
	log      *slog.Logger

	sent, delivered, settled atomic.Int64

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// Start opens the store and listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address; the local Service Bus serves this machine only", cfg.Addr)
	}
	s := &Server{cfg: cfg, rules: map[string]Rule{}, now: cfg.Now, log: cfg.Log, conns: map[*conn]struct{}{}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, r := range cfg.Rules {
		s.rules[r.Name] = r
	}
	queues, err := options(cfg.Queues)
	if err != nil {
		return nil, err
	}
	s.broker, err = queue.Open(queue.Config{Path: cfg.Path, Queues: queues, Now: s.now, Mark: mark, Warn: func(name string, err error) {
		s.log.Error("a queue could not store what it decided itself; it tries again", "queue", name, "error", err)
	}})
	if err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		s.broker.Close()
		return nil, err
	}
	s.wg.Go(s.accept)
	return s, nil
}

// options checks the queues and fills in what they do not say.
func options(queues []QueueConfig) (map[string]queue.Options, error) {
	defs, seen := map[string]queue.Options{}, map[string]bool{}
	for _, q := range queues {
		o := queue.Options{Sessions: q.RequiresSession, LockDuration: q.LockDuration, MaxDeliveryCount: uint32(max(q.MaxDeliveryCount, 0)),
			DefaultTTL: q.DefaultTTL, DeadLetterExpired: q.DeadLetterExpired}
		if o.LockDuration == 0 {
			o.LockDuration = defaultLock
		}
		if o.MaxDeliveryCount == 0 {
			o.MaxDeliveryCount = defaultMaxDeliveries
		}
		lower := strings.ToLower(q.Name)
		switch {
		case q.Name == "" || len(q.Name) > maxNameLength || strings.ContainsAny(q.Name, "$\\?#@") || strings.Trim(q.Name, "/") != q.Name:
			return nil, fmt.Errorf("%q is no name for a queue: it has 1 to %d characters, none of $\\?#@, and no slash at its ends", q.Name, maxNameLength)
		case seen[lower]:
			return nil, fmt.Errorf("queue %s is there twice; names differ by more than case", q.Name)
		case o.LockDuration < 0 || o.LockDuration > maxLockDuration:
			return nil, fmt.Errorf("queue %s: a lock lasts up to %s, not %s", q.Name, maxLockDuration, q.LockDuration)
		case q.MaxDeliveryCount < 0 || q.DefaultTTL < 0:
			return nil, fmt.Errorf("queue %s: neither MaxDeliveryCount nor DefaultTTL is negative", q.Name)
		}
		seen[lower] = true
		defs[q.Name] = o
	}
	return defs, nil
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		conn := newConn(s, c)
		s.conns[conn] = struct{}{}
		s.wg.Go(func() {
			conn.serve()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
		s.mu.Unlock()
	}
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// ConnectionString is what a client with the rule's key needs. It holds the
// key; it is not to be logged.
func (s *Server) ConnectionString(rule string) string {
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s;UseDevelopmentEmulator=true", s.Addr(), rule, s.rules[rule].Key)
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
	for c := range s.conns {
		c.net.Close()
	}
	s.mu.Unlock()
	s.listener.Close()
	s.wg.Wait()
	return s.broker.Close()
}
