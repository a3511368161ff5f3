// Package relay is Azure Relay Hybrid Connections on one machine: listeners and senders both
// connect to it, by WebSockets and by HTTP, and it joins them. Microsoft's own hyco-ws and
// hyco-https speak to it as they do to the cloud; `.ci/run` has them judge it.
//
// It has what the protocol guide describes: the control channel of a listener, with its
// token renewed; accept and reject by an address that is used once and within 30 s; requests
// of HTTP, on the control channel up to 64 KB and otherwise by such an address, answered
// within 60 s; entities for senders without a token; up to 25 listeners of an entity. Frames
// stay what they are, and what a slow reader has not read is not held here.
//
// Entities come by the configuration or by the resource manager's calls (Manager) and last.
// It has no WCF relays, no IP rules, and no rules of single entities over the resource manager.
//
// Source: https://learn.microsoft.com/azure/azure-relay/relay-hybrid-connections-protocol.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/internal/tlsport"
	"dsvmpools/shared/door"
)

// Limits of the service, from its protocol guide and its page of quotas.
const (
	maxListeners   = 25       // of an entity
	maxConnections = 5000     // of a namespace
	maxEntities    = 10_000   // of a namespace
	maxOnControl   = 64 << 10 // bytes of a body on the control channel
	acceptTime     = 30 * time.Second
	requestTime    = 60 * time.Second // for the answer to a request, and between two parts of it
)

// Limits of this server.
const (
	maxHeader  = 32 << 10 // of a request's header
	maxMessage = 64 << 10 // of a message of the protocol: with all headers of a request
	headerTime = 10 * time.Second
	idleTime   = time.Minute
	sendTime   = 10 * time.Second // for a message on a control channel
)

// Rule is a shared access key with its rights.
type Rule struct {
	Name, Key            string
	Listen, Send, Manage bool
}

// Entity is a hybrid connection.
type Entity struct {
	Name string // [a-z0-9-], compared without regard to case
	// Anonymous takes senders without a token: requiresClientAuthorization is false.
	Anonymous bool
	// Rules are those of this entity alone.
	Rules []Rule
}

// Config says where the server listens and what it has.
type Config struct {
	Addr     string // loopback host:port; port 0 = any free one
	Path     string // file of the entities that were made while it ran; "" = they end with it
	Rules    []Rule // of the namespace
	Entities []Entity
	TLS      *tls.Config // for clients that begin with TLS; nil = plain alone
	Log      *slog.Logger
	Now      func() time.Time // nil = the clock
	// Chaos holds the failures to inject, by entity, at listen, accept, connect and request:
	// refuse, throttle, delay and disconnect; and at control, for each message to a listener,
	// detach (the channel ends) and stick (it is forgotten, and its client does not learn so).
	Chaos *chaos.Set

	times times // zero = the service's
}

// times are those of the service; tests make them short.
type times struct{ accept, request, header time.Duration }

// Server is a running namespace.
type Server struct {
	cfg      Config
	listener net.Listener
	web      *http.Server
	now      func() time.Time
	log      *slog.Logger
	times    times
	ctx      context.Context // ends with the server
	stop     context.CancelFunc
	open     atomic.Int64 // connections and requests
	joined   atomic.Int64 // bytes that were carried

	mu       sync.Mutex
	entities map[string]*entity
	waiting  map[string]*waiting // by the secret of its address
}

// Start listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if !door.IsLoopback(host) {
		return nil, fmt.Errorf("%s is not a loopback address; the local relay serves this machine only", cfg.Addr)
	}
	s := &Server{
		cfg: cfg, now: cfg.Now, log: cfg.Log, times: cfg.times,
		entities: map[string]*entity{}, waiting: map[string]*waiting{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.times == (times{}) {
		s.times = times{accept: acceptTime, request: requestTime, header: headerTime}
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.web = &http.Server{
		// A person's browser comes from a page of the API or by a link.
		Handler:           door.Door{Pages: true}.Guard(s, false),
		ReadHeaderTimeout: s.times.header,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() {
		err := s.web.Serve(tlsport.Listen(s.listener, cfg.TLS))
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("serving the relay failed", "error", err)
		}
	}()
	return s, nil
}

// Close ends all connections.
func (s *Server) Close() error {
	s.stop()
	return s.web.Close()
}

// Addr is the address at which the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Carried is how many bytes connections have carried, both ways.
func (s *Server) Carried() int64 { return s.joined.Load() }

// socketPath is what the paths of WebSockets begin with.
const socketPath = "/$hc/"

// ServeHTTP takes listeners, senders and requests.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.open.Add(1) > maxConnections {
		s.open.Add(-1)
		refuse(w, http.StatusServiceUnavailable, "the namespace has as many connections as it may have")
		return
	}
	defer s.open.Add(-1)
	rest, isSocket := strings.CutPrefix(r.URL.Path, socketPath)
	if !isSocket {
		s.request(w, r)
		return
	}
	e := s.find(rest)
	if e == nil {
		refuse(w, http.StatusNotFound, "EntityNotFound: there is no hybrid connection of this name")
		return
	}
	switch r.URL.Query().Get("sb-hc-action") {
	case "listen":
		s.listen(w, r, e)
	case "connect", "": // a browser may leave it out
		s.connect(w, r, e)
	case "accept", "request":
		s.meet(w, r)
	default:
		refuse(w, http.StatusBadRequest, "sb-hc-action is listen or connect")
	}
}

// refuse answers with an error of the service: without Via, which says that a listener has
// answered.
func refuse(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, reason)
}
