package servicebus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// hostile is a client that sends what it likes.
type hostile struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

// strict starts a server with narrow bounds.
func strict(t testing.TB, b bounds) *Server {
	t.Helper()
	s, err := Start(Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"), bounds: &b,
		Queues: []QueueConfig{
			{Name: "plain"},
			{Name: "work", RequiresSession: true},
		}, AccessKeys: []AccessKey{{Name: "root", Key: "cm9vdA==", Manage: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func connect(t *testing.T, s *Server) hostile {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return hostile{c, t, bufio.NewReader(c)}
}

// opened is a client that has come as far as open.
func opened(t *testing.T, s *Server) hostile {
	t.Helper()
	h := connect(t, s)
	h.Write(protoAMQP)
	h.say(0, amqp.Composite(amqp.CodeOpen, "c"), nil)
	if _, err := io.ReadFull(h.in, make([]byte, len(protoAMQP))); err != nil {
		t.Fatal(err)
	}
	if f := h.hear(); f.Code != amqp.CodeOpen {
		t.Fatalf("got performative 0x%x, want open", f.Code)
	}
	return h
}

func (h hostile) say(channel uint16, performative any, payload []byte) {
	h.Write(amqp.AppendFrame(nil, amqp.FrameAMQP, channel, performative, payload)) // that the other side has hung up shows when reading
}

func (h hostile) hear() amqp.Frame {
	h.t.Helper()
	f, err := amqp.ReadFrame(h.in, maxFrame)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

// ended checks that the server hangs up by itself.
func (h hostile) ended() {
	h.t.Helper()
	_, err := io.Copy(io.Discard, h.in)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		h.t.Error("the connection is still there")
	}
}

func attachFrame(handle uint32, role bool, address string) amqp.Described {
	at := amqp.Composite(amqp.CodeTarget, address)
	return amqp.Composite(
		amqp.CodeAttach,
		fmt.Sprint("link", handle),
		handle,
		role,
		nil,
		nil,
		amqp.Composite(amqp.CodeSource, address),
		at,
		nil,
		nil,
		uint32(0),
	)
}

func begin(h hostile) {
	h.say(0, amqp.Composite(amqp.CodeBegin, nil, uint32(0), uint32(1000), uint32(1000)), nil)
	h.hear()
}

func TestClientsThatAreHungUpOn(t *testing.T) {
	t.Parallel()
	narrow := usual
	narrow.links = 3
	tests := map[string]func(h hostile){
		"a frame of 2 GiB":                func(h hostile) { h.Write(binary.BigEndian.AppendUint64(nil, 0x80000000_02000000)) },
		"a frame shorter than its header": func(h hostile) { h.Write(make([]byte, 8)) },
		"a frame of noise":                func(h hostile) { h.Write(append([]byte{0, 0, 0, 16, 2, 0, 0, 0}, "noise!!!"...)) },
		"the same session twice": func(h hostile) {
			begin(h)
			h.say(0, amqp.Composite(amqp.CodeBegin, nil, uint32(0), uint32(1), uint32(1)), nil)
		},
		"too many links": func(h hostile) {
			begin(h)
			for i := range uint32(narrow.links + 1) {
				h.say(0, attachFrame(i, true, "work/$management"), nil)
			}
		},
		"the same handle twice": func(h hostile) {
			begin(h)
			h.say(0, attachFrame(1, true, "work/$management"), nil)
			h.say(0, attachFrame(1, true, "work/$management"), nil)
		},
		"deliveries beyond the credit": func(h hostile) {
			begin(h)
			h.say(0, attachFrame(1, false, "$cbs"), nil)
			for i := range uint32(3 * linkCredit) {
				h.say(0, amqp.Composite(amqp.CodeTransfer, uint32(1), i, []byte("t"), uint32(0), true), nil)
			}
		},
		"a delivery without an id": func(h hostile) {
			begin(h)
			h.say(0, attachFrame(1, false, "$cbs"), nil)
			h.say(0, amqp.Composite(amqp.CodeTransfer, uint32(1)), nil)
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := opened(t, strict(t, narrow))
			do(h)
			if name == "deliveries beyond the credit" { // they are worked off meanwhile, and the credit renewed
				h.say(0, amqp.Composite(amqp.CodeClose), nil)
			}
			h.ended()
		})
	}
}

func TestClientsThatTakeTooLong(t *testing.T) {
	t.Parallel()
	short := usual
	short.greet, short.handshake, short.noLink, short.idleLink = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	tests := map[string]func(*testing.T, *Server) hostile{
		"nothing said": func(t *testing.T, s *Server) hostile { return connect(t, s) },
		"half a greeting": func(t *testing.T, s *Server) hostile {
			h := connect(t, s)
			h.Write([]byte("AMQP\x00"))
			return h
		},
		"half a request": func(t *testing.T, s *Server) hostile {
			h := connect(t, s)
			h.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nX: "))
			return h
		},
		"no link ever": opened,
		"no link any more": func(t *testing.T, s *Server) hostile {
			h := opened(t, s)
			begin(h)
			h.say(0, attachFrame(1, true, "$cbs"), nil)
			h.hear()
			h.say(0, amqp.Composite(amqp.CodeDetach, uint32(1), true), nil)
			return h
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			do(t, strict(t, short)).ended()
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	few := usual
	few.connections = 2
	s := strict(t, few)
	first := opened(t, s)
	opened(t, s)
	third := connect(t, s)
	third.Write(protoAMQP)
	third.ended()
	first.Close()
	for { // a place is free when the server has noticed
		h := connect(t, s)
		h.Write(protoAMQP)
		if _, err := io.ReadFull(h.in, make([]byte, len(protoAMQP))); err == nil {
			return
		}
	}
}

func TestALargeDescription(t *testing.T) {
	t.Parallel()
	s := strict(t, usual)
	body := `<entry xmlns="http://www.w3.org/2005/Atom"><content><QueueDescription><UserMetadata>` + strings.Repeat("x", 2<<20)
	r, err := http.NewRequest(http.MethodPut, "http://"+s.Addr()+"/large", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", sign(s, "", time.Now().Add(time.Hour)))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return // cut off while it was still sending
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %s, want 413", answer.Status)
	}
}

// TestUnsettledIsBounded: a client that gives endless credit and settles nothing
// does not have the whole queue in its hands.
func TestUnsettledIsBounded(t *testing.T) {
	t.Parallel()
	srv := strict(t, usual)
	c := newConn(srv, nil)
	s := &session{conn: c, window: 1 << 30, unsettled: map[uint32]unsettled{}}
	for id := range uint32(maxUnsettled) {
		s.unsettled[id] = unsettled{}
	}
	s.nextID, s.settling = maxUnsettled, true // what is decided is not carried out
	s.space = sync.NewCond(&s.mu)
	l := &outLink{session: s}
	sent := make(chan bool)
	go func() { sent <- s.deliver(l, [16]byte{}, &queue.Token{}, []byte("x")) }()
	select {
	case <-sent:
		t.Fatal("a delivery beyond the bound went out")
	case <-time.After(20 * time.Millisecond):
	}
	s.handleDisposition(amqp.List{true, uint32(0), uint32(0), true, amqp.Composite(amqp.CodeAccepted)})
	if !<-sent {
		t.Error("the delivery did not go out when there was room")
	}
}

// TestSessionFilters: azservicebus describes its filter, @azure/service-bus does
// not, and looks for the same.
func TestSessionFilters(t *testing.T) {
	t.Parallel()
	key := amqp.Symbol(sessionFilter)
	for name, test := range map[string]struct{ sent, want any }{
		"described": {amqp.Described{Code: sessionFilterID, Value: "a"}, amqp.Described{Code: sessionFilterID, Value: "a"}},
		"any":       {amqp.Described{Code: sessionFilterID}, amqp.Described{Code: sessionFilterID, Value: "a"}},
		"plain":     {"a", "a"},
		"plain any": {nil, "a"},
	} {
		source := amqp.Composite(amqp.CodeSource, "work", nil, nil, nil, nil, nil, nil, amqp.Map{{Key: key, Value: test.sent}})
		got := attachment{source: source}.sourceOf("a").Value.(amqp.List)[7].(amqp.Map).Get(sessionFilter)
		if got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
