//go:build unix

// Package entrance is an SSH server that leads people into what runs on a node already: an attempt
// of a job, or the node as a whole. Who comes shows a certificate that is good for one such thing, and gets a shell, a
// command, or a connection to a port there, as the user of what runs there. It has no password, no
// account and no key of anybody.
//
// It starts no process and opens no port by itself: an Inside does, which knows whose they are and
// ends them. It decides nothing about who gets a certificate.
package entrance

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/intake"
)

// Bounds of the server.
const (
	mostConnections = 64 // of all people together
	mostSilent      = 64 // that have shown no certificate yet
	mostChannels    = 32 // of one connection
	signInTime      = 30 * time.Second
	// A laptop that sleeps says nothing, and its connection would keep the door open.
	askEvery    = 30 * time.Second
	answerTime  = 60 * time.Second
	goodbyeTime = 5 * time.Second // after the end of what runs there, for what is still to be read
)

// Inside is what people come in to.
type Inside interface {
	// Start starts a program there. The files are the program's standard input, output and error,
	// and stay the caller's. The error is a sentence for the person.
	Start(Command) (Process, error)
	// Dial connects to a port of the loopback address, as who runs there would.
	Dial(port int) (net.Conn, error)
	// Ended is closed when nothing runs there any more.
	Ended() <-chan struct{}
}

// Command is a program to start.
type Command struct {
	Line  string   // for a shell; "" = the shell itself
	Env   []string // beside what is there, as NAME=VALUE
	TTY   bool     // the files are a terminal, which becomes the program's own
	Files [3]*os.File
}

// Process is a program that runs.
type Process interface {
	// Wait returns the exit code, 128 and the signal's number for one that a signal has ended.
	Wait() int
	// Signal signals it and what it has started in its process group.
	Signal(syscall.Signal)
}

// Entry is how people come in to one thing that runs.
type Entry struct {
	CAs    []ssh.PublicKey // that sign certificates
	Inside Inside
	Over   string // what terminals are told when Inside has ended, such as "the job has ended"
	// Leave is called when a connection that has shown its certificate ends.
	Leave func()
}

// Server lets people in.
type Server struct {
	HostKey ssh.Signer
	// Find finds what a certificate is for, by its one principal; false: there is no such thing, or
	// nobody may come in now. Enter does the same for one who has come, and counts the connection.
	Find, Enter func(id string) (Entry, bool)
	Log         *slog.Logger

	once   sync.Once
	config *ssh.ServerConfig
	silent *intake.Silent
	places chan struct{}
}

// Serve serves the connections of a listener until that is closed.
func (s *Server) Serve(l net.Listener) {
	s.once.Do(s.prepare)
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Second) // such as: too many open files
			continue
		}
		go s.serve(c)
	}
}

// Extensions of a connection's permissions.
const (
	extensionEntry = "entry"
	extensionWho   = "who"
)

func (s *Server) prepare() {
	s.silent = intake.NewSilent(mostSilent)
	s.places = make(chan struct{}, mostConnections)
	s.config = &ssh.ServerConfig{ServerVersion: "SSH-2.0-dsvm", PublicKeyCallback: s.check}
	s.config.AddHostKey(s.HostKey)
}

var errNotLetIn = errors.New("the certificate lets nobody in here")

// check reports whether a key lets somebody in: a certificate for one thing that is there, by an
// authority of that thing.
func (s *Server) check(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	cert, isCert := key.(*ssh.Certificate)
	if !isCert || cert.CertType != ssh.UserCert || len(cert.ValidPrincipals) != 1 {
		return nil, errNotLetIn
	}
	id := cert.ValidPrincipals[0]
	entry, isThere := s.Find(id)
	if !isThere || !signed(cert, entry.CAs) {
		return nil, errNotLetIn
	}
	if err := (&ssh.CertChecker{}).CheckCert(id, cert); err != nil {
		return nil, err
	}
	return &ssh.Permissions{Extensions: map[string]string{extensionEntry: id, extensionWho: cert.KeyId}}, nil
}

// signed reports whether one of these keys has signed a certificate. Whether the signature is good is
// for CheckCert.
func signed(cert *ssh.Certificate, by []ssh.PublicKey) bool {
	for _, key := range by {
		if bytes.Equal(key.Marshal(), cert.SignatureKey.Marshal()) {
			return true
		}
	}
	return false
}

// serve serves one connection to its end.
func (s *Server) serve(c net.Conn) {
	defer c.Close()
	heard := s.silent.Add(c)
	defer heard()
	_ = c.SetDeadline(time.Now().Add(signInTime))
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return // whoever comes without a certificate could fill the log
	}
	defer conn.Close()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
		heard()
	default:
		sendAway(channels, requests)
		return
	}
	_ = c.SetDeadline(time.Time{})
	id, who := conn.Permissions.Extensions[extensionEntry], conn.Permissions.Extensions[extensionWho]
	entry, isThere := s.Enter(id)
	if !isThere {
		return
	}
	defer entry.Leave()
	s.Log.Info("somebody comes in", "who", who, "entry", id)
	defer s.Log.Info("somebody has left", "who", who, "entry", id)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go refuseRequests(requests)
	go keepAlive(ctx, conn)
	v := &visitor{inside: entry.Inside, over: entry.Over, log: s.Log.With("who", who, "entry", id), conn: conn}
	go v.leaveAtTheEnd(ctx)
	v.serve(channels)
}

// sendAway tells somebody that too many are here, by the answers to all that is asked for, until the
// other end leaves or the time to sign in is over.
func sendAway(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	go refuseRequests(requests)
	for c := range channels {
		_ = c.Reject(ssh.ResourceShortage, "too many people are on this node; try again when some have left")
	}
}

// visitor is one connection.
type visitor struct {
	inside Inside
	over   string // see Entry
	log    *slog.Logger
	conn   *ssh.ServerConn

	mu       sync.Mutex
	channels int
	sessions sync.WaitGroup
}

// serve serves the channels of a connection, and returns when it has ended with all of them.
func (v *visitor) serve(channels <-chan ssh.NewChannel) {
	var all sync.WaitGroup
	defer all.Wait()
	for c := range channels {
		v.mu.Lock()
		isFull := v.channels >= mostChannels
		if !isFull {
			v.channels++
		}
		v.mu.Unlock()
		if isFull {
			_ = c.Reject(ssh.ResourceShortage, "there are too many of them at once")
			continue
		}
		var serve func(ssh.NewChannel)
		switch c.ChannelType() {
		case "session":
			serve = v.serveSession
		case "direct-tcpip":
			serve = v.serveForward
		default:
			serve = func(c ssh.NewChannel) { _ = c.Reject(ssh.UnknownChannelType, "only programs and ports are here") }
		}
		all.Go(func() {
			defer func() {
				v.mu.Lock()
				v.channels--
				v.mu.Unlock()
			}()
			serve(c)
		})
	}
}

// leaveAtTheEnd ends the connection some time after nothing runs there any more: the ends of
// programs are told before.
func (v *visitor) leaveAtTheEnd(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-v.inside.Ended():
	}
	told := make(chan struct{})
	go func() {
		v.sessions.Wait()
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(goodbyeTime):
	case <-ctx.Done():
	}
	v.conn.Close()
}

// hasEnded reports whether nothing runs there any more.
func (v *visitor) hasEnded() bool {
	select {
	case <-v.inside.Ended():
		return true
	default:
		return false
	}
}

// refuseRequests answers what is asked of the server as a whole: nothing of it is here, such as
// ports of the node that lead to the person.
func refuseRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
}

// keepAlive ends a connection whose other end does not answer any more.
func keepAlive(ctx context.Context, conn ssh.Conn) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		late := time.AfterFunc(answerTime, func() { conn.Close() })
		_, _, err := conn.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			conn.Close()
			return
		}
	}
}
