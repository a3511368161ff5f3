package door

import (
	"context"
	"errors"
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

// session is what people of one session come to.
type session struct {
	file    atomic.Pointer[File]
	web     *web
	log     *slog.Logger
	written State

	ssh, desktop, jupyter atomic.Int64
	relayed               atomic.Int64
	lastInput             atomic.Int64 // milliseconds since 1970; 0 = never
	lastWatch             atomic.Int64 // of a page's script, in the same way
	words                 atomic.Pointer[notice]

	mu     sync.Mutex
	ended  bool
	inside int // connections and requests
	over   context.Context
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func newSession(f File, key []byte, log *slog.Logger) *session {
	s := &session{log: log}
	s.over, s.stop = context.WithCancel(context.Background())
	s.file.Store(&f)
	s.web = newWeb(s, key)
	return s
}

// enter lets one connection or request in. Its context ends with the session, too; leave is
// to be called at its end. The error is a sentence for who comes.
func (s *session) enter(ctx context.Context) (inside context.Context, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return ctx, nil, errors.New("the session has ended")
	case s.inside >= mostOf:
		return ctx, nil, errors.New("the session has too many connections; close some")
	}
	s.inside++
	s.done.Add(1)
	inside, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.over, cancel)
	return inside, func() {
		stop()
		cancel()
		s.mu.Lock()
		s.inside--
		s.mu.Unlock()
		s.done.Done()
	}, nil
}

// end ends what came to the session.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.stop()
	s.done.Wait()
}

// state is what is told of the session. closed is why nobody can come in.
func (s *session) state(closed string) State {
	state := State{
		SSH: int(s.ssh.Load()), Desktop: int(s.desktop.Load()), Jupyter: int(s.jupyter.Load()),
		Relayed: s.relayed.Load(), Closed: closed,
	}
	if at := s.lastInput.Load(); at > 0 {
		state.LastInput = time.UnixMilli(at).UTC()
	}
	return state
}

// input notes that somebody does something at a browser.
func (s *session) input() { s.lastInput.Store(time.Now().UnixMilli()) }

// watch notes that a page's script watches.
func (s *session) watch() { s.lastWatch.Store(time.Now().UnixMilli()) }

func (s *session) isWatched() bool {
	return time.Since(time.UnixMilli(s.lastWatch.Load())) < watchedFor
}

// takeLastWords takes in why the session ends, if a browser would read it: what has the words is
// removed soon.
func (s *session) takeLastWords() {
	if n, err := readNotice(s.file.Load().Notice); err == nil && n.Ended && s.isWatched() {
		s.words.Store(&n)
	}
}

// lastWords is why the session has ended; nil = it has not, or nobody would read it.
func (s *session) lastWords() *notice { return s.words.Load() }

func (s *session) count(n int) { s.relayed.Add(int64(n)) }

// takeSSH joins who comes by the relay for SSH with the sshd of the session.
func (s *session) takeSSH(ctx context.Context, in *relay.Incoming) {
	server, err := s.dialSSH(ctx)
	if err != nil {
		_ = in.Reject(ctx, http.StatusServiceUnavailable, err.Error())
		return
	}
	s.lead(ctx, in, server, &s.ssh)
}

// lead accepts who comes, and joins it with a server of the node.
func (s *session) lead(ctx context.Context, in *relay.Incoming, server net.Conn, inside *atomic.Int64) {
	defer server.Close()
	client, err := in.AcceptStream(ctx)
	if err != nil {
		return
	}
	inside.Add(1)
	defer inside.Add(-1)
	join(ctx, client, server, s.copy)
}

// dialSSH connects to the session's sshd. The error is a sentence for who comes.
func (s *session) dialSSH(ctx context.Context) (net.Conn, error) {
	network, address, err := target(s.file.Load().SSH)
	if err != nil {
		return nil, errors.New("the session has no SSH server")
	}
	server, err := dial(ctx, network, address)
	if err != nil {
		s.log.Warn("the session's SSH server does not answer", "session", s.file.Load().Session, "error", err)
		return nil, errors.New("the session's SSH server does not answer")
	}
	return server, nil
}

// join copies bytes both ways until the server has closed its side, or ctx ends.
func join(ctx context.Context, client, server net.Conn, copyAll func(to io.Writer, from io.Reader)) {
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyAll(client, server)
		client.Close() // after all that the server has said
	}()
	copyAll(server, client)
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
