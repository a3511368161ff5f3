//go:build unix

package door

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/way"
)

// BenchmarkWays is the throughput of one stream from a person's program to a session: by the
// relay, to the node itself, and past the wrong node. All ends are in this process.
func BenchmarkWays(b *testing.B) {
	a := newApp(b)
	n := node{t: b, dir: folder(b)}
	server := n.sink(b)
	f := File{Session: "session-ann", User: "ann", SSH: "unix:" + server, TicketKey: a.key, Listen: "127.0.0.1:0"}
	log := slog.New(slog.DiscardHandler)
	right, wrong := newGate(n.dir, log), newGate(n.dir, log)
	right.take(newSession(f, nil, log))
	g := f
	g.Session = "session-bob"
	wrong.take(newSession(g, nil, log))
	b.Cleanup(right.close)
	b.Cleanup(wrong.close)
	right.inside, wrong.inside = right.listener.Addr().String(), wrong.listener.Addr().String()

	at := n.relay(b, newSession(f, nil, log))
	for _, c := range []struct {
		name string
		dial func() (net.Conn, error)
	}{
		{"relay", func() (net.Conn, error) {
			token := at.Token(relay.RuleSend, key, "lab-0", time.Now().Add(time.Minute))
			return relay.Dial(b.Context(), at.Address("lab-0")+relay.SSH+"/session-ann", token)
		}},
		{"direct", func() (net.Conn, error) {
			return way.Dial(b.Context(), right.inside, a.way("session-ann", "", time.Minute))
		}},
		{"balancer", func() (net.Conn, error) {
			return way.Dial(b.Context(), wrong.inside, a.way("session-ann", right.inside, time.Minute))
		}},
	} {
		b.Run(c.name, func(b *testing.B) { stream(b, c.dial) })
	}
}

const streamSize = 64 << 20

// sink takes streams, says one byte when all of one has come, and returns its socket.
func (n node) sink(b *testing.B) string {
	b.Helper()
	path := filepath.Join(n.dir, "sink")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.CopyN(io.Discard, c, streamSize)
				_, _ = c.Write([]byte{1})
			}()
		}
	}()
	return path
}

// relay has a session listen at a relay.
func (n node) relay(b *testing.B, s *session) relay.Namespace {
	b.Helper()
	server, err := localrelay.Start(localrelay.Config{
		Addr:     "127.0.0.1:0",
		Rules:    []localrelay.Rule{{Name: relay.RuleListen, Key: key, Listen: true}, {Name: relay.RuleSend, Key: key, Send: true}},
		Entities: []localrelay.Entity{{Name: "lab-0"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	at, err := relay.ParseNamespace("http://" + server.Addr())
	if err != nil {
		b.Fatal(err)
	}
	p := openPlace(context.Background(), at.Address("lab-0"), false, slog.New(slog.DiscardHandler))
	p.take(s, at.Token(relay.RuleListen, key, "lab-0", time.Now().Add(time.Hour)))
	b.Cleanup(p.close)
	await(b, "a listener", func() bool { return server.Listeners("lab-0") == 1 })
	return at
}

// stream sends streams of 64 MiB, and waits until all of each has come.
func stream(b *testing.B, dial func() (net.Conn, error)) {
	b.Helper()
	buffer := make([]byte, 32<<10)
	b.SetBytes(streamSize)
	for b.Loop() {
		c, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		for sent := 0; sent < streamSize; sent += len(buffer) {
			if _, err := c.Write(buffer); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := io.ReadFull(c, buffer[:1]); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
