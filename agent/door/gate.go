package door

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/way"
)

// Limits of who comes by TCP.
const (
	lineTime   = 10 * time.Second // from the connection to the end of its line
	mostSilent = 200              // connections that have not said their line yet
	// keepAlive is how often a peer that says nothing is asked whether it is there: a balancer
	// in between forgets a connection after 4 minutes without a byte.
	keepAlive = 30 * time.Second
)

// gate is where the node listens by TCP for its sessions, and for those of other nodes: who
// comes by a balancer may have been led to the wrong one, and is passed on. It knows no peers:
// the way names the address, and the app has signed it.
type gate struct {
	log   *slog.Logger
	line  time.Duration   // lineTime, shorter in tests
	over  context.Context // of all connections
	stop  context.CancelFunc
	conns sync.WaitGroup
	certs *certificates
	web   *gateWeb

	silent *intake.Silent // connections that have not said their line yet

	mu       sync.Mutex
	guests   map[string]*session // by id
	address  string              // as the files name it; "" = it does not listen
	inside   string
	listener net.Listener
	closed   string         // why it does not listen; "" = it does
	joined   int            // connections that have said a good line
	passing  map[string]int // of these, the ones that are passed on, by session
}

// newGate makes a gate that does not listen yet. dir is the folder of the door's own files.
func newGate(dir string, log *slog.Logger) *gate {
	g := &gate{
		log:     log,
		line:    lineTime,
		certs:   &certificates{own: filepath.Join(dir, "certificate.pem")},
		guests:  map[string]*session{},
		passing: map[string]int{},
		silent:  intake.NewSilent(mostSilent),
	}
	g.over, g.stop = context.WithCancel(context.Background())
	g.web = newGateWeb(g, g.certs)
	return g
}

// take lets a session in, where its file says that the door listens.
func (g *gate) take(s *session) {
	f := s.file.Load()
	if f.Listen == "" {
		g.remove(s)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guests[f.Session] = s
	if f.WebBase != "" {
		g.certs.use(f.Certificate)
		g.web.here.take(s, "")
	}
	g.listen(f.Listen, f.Inside)
}

// remove takes a session away. After the last one the gate does not listen; who was passed on
// goes on.
func (g *gate) remove(s *session) {
	g.web.here.remove(s)
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, guest := range g.guests {
		if guest == s {
			delete(g.guests, id)
		}
	}
	if len(g.guests) == 0 {
		g.listen("", "")
	}
}

// listen has the gate listen at an address, and nowhere else; "" = not at all. What has come in
// already goes on. mu is held.
func (g *gate) listen(address, inside string) {
	g.inside = inside
	if address == g.address && (address == "" || g.listener != nil) {
		return
	}
	if g.listener != nil {
		g.listener.Close()
	}
	before := g.closed
	g.address, g.closed, g.listener = address, "", nil
	if address == "" {
		return
	}
	config := net.ListenConfig{KeepAlive: keepAlive}
	l, err := config.Listen(g.over, "tcp", address)
	if err != nil {
		g.closed = fmt.Sprintf("the door of the node cannot listen at %s; free the port, or set DSVM_DOOR_LISTEN to another", address)
		if g.closed != before {
			g.log.Warn("listening by TCP has failed; trying again", "error", err)
		}
		return
	}
	g.listener = l
	g.conns.Go(func() { g.acceptAll(l) })
}

// whyClosed says why nobody comes in; "" = the gate listens.
func (g *gate) whyClosed() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// isPassing reports whether connections are passed on to other nodes.
func (g *gate) isPassing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.passing) > 0
}

// close ends all that has come in.
func (g *gate) close() {
	g.mu.Lock()
	g.listen("", "")
	g.mu.Unlock()
	g.stop()
	g.web.close()
	g.conns.Wait()
}

func (g *gate) acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no more files, for a moment
			select {
			case <-time.After(dialTime / 10):
			case <-g.over.Done():
				return
			}
			continue
		}
		g.conns.Go(func() {
			defer c.Close()
			g.serve(c)
		})
	}
}

// serve reads the line of one connection, and leads it where its way goes. Who says nothing, or
// something else, gets no answer.
func (g *gate) serve(c net.Conn) {
	stop := context.AfterFunc(g.over, func() { c.Close() })
	defer stop()
	heard := g.wait(c)
	defer heard()
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return
	}
	if first[0] == tlsHandshake {
		if g.enter() == nil {
			defer g.leave()
			g.web.takeTLS(way.After(c, first), heard)
		}
		return
	}
	line, err := way.ReadLine(way.After(c, first))
	heard()
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(lineTime)) // of the answer
	w, err := way.Read(line.Way, g.keys(), time.Now())
	if err != nil || w.For != way.SSH && !(w.For == way.Web && line.IsHop) {
		way.Refuse(c, false, way.ErrInvalid)
		return
	}
	if err := g.enter(); err != nil {
		way.Refuse(c, true, err)
		return
	}
	defer g.leave()
	g.lead(way.After(c, line.Rest), c, w, line)
}

// tlsHandshake is the first byte of TLS (RFC 8446, 5.1).
const tlsHandshake = 22

// wait counts a connection that has said nothing yet, until heard is called.
func (g *gate) wait(c net.Conn) (heard func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = c.SetReadDeadline(time.Now().Add(g.line))
	return g.silent.Add(c)
}

// keys are those of the sessions that are here.
func (g *gate) keys() (all []ed25519.PublicKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.guests {
		key := way.ReadKey(s.file.Load().TicketKey)
		if key != nil && !slices.ContainsFunc(all, func(k ed25519.PublicKey) bool { return k.Equal(key) }) {
			all = append(all, key)
		}
	}
	return all
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.joined >= mostAt {
		return errors.New("the node has too many connections; close some")
	}
	g.joined++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joined--
}

// Sentences for who comes by a good way that leads nowhere.
var (
	errNotHere = errors.New("this session is not here, or has ended; look with `dsvm session list`")
	errNoNode  = errors.New("this way leads to no node")
	errTwoHops = errors.New("this way was passed on already")
)

// lead joins a connection with its session, or passes it on to the door of the session's node.
// raw is the connection beneath client.
func (g *gate) lead(client, raw net.Conn, w way.Way, line way.Line) {
	g.mu.Lock()
	s, inside := g.guests[w.Session], g.inside
	g.mu.Unlock()
	switch {
	case s != nil && w.For == way.Web:
		if way.Accept(raw) == nil {
			_ = raw.SetDeadline(time.Time{})
			g.web.takeHop(client)
		}
		return
	case s != nil:
		g.join(client, raw, s)
		return
	}
	switch {
	case w.Inside == "" || w.Inside == inside:
		way.Refuse(raw, true, errNotHere)
	case line.IsHop:
		way.Refuse(raw, false, errTwoHops)
	case !isNeighbour(w.Inside, inside):
		way.Refuse(raw, false, errNoNode)
	default:
		g.pass(client, raw, w, line.Way)
	}
}

// join joins a connection with the sshd of a session that is here.
func (g *gate) join(client, raw net.Conn, s *session) {
	ctx, leave, err := s.enter(g.over)
	if err != nil {
		way.Refuse(raw, true, err)
		return
	}
	defer leave()
	server, err := s.dialSSH(ctx)
	if err != nil {
		way.Refuse(raw, true, err)
		return
	}
	defer server.Close()
	if way.Accept(raw) != nil {
		return
	}
	s.ssh.Add(1)
	defer s.ssh.Add(-1)
	_ = raw.SetDeadline(time.Time{})
	join(ctx, client, server, copyPlain)
}

// isNeighbour reports whether the door of another node may be at an address, seen from that of
// this one: on one machine it is on loopback, and otherwise never.
func isNeighbour(address, own string) bool {
	mine, err := netip.ParseAddrPort(own)
	if err != nil || !way.IsInside(address) {
		return false
	}
	return netip.MustParseAddrPort(address).Addr().IsLoopback() == mine.Addr().IsLoopback()
}

// pass passes a connection on. Nothing of it but the line is sent before the other end has
// answered as a door does: no other server can be spoken to.
func (g *gate) pass(client, raw net.Conn, w way.Way, text string) {
	if err := g.enterPassing(w.Session); err != nil {
		way.Refuse(raw, true, err)
		return
	}
	defer g.leavePassing(w.Session)
	server, err := way.Hop(g.over, w.Inside, text)
	if err != nil {
		g.log.Warn("the door of another node does not take a session", "session", w.Session, "error", err)
		way.Refuse(raw, fault.CodeOf(err) != fault.Forbidden, errors.New("the door of the session's node does not let this way in; try again"))
		return
	}
	defer server.Close()
	if way.Accept(raw) != nil {
		return
	}
	_ = raw.SetDeadline(time.Time{})
	join(g.over, client, server, copyPlain)
}

func (g *gate) enterPassing(session string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.passing[session] >= mostOf {
		return errors.New("the session has too many connections; close some")
	}
	g.passing[session]++
	return nil
}

func (g *gate) leavePassing(session string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.passing[session]--; g.passing[session] == 0 {
		delete(g.passing, session)
	}
}

// copyPlain copies a stream to its end, on Linux without it coming up from the kernel. Nobody
// pays for its bytes by their number, so that they are not counted.
func copyPlain(to io.Writer, from io.Reader) { _, _ = io.Copy(to, from) }
