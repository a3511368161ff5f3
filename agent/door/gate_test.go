//go:build unix

package door

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/way"
)

// app signs ways as the app of a deployment does.
type app struct {
	t      testing.TB
	signer ed25519.PrivateKey
	key    string
}

func newApp(t testing.TB) app {
	t.Helper()
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return app{t, signer, base64.StdEncoding.EncodeToString(public)}
}

// way is one for SSH to a session behind an inside address, which is good for so long.
func (a app) way(session, inside string, life time.Duration) string {
	return a.sign(way.Way{For: way.SSH, Session: session, Inside: inside, Expires: time.Now().Add(life).Unix()})
}

func (a app) sign(w way.Way) string {
	a.t.Helper()
	text, err := way.Sign(a.signer, w)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// gateway is the gate of one node, with sessions whose sshd says whose it is.
type gateway struct {
	*gate
	app
	at string
	of map[string]*session
}

func (a app) gateway(users ...string) gateway {
	a.t.Helper()
	n := node{t: a.t, dir: folder(a.t)}
	g := gateway{newGate(n.dir, slog.New(slog.DiscardHandler)), a, "", map[string]*session{}}
	for _, user := range users {
		n.sshd(user)
		s := newSession(File{Session: "session-" + user, User: user, SSH: "unix:" + n.socket(user, "sshd"), TicketKey: a.key,
			Listen: "127.0.0.1:0"}, nil, g.log)
		g.of[user] = s
		g.take(s)
	}
	g.mu.Lock()
	g.at = g.listener.Addr().String()
	g.inside = g.at
	g.mu.Unlock()
	a.t.Cleanup(g.close)
	return g
}

func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// speaks checks that a connection leads to somebody's sshd, and that bytes go both ways.
func speaks(t *testing.T, c net.Conn, user string) {
	t.Helper()
	in := bufio.NewReader(c)
	first, err := in.ReadString('\n')
	if err != nil || first != "SSH of "+user+"\n" {
		t.Fatalf("got %q, %v, want the sshd of %s", first, err, user)
	}
	text := strings.Repeat("0123456789abcdef", 1<<12) + "\n"
	go io.WriteString(c, text)
	if got, err := in.ReadString('\n'); err != nil || got != text {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
}

func (g gateway) dial(address, way string) net.Conn {
	g.t.Helper()
	c, err := dialWay(g.t, address, way)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

func dialWay(t testing.TB, address, text string) (net.Conn, error) {
	c, err := way.Dial(t.Context(), address, text)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestGateLeadsToTheSessionOfTheWay(t *testing.T) {
	t.Parallel()
	g := newApp(t).gateway("ann", "bob")
	for _, user := range []string{"ann", "bob"} {
		speaks(t, g.dial(g.at, g.way("session-"+user, "", time.Minute)), user)
	}
	// Where people find it, is no question: a way with the right session is enough.
	speaks(t, g.dial(g.at, g.way("session-ann", "10.1.0.4:443", time.Minute)), "ann")
	if state := g.of["ann"].state(""); state.SSH != 2 || state.Relayed != 0 {
		t.Errorf("the state is %+v", state)
	}
	// What follows the line at once is not lost.
	c, err := net.Dial("tcp", g.at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "DSVM1 %s\nSSH-2.0-early\n", g.way("session-bob", "", time.Minute))
	in := bufio.NewReader(c)
	for _, want := range []string{"DSVM1 ok\n", "SSH of bob\n", "SSH-2.0-early\n"} {
		if got, err := in.ReadString('\n'); got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}

// Nobody gets in by a way that the app has not signed for this, now.
func TestGateRefuses(t *testing.T) {
	t.Parallel()
	a, stranger := newApp(t), newApp(t)
	g := a.gateway("ann")
	other := a.gateway("bob")
	ticket := sign(a.signer, ticket{Session: "session-ann", User: "ann", Expires: time.Now().Add(time.Minute).Unix(), Nonce: "1"})
	good := a.way("session-ann", "", time.Minute)
	for name, c := range map[string]struct {
		way  string
		code fault.Code
	}{
		"of a stranger":                 {stranger.way("session-ann", "", time.Minute), fault.Forbidden},
		"expired":                       {a.way("session-ann", "", -2*time.Minute), fault.Forbidden},
		"a ticket for browsers":         {ticket, fault.Forbidden},
		"for browsers":                  {a.sign(way.Way{For: way.Web, Session: "session-ann", Expires: time.Now().Add(time.Minute).Unix()}), fault.Forbidden},
		"changed":                       {good[:len(good)-4] + "AAAA", fault.Forbidden},
		"empty":                         {"", fault.Forbidden},
		"of another session":            {a.way("session-bob", "", time.Minute), fault.NotFound},
		"of another session, here":      {a.way("session-bob", g.at, time.Minute), fault.NotFound},
		"to the metadata endpoint":      {a.way("session-bob", "169.254.169.254:80", time.Minute), fault.Forbidden},
		"to the agent of the platform":  {a.way("session-bob", "168.63.129.16:80", time.Minute), fault.Forbidden},
		"to a name":                     {a.way("session-bob", "localhost:22", time.Minute), fault.Forbidden},
		"out of this machine":           {a.way("session-bob", "10.1.0.4:443", time.Minute), fault.Forbidden},
		"to a node without the session": {a.way("session-eve", other.at, time.Minute), fault.NotFound},
	} {
		if _, err := dialWay(t, g.at, c.way); fault.CodeOf(err) != c.code {
			t.Errorf("%s: got %v (%s), want %s", name, err, fault.CodeOf(err), c.code)
		}
	}
	if state := g.of["ann"].state(""); state.SSH != 0 {
		t.Errorf("the state is %+v", state)
	}
	// A node of a network is not led to its own loopback.
	if isNeighbour("127.0.0.1:22", "10.1.0.4:443") || !isNeighbour("10.1.0.5:443", "10.1.0.4:443") {
		t.Error("loopback is a neighbour")
	}
}

// Who says nothing that begins as a way does gets no answer, and is not heard to the end.
func TestGateDoesNotAnswerStrangers(t *testing.T) {
	t.Parallel()
	g := newApp(t).gateway("ann")
	for name, says := range map[string]string{
		"SSH":                   "SSH-2.0-OpenSSH_9.2\r\n",
		"HTTP":                  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a line that is longer": "DSVM1 " + strings.Repeat("A", 4<<10) + "\n",
		"a line without an end": "DSVM1 " + strings.Repeat("A", 1<<20),
	} {
		c, err := net.Dial("tcp", g.at)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, says)
		if got, _ := io.ReadAll(c); len(got) > 0 { // its error is a reset, where not all was read
			t.Errorf("%s: got %q", name, got)
		}
		c.Close()
	}
}

// Many that say nothing keep nobody out, are bounded, and are closed in time.
func TestGateOutlivesSilence(t *testing.T) {
	t.Parallel()
	g := newApp(t).gateway("ann")
	first := connect(t, g.at)
	await(t, "the first one", func() bool { return g.countSilent() == 1 })
	for range mostSilent + 20 {
		connect(t, g.at)
	}
	if got, err := io.ReadAll(first); len(got) > 0 || err != nil { // the oldest one has gone
		t.Errorf("got %q, %v", got, err)
	}
	speaks(t, g.dial(g.at, g.way("session-ann", "", time.Minute)), "ann")
	if n := g.countSilent(); n > mostSilent {
		t.Errorf("%d connections wait", n)
	}
	late := newApp(t).gateway("bob")
	late.mu.Lock()
	late.line = 20 * time.Millisecond
	late.mu.Unlock()
	c := connect(t, late.at)
	io.WriteString(c, "DSVM1 ")
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("who is slow gets %q, %v", got, err)
	}
	await(t, "nobody", func() bool { return late.countSilent() == 0 })
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (g gateway) countSilent() int { return g.silent.Len() }

// The end of a session ends who is there, and lets nobody in any more.
func TestGateOfASessionThatEnds(t *testing.T) {
	t.Parallel()
	g := newApp(t).gateway("ann", "bob")
	text := g.way("session-ann", "", time.Minute)
	c := g.dial(g.at, text)
	speaks(t, c, "ann")
	g.remove(g.of["ann"])
	g.of["ann"].end()
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := dialWay(t, g.at, text); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("after the end: %v", err)
	}
	g.remove(g.of["bob"])
	if _, err := dialWay(t, g.at, text); fault.CodeOf(err) != fault.NotFound || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("without a session: %v", err)
	}
}

// balancer is a plain TCP load balancer, which leads everybody to one node.
func balancer(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); out.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// Whichever node a balancer hits, people come to their own.
func TestGatePassesOn(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	right, wrong := a.gateway("ann"), a.gateway("bob")
	text := a.way("session-ann", right.at, time.Minute)
	for _, hit := range []gateway{wrong, right} {
		speaks(t, right.dial(balancer(t, hit.at), text), "ann")
	}
	if state := right.of["ann"].state(""); state.SSH != 2 || wrong.of["bob"].state("").SSH != 0 {
		t.Errorf("the state is %+v", state)
	}
	if !wrong.isPassing() || right.isPassing() {
		t.Error("the wrong one passes nothing on, or the right one does")
	}
	// The session ends: so does what was passed on.
	c := right.dial(wrong.at, text)
	speaks(t, c, "ann")
	right.remove(right.of["ann"])
	right.of["ann"].end()
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	await(t, "the end of what was passed on", func() bool { return !wrong.isPassing() })
}

// A door is no proxy: what is no door hears the line, and nothing that the client says.
func TestGatePassesNothingOnToOthers(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	g := a.gateway("ann")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "220 mail.example ESMTP\r\n")
		all, _ := io.ReadAll(c)
		heard <- all
	}()
	text := a.way("session-eve", l.Addr().String(), time.Minute)
	c := connect(t, g.at)
	fmt.Fprintf(c, "DSVM1 %s\nHELO evil\r\n", text)
	answer, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(answer), "DSVM1 absent ") || bytes.Contains(answer, []byte("mail")) {
		t.Errorf("the client hears %q", answer)
	}
	if got, want := string(<-heard), "DSVM1 hop "+text+"\n"; got != want {
		t.Errorf("the server hears %q, want %q", got, want)
	}
}

// A way that leads to a door which is not the one of its address goes no further: there are no loops.
func TestGatePassesOnOnce(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	first, second := a.gateway("ann"), a.gateway("bob")
	third := a.gateway("eve")
	// The second one is found at another address than it knows, which leads to the third.
	text := a.way("session-eve", second.at, time.Minute)
	second.mu.Lock()
	second.inside = "127.0.0.1:1"
	second.mu.Unlock()
	if _, err := dialWay(t, first.at, text); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("got %v (%s)", err, fault.CodeOf(err))
	}
	hop, err := way.Hop(t.Context(), first.at, a.way("session-eve", third.at, time.Minute))
	if fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("a hop of a hop: %v, %v", hop, err)
	}
}

// The whole door listens by TCP as long as a session is there whose file says so.
func TestDoorListens(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := node{t: t, dir: folder(t)}
	n.sshd("ann")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := taken.Addr().String()
	f := File{Session: "session-ann", User: "ann", SSH: "unix:" + n.socket("ann", "sshd"), TicketKey: a.key, Listen: at, Inside: at}
	n.write(0, f)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, filepath.Join(n.dir, "doors"), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	state := func() State {
		var s State
		text, err := os.ReadFile(strings.TrimSuffix(n.file(0), ".json") + stateSuffix)
		if err != nil || json.Unmarshal(text, &s) != nil {
			s.Closed = "?"
		}
		return s
	}
	await(t, "a port that is taken", func() bool { return strings.Contains(state().Closed, "DSVM_DOOR_LISTEN") })
	taken.Close()
	await(t, "an open door", func() bool { return state().Closed == "" })
	c, err := dialWay(t, at, a.way("session-ann", "", time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	speaks(t, c, "ann")
	await(t, "a connection in the state", func() bool { return state().SSH == 1 })
	if err := os.Remove(n.file(0)); err != nil {
		t.Fatal(err)
	}
	await(t, "a closed port", func() bool { _, err := dialWay(t, at, "x"); return fault.CodeOf(err) == fault.NotFound })
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}
