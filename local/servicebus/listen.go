package servicebus

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/servicebus/admin"
	"dsvmpools/shared/door"
)

// bounds are what connections may do and how long they may take.
type bounds struct {
	connections int           // of a namespace at a time, AMQP and HTTP
	links       int           // of a connection
	greet       time.Duration // from the first byte to what the client speaks; for an HTTP request's header
	handshake   time.Duration // from the first byte to open
	noLink      time.Duration // from open to the first link
	idleLink    time.Duration // without any link, later
}

// usual are the bounds; those that the service has are its own.
var usual = bounds{
	connections: 5000,
	links:       5000,
	greet:       10 * time.Second,
	handshake:   30 * time.Second,
	noLink:      time.Minute,
	idleLink:    5 * time.Minute,
}

// Bounds of HTTP.
const (
	maxHeader = 32 << 10 // of a request
	httpIdle  = time.Minute
)

// amqpStart is what every AMQP connection begins with; all else is HTTP, or TLS, which
// begins with the byte of a handshake.
const (
	amqpStart = "AMQP"
	tlsStart  = 0x16
)

// webSocketPath is where AMQP is spoken over a WebSocket.
const webSocketPath = "/$servicebus/websocket"

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed || len(s.open) >= s.bounds.connections {
			closed := s.closed
			s.mu.Unlock()
			c.Close()
			if closed {
				return
			}
			continue
		}
		s.open[c] = struct{}{}
		s.wg.Go(func() { s.welcome(c) })
		s.mu.Unlock()
	}
}

// forget removes a connection that has ended.
func (s *Server) forget(c net.Conn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

// welcome finds out what a client speaks: AMQP, or HTTP for the administration
// and for WebSockets, all on one port, with TLS if the client begins it
// and the server has a certificate.
func (s *Server) welcome(raw net.Conn) {
	raw.SetDeadline(time.Now().Add(s.bounds.greet))
	c := raw
	in := bufio.NewReaderSize(c, maxFrame)
	start, err := in.Peek(1)
	if err == nil && s.cfg.TLS != nil && start[0] == tlsStart {
		c = tls.Server(&peekedConn{Conn: raw, raw: raw, in: in, closed: func() {}}, s.cfg.TLS)
		in = bufio.NewReaderSize(c, maxFrame)
	}
	if err == nil {
		start, err = in.Peek(len(amqpStart))
	}
	if err != nil {
		c.Close()
		s.forget(raw)
		return
	}
	peeked := &peekedConn{Conn: c, raw: raw, in: in, closed: func() { s.forget(raw) }}
	if string(start) == amqpStart {
		s.serveAMQP(peeked)
		return
	}
	c.SetDeadline(time.Time{})
	select {
	case s.web.conns <- peeked:
	case <-s.web.done:
		peeked.Close()
	}
}

// serveAMQP runs an AMQP connection to its end.
func (s *Server) serveAMQP(c net.Conn) {
	newConn(s, c).serve()
}

// peekedConn is a connection whose first bytes were looked at.
type peekedConn struct {
	net.Conn
	raw    net.Conn // below TLS; without TLS the same
	in     *bufio.Reader
	once   sync.Once
	closed func()
}

func (p *peekedConn) Read(b []byte) (int, error) { return p.in.Read(b) }

func (p *peekedConn) Close() error {
	p.once.Do(p.closed)
	return p.Conn.Close()
}

// handed is a listener for connections that were accepted elsewhere.
type handed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.addr }

// serveWeb answers HTTP: the administration, and WebSockets.
func (s *Server) serveWeb() *http.Server {
	administration := admin.Handler(namespace{s})
	web := &http.Server{
		ReadHeaderTimeout: s.bounds.greet,
		ReadTimeout:       3 * s.bounds.greet,
		WriteTimeout:      3 * s.bounds.greet,
		IdleTimeout:       httpIdle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0),
		Handler: door.Door{}.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.EqualFold(strings.TrimSuffix(r.URL.Path, "/"), webSocketPath) {
				s.upgrade(w, r)
				return
			}
			administration.ServeHTTP(w, r)
		}), true),
	}
	s.wg.Go(func() {
		if err := web.Serve(s.web); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("serving the administration failed", "error", err)
		}
	})
	return web
}
