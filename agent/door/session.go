//go:build unix

package door

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/shared/relay"
)

// dialTime bounds connecting to a socket of this machine.
const dialTime = 5 * time.Second

// mostOf is how many connections, and requests of browsers, a session has at a time.
const mostOf = 200

// session is the door of one session.
type session struct {
	file    atomic.Pointer[File]
	stop    context.CancelFunc
	done    sync.WaitGroup
	log     *slog.Logger
	written State

	ssh, jupyter atomic.Int64
	relayed      atomic.Int64
	lastInput    atomic.Int64 // milliseconds since 1970; 0 = never

	mu            sync.Mutex
	closed, noWeb string // why nobody gets in by SSH, and by a browser
}

// begin opens the door of a session.
func begin(ctx context.Context, f File, key []byte, log *slog.Logger) *session {
	ctx, stop := context.WithCancel(ctx)
	s := &session{stop: stop, log: log}
	s.file.Store(&f)
	if f.URL == "" {
		s.closed = "the node has no place at the relay"
		return s
	}
	s.closed = "the door is being opened"
	s.run(ctx, &relay.Listener{
		Address: f.URL, Token: func() string { return s.file.Load().Token }, Most: mostOf, Log: log,
		Socket: s.takeSSH,
		State:  func(err error) { s.say(&s.closed, err) },
	})
	if f.WebURL != "" {
		web := newWeb(s, key)
		s.run(ctx, &relay.Listener{
			Address: f.WebURL, Token: func() string { return s.file.Load().WebToken }, Most: mostOf, Log: log,
			Socket: web.takeSocket, Request: web,
			State: func(err error) { s.say(&s.noWeb, err) },
		})
	}
	return s
}

func (s *session) run(ctx context.Context, l *relay.Listener) {
	s.done.Go(func() {
		if err := l.Run(ctx); err != nil {
			l.State(err)
		}
	})
}

// end closes the door, and what came through it.
func (s *session) end() {
	s.stop()
	s.done.Wait()
}

func (s *session) say(where *string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *where = ""; err != nil {
		*where = err.Error()
	}
}

func (s *session) state() State {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	state := State{SSH: int(s.ssh.Load()), Jupyter: int(s.jupyter.Load()), Relayed: s.relayed.Load(), Closed: closed}
	if at := s.lastInput.Load(); at > 0 {
		state.LastInput = time.UnixMilli(at).UTC()
	}
	return state
}

// input notes that somebody does something at a browser.
func (s *session) input() { s.lastInput.Store(time.Now().UnixMilli()) }

func (s *session) count(n int) { s.relayed.Add(int64(n)) }

// takeSSH joins who comes for SSH with the sshd of the session. All else is rejected before
// anything is connected to.
func (s *session) takeSSH(ctx context.Context, in *relay.Incoming) {
	if in.Suffix != relay.SSH || in.Query != "" {
		_ = in.Reject(ctx, http.StatusForbidden, "only SSH is here")
		return
	}
	network, address, err := target(s.file.Load().SSH)
	if err != nil {
		_ = in.Reject(ctx, http.StatusServiceUnavailable, "the session has no SSH server")
		return
	}
	server, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, network, address)
	if err != nil {
		s.log.Warn("the session's SSH server does not answer", "session", s.file.Load().Session, "error", err)
		_ = in.Reject(ctx, http.StatusServiceUnavailable, "the session's SSH server does not answer")
		return
	}
	defer server.Close()
	client, err := in.AcceptStream(ctx)
	if err != nil {
		return
	}
	s.ssh.Add(1)
	defer s.ssh.Add(-1)
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.copy(client, server)
		client.Close() // after all that the server has said
	}()
	s.copy(server, client)
	server.Close()
	<-done
}

// chunk is how much of a stream is in memory at a time.
const chunk = 32 << 10

// copy copies a stream to its end.
func (s *session) copy(to io.Writer, from io.Reader) {
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			s.count(n)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
