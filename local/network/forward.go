package network

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dialWithin bounds how long a backend may take to answer before the next one is tried.
const dialWithin = 2 * time.Second

// forward is a balancer at work: it listens, and leads each connection to a backend.
type forward struct {
	at       string // where it listens, HOST:PORT
	listener net.Listener
	log      *slog.Logger

	mu    sync.Mutex
	to    []string // HOST:PORT
	conns map[net.Conn]bool
}

// forwardAll has each balancer that is there listen, and no other. The Server's mutex is held.
func (s *Server) forwardAll() {
	wanted := map[string]bool{}
	for key, r := range s.all {
		if !strings.HasPrefix(key, strings.ToLower(kindBalancer)+"/") || r.Leaves {
			continue
		}
		at, to := s.leads(r)
		if at == "" {
			continue
		}
		f := s.forwards[key]
		if f != nil && f.at != at {
			f.close()
			f = nil
		}
		if f == nil {
			l, err := net.Listen("tcp", at)
			if err != nil {
				s.cfg.Log.Error("balancer cannot listen", "balancer", r.Name, "address", at, "error", err)
				continue
			}
			f = &forward{at: at, listener: l, log: s.cfg.Log, conns: map[net.Conn]bool{}}
			s.forwards[key] = f
			go f.serve()
		}
		f.mu.Lock()
		f.to = to
		f.mu.Unlock()
		wanted[key] = true
	}
	for key, f := range s.forwards {
		if !wanted[key] {
			f.close()
			delete(s.forwards, key)
		}
	}
}

// leads says where a balancer listens, and where it leads to; at "": nowhere yet.
func (s *Server) leads(r *resource) (at string, to []string) {
	var p balancerProperties
	if err := r.properties(&p); err != nil || len(p.Rules) == 0 || len(p.Backends) == 0 {
		return "", nil
	}
	address := s.all[keyOf(kindAddress, path.Base(p.frontAddress()))]
	if address == nil {
		return "", nil
	}
	var ip addressProperties
	if err := address.properties(&ip); err != nil {
		return "", nil
	}
	rule := p.Rules[0].Properties
	for _, b := range p.Backends[0].Properties.Addresses {
		to = append(to, net.JoinHostPort(b.Properties.IP, strconv.Itoa(rule.BackendPort)))
	}
	return net.JoinHostPort(ip.IP, strconv.Itoa(rule.FrontPort)), to
}

func (f *forward) serve() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		go f.join(c)
	}
}

// join leads a connection to a backend that answers, by chance.
func (f *forward) join(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	to := append([]string(nil), f.to...)
	f.mu.Unlock()
	rand.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
	for _, address := range to {
		node, err := net.DialTimeout("tcp", address, dialWithin)
		if err != nil {
			f.log.Debug("backend does not answer", "backend", address, "error", err)
			continue
		}
		defer node.Close()
		if !f.keep(c) || !f.keep(node) {
			return
		}
		defer f.forget(c, node)
		done := make(chan struct{}, 2)
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			if t, ok := to.(*net.TCPConn); ok {
				_ = t.CloseWrite()
			}
			done <- struct{}{}
		}
		go pass(node, c)
		pass(c, node)
		<-done
		<-done
		return
	}
}

// keep notes a connection, unless the balancer is gone.
func (f *forward) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		return false
	}
	f.conns[c] = true
	return true
}

func (f *forward) forget(conns ...net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		delete(f.conns, c)
	}
}

// close ends the balancer and its connections.
func (f *forward) close() {
	f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
	f.conns = nil
}
