// Package tlsport has the local servers speak plain HTTP and TLS on one port, as the client
// begins: the SDKs of most languages send their tokens by https only, and the clients of this
// project need no certificate. It also makes the certificate of an instance, which signs
// itself.
//
// It decides nothing about who may connect.
package tlsport

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// handshakeStart is the first byte that a client with TLS sends. No method of HTTP begins
// with it.
const handshakeStart = 0x16

// Times of a connection.
const (
	greetTimeout = 10 * time.Second      // before its first byte
	retryAccept  = 50 * time.Millisecond // after the process had too many files open
)

// Config returns the configuration of a server with the certificate. It names no protocols,
// so that HTTP is HTTP/1.1, as without TLS.
func Config(certificate tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
}

// Scheme returns the scheme by which a request came: links in its answer begin with it.
func Scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// Listen returns a listener that looks at the first byte of every connection of l. A
// connection that begins TLS comes out as a *tls.Conn, which has not shaken hands yet; any
// other comes out as it is. cfg nil = no TLS, and l itself is returned. Close also ends the
// connections that have not sent a byte.
func Listen(l net.Listener, cfg *tls.Config) net.Listener {
	if cfg == nil {
		return l
	}
	s := &listener{Listener: l, cfg: cfg, ready: make(chan net.Conn), closed: make(chan struct{}), silent: map[net.Conn]struct{}{}}
	go s.accept()
	return s
}

type listener struct {
	net.Listener
	cfg    *tls.Config
	ready  chan net.Conn
	closed chan struct{} // closed when the listener accepts no more
	err    error         // why; set before closed is closed

	mu     sync.Mutex
	silent map[net.Conn]struct{} // connections whose first byte has not come; nil after the end
}

// Accept returns the next connection whose first byte has come.
func (s *listener) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.closed:
		return nil, s.err
	}
}

func (s *listener) accept() {
	for {
		c, err := s.Listener.Accept()
		if passes, ok := err.(interface{ Temporary() bool }); ok && passes.Temporary() {
			time.Sleep(retryAccept)
			continue
		}
		if err != nil {
			s.end(err)
			return
		}
		if s.add(c) {
			go s.hand(c)
		}
	}
}

// end has Accept return the error, and ends the silent connections.
func (s *listener) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.silent {
		c.Close()
	}
	s.silent, s.err = nil, err
	close(s.closed)
}

// add records a silent connection; after the end it closes it and returns false.
func (s *listener) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent == nil {
		c.Close()
		return false
	}
	s.silent[c] = struct{}{}
	return true
}

func (s *listener) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.silent, c)
}

// hand waits for the first byte of a connection and hands it over to Accept.
func (s *listener) hand(c net.Conn) {
	defer s.remove(c)
	_ = c.SetReadDeadline(time.Now().Add(greetTimeout))
	p := &peeked{Conn: c, in: bufio.NewReader(c)}
	first, err := p.in.Peek(1)
	if err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	var out net.Conn = p
	if first[0] == handshakeStart {
		out = tls.Server(p, s.cfg)
	}
	select {
	case s.ready <- out:
	case <-s.closed:
		c.Close()
	}
}

// peeked is a connection whose first bytes are in a buffer.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }
