package relay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/relay"
)

// Keys of the relay of a test.
const (
	listenKey = "a2V5IHRvIGxpc3Rlbg=="
	sendKey   = "a2V5IHRvIHNlbmQ="
)

// space is a relay with what a test needs of it.
type space struct {
	*localrelay.Server
	relay.Namespace
}

func start(t testing.TB, addr string) space {
	t.Helper()
	s, err := localrelay.Start(localrelay.Config{
		Addr:     addr,
		Rules:    []localrelay.Rule{{Name: relay.RuleListen, Key: listenKey, Listen: true}, {Name: relay.RuleSend, Key: sendKey, Send: true}},
		Entities: []localrelay.Entity{{Name: "lab-0"}, {Name: "lab-1"}, {Name: "lab-0-web", Anonymous: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	n, err := relay.ParseNamespace("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return space{s, n}
}

func (s space) toListen(entity string) string {
	return s.Token(relay.RuleListen, listenKey, entity, time.Now().Add(time.Hour))
}

func (s space) toSend(entity string) string {
	return s.Token(relay.RuleSend, sendKey, entity, time.Now().Add(time.Hour))
}

// listens starts a listener and waits until it listens. Its end is awaited, too.
func listens(t testing.TB, l *relay.Listener) {
	t.Helper()
	states := make(chan error, 100)
	l.State = func(err error) {
		select {
		case states <- err:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := <-states; err != nil {
		t.Fatal(err)
	}
}

// echoes accepts the senders of SSH and sends back what they send.
func echoes(ctx context.Context, in *relay.Incoming) {
	if in.Suffix != relay.SSH {
		_ = in.Reject(ctx, http.StatusForbidden, "only /ssh is here")
		return
	}
	c, err := in.AcceptStream(ctx)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	_, _ = io.Copy(c, c)
}

func TestBytesGoBothWays(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	token := s.toListen("lab-0")
	listens(t, &relay.Listener{Address: s.Address("lab-0"), Token: func() string { return token }, Socket: echoes})
	c, err := relay.Dial(t.Context(), s.Address("lab-0")+relay.SSH, s.toSend("lab-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := make([]byte, 3<<20+17)
	rand.Read(sent)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("got other bytes than were sent, error %v", err)
	}
}

// TestAllArrivesBeforeTheEnd has a listener that writes and closes at once, as sshd does.
func TestAllArrivesBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	want := bytes.Repeat([]byte("all of it "), 300_000)
	token := s.toListen("lab-0")
	listens(t, &relay.Listener{Address: s.Address("lab-0"), Token: func() string { return token }, Socket: func(ctx context.Context, in *relay.Incoming) {
		if c, err := in.AcceptStream(ctx); err == nil {
			_, _ = c.Write(want)
			c.Close()
		}
	}})
	c, err := relay.Dial(t.Context(), s.Address("lab-0")+relay.SSH, s.toSend("lab-0"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d of %d bytes, error %v", len(got), len(want), err)
	}
}

func TestNobodyGetsIn(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	token := s.toListen("lab-0")
	listens(t, &relay.Listener{Address: s.Address("lab-0"), Token: func() string { return token }, Socket: echoes})
	good := s.toSend("lab-0")
	for _, c := range []struct {
		name, address, token string
		want                 fault.Code
	}{
		{"without a token", s.Address("lab-0") + relay.SSH, "", fault.Forbidden},
		{"the token of another entity", s.Address("lab-0") + relay.SSH, s.toSend("lab-1"), fault.Forbidden},
		{"the token of an entity whose name begins alike", s.Address("lab-0") + relay.SSH, s.toSend("lab"), fault.Forbidden},
		{"a token to listen", s.Address("lab-0") + relay.SSH, token, fault.Forbidden},
		{"an expired token", s.Address("lab-0") + relay.SSH, s.Token(relay.RuleSend, sendKey, "lab-0", time.Now().Add(-time.Second)), fault.Forbidden},
		{"another key", s.Address("lab-0") + relay.SSH, s.Token(relay.RuleSend, listenKey, "lab-0", time.Now().Add(time.Hour)), fault.Forbidden},
		{"the name of another rule", s.Address("lab-0") + relay.SSH, s.Token(relay.RuleListen, sendKey, "lab-0", time.Now().Add(time.Hour)), fault.Forbidden},
		{"a longer life than was signed", s.Address("lab-0") + relay.SSH, strings.Replace(good, "se=", "se=9", 1), fault.Forbidden},
		{"a token of 5 KB", s.Address("lab-0") + relay.SSH, good + strings.Repeat("x", 5000), fault.Forbidden},
		{"another path", s.Address("lab-0") + "/rdp", good, fault.Forbidden},
		{"no path", s.Address("lab-0"), good, fault.Forbidden},
		{"a path that begins alike", s.Address("lab-0") + "/ssh/../../etc", good, fault.Forbidden},
		{"an entity at which nobody listens", s.Address("lab-1") + relay.SSH, s.toSend("lab-1"), fault.NotFound},
		{"no such entity", s.Address("lab-2") + relay.SSH, s.toSend("lab-2"), fault.NotFound},
		{"no relay's address", "https://" + s.Addr(), good, fault.Invalid},
		{"without TLS to another machine", "ws://relay.example/$hc/lab-0", good, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, err := relay.Dial(t.Context(), c.address, c.token)
			if err == nil {
				conn.Close()
				t.Fatal("got in")
			}
			if got := fault.CodeOf(err); got != c.want {
				t.Errorf("got %s (%v), want %s", got, err, c.want)
			}
			if key := "sig="; strings.Contains(err.Error(), key) {
				t.Errorf("the error holds a token: %v", err)
			}
		})
	}
}

func TestWhoMustNotListen(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	for _, c := range []struct{ name, token string }{
		{"a token to send", s.toSend("lab-0")},
		{"the token of another entity", s.toListen("lab-1")},
		{"an expired token", s.Token(relay.RuleListen, listenKey, "lab-0", time.Now().Add(-time.Second))},
		{"without a token", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			var why error
			l := relay.Listener{Address: s.Address("lab-0"), Token: func() string { return c.token }, State: func(err error) { why = err; cancel() }}
			if err := l.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if fault.CodeOf(why) != fault.Forbidden {
				t.Errorf("got %v, want that it is forbidden", why)
			}
		})
	}
}

// TestReconnects kills what a listener stands on, in each way that is known, and comes in again.
func TestReconnects(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	token := s.toListen("lab-0")
	l := &relay.Listener{Address: s.Address("lab-0"), Token: func() string { return token }, Socket: echoes}
	relay.SetPings(l, 50*time.Millisecond)
	listens(t, l)
	before := s.dial(t)
	defer before.Close()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"dropped with a word", func() { s.Drop("lab-0") }},
		{"forgotten without a word", func() { s.Forget("lab-0") }},
	} {
		c.do()
		again := s.dial(t)
		again.Close()
		if _, err := fmt.Fprint(before, "still there"); err != nil {
			t.Fatalf("%s: a connection from before has ended: %v", c.name, err)
		}
		if _, err := io.ReadFull(before, make([]byte, len("still there"))); err != nil {
			t.Fatalf("%s: a connection from before has ended: %v", c.name, err)
		}
	}
	addr := s.Addr()
	s.Close()
	if _, err := io.ReadAll(before); err == nil {
		t.Error("the end of the relay looks like that of the other end")
	}
	start(t, addr)
	s.dial(t).Close()
}

// dial comes in as soon as somebody listens.
func (s space) dial(t *testing.T) net.Conn {
	t.Helper()
	for {
		c, err := relay.Dial(t.Context(), s.Address("lab-0")+relay.SSH, s.toSend("lab-0"))
		if err == nil {
			return c
		}
		if fault.CodeOf(err) != fault.NotFound && fault.CodeOf(err) != fault.Internal || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestTokenIsRenewed(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	began := time.Now()
	short := s.Token(relay.RuleListen, listenKey, "lab-0", began.Add(2*time.Second))
	long := s.toListen("lab-0")
	asked := 0
	l := &relay.Listener{Address: s.Address("lab-0"), Socket: echoes, Token: func() string {
		if asked++; asked == 1 {
			return short
		}
		return long
	}}
	relay.SetPings(l, 100*time.Millisecond)
	ends := make(chan error, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // past the end of the first token
	defer cancel()
	l.State = func(err error) { ends <- err }
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ends; err != nil || len(ends) > 0 {
		t.Errorf("the channel did not live on: %v, and %d more", err, len(ends))
	}
}

func TestTokenEndsTheChannel(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	token := s.Token(relay.RuleListen, listenKey, "lab-0", time.Now().Add(2*time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	var all []error
	l := relay.Listener{Address: s.Address("lab-0"), Token: func() string { return token }, State: func(err error) {
		if all = append(all, err); err != nil {
			cancel()
		}
	}}
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0] != nil || fault.CodeOf(all[1]) != fault.Forbidden {
		t.Errorf("got %v, want a channel that ends with its token", all)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	token := s.toListen("lab-0-web")
	listens(t, &relay.Listener{Address: s.Address("lab-0-web"), Token: func() string { return token }, Request: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Target", r.RequestURI)
		w.Header().Set("X-Method", r.Method)
		if r.ContentLength == 0 && r.Body != http.NoBody {
			w.Header().Set("X-Method", "a body that has no length and is not of unknown length")
		}
		w.Header().Set("X-Token", r.Header.Get("ServiceBusAuthorization")+r.Header.Get("Authorization"))
		if r.URL.Query().Has("abort") {
			_, _ = w.Write(make([]byte, 100<<10))
			panic(http.ErrAbortHandler)
		}
		if r.URL.Query().Has("early") {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		body, err := io.ReadAll(r.Body) // the local relay takes no more of a body once it is answered
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body)
	})})
	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	for _, c := range []struct {
		name, method, query string
		body                []byte
		isChunked           bool
		status              int
	}{
		{"nothing", "GET", "", nil, false, 200},
		{"small", "POST", "?a=b%20c&sb-hc-id=7&d", []byte("hello"), false, 200},
		{"64 KB", "PUT", "", large[:64<<10], false, 200},
		{"a byte more", "PUT", "", large[:64<<10+1], false, 200},
		{"large", "POST", "", large, false, 200},
		{"of unknown length", "POST", "", []byte("hello"), true, 200},
		{"large, of unknown length", "PATCH", "", large, true, 200},
		{"answered before it is read", "POST", "?early", large, true, http.StatusTeapot},
		{"HEAD", "HEAD", "", nil, false, 200},
		{"DELETE", "DELETE", "?x", nil, false, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var body io.Reader
			if c.body != nil {
				body = bytes.NewReader(c.body)
			}
			if c.isChunked {
				body = io.MultiReader(body)
			}
			r, err := http.NewRequestWithContext(t.Context(), c.method, s.Page("lab-0-web")+"/a%2Fb"+c.query, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("ServiceBusAuthorization", "a token that nobody must see")
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			want := c.body
			if c.status != 200 {
				want = nil
			}
			if err != nil || answer.StatusCode != c.status || !bytes.Equal(got, want) {
				t.Errorf("got %s with %d bytes, error %v, want %d with %d bytes", answer.Status, len(got), err, c.status, len(want))
			}
			query := strings.Replace(c.query, "&sb-hc-id=7", "", 1)
			if target := answer.Header.Get("X-Target"); target != "/lab-0-web/a%2Fb"+query || answer.Header.Get("X-Method") != c.method || answer.Header.Get("X-Token") != "" {
				t.Errorf("the listener saw %s %s and token %q", answer.Header.Get("X-Method"), target, answer.Header.Get("X-Token"))
			}
			if answer.Header.Get("Via") == "" {
				t.Error("Via is missing")
			}
		})
	}
	t.Run("an answer that is cut off", func(t *testing.T) {
		t.Parallel()
		answer, err := http.Get(s.Page("lab-0-web") + "/?abort")
		if err == nil {
			_, err = io.ReadAll(answer.Body)
			answer.Body.Close()
		}
		if err == nil {
			t.Error("a part looks like the whole")
		}
	})
}

func TestMessagesStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	s := start(t, "127.0.0.1:0")
	token := s.toListen("lab-0-web")
	seen := make(chan *relay.Incoming, 1)
	listens(t, &relay.Listener{Address: s.Address("lab-0-web"), Token: func() string { return token }, Socket: func(ctx context.Context, in *relay.Incoming) {
		seen <- in
		c, err := in.Accept(ctx, "second")
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, text, err := c.Read(ctx)
			if err != nil || c.Write(ctx, kind, text) != nil {
				return
			}
		}
	}})
	c, _, err := websocket.Dial(t.Context(), s.Address("lab-0-web")+"/api/kernels?session_id=1", &websocket.DialOptions{
		Subprotocols: []string{"first", "second"}, HTTPHeader: http.Header{"Cookie": {"a=b"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	in := <-seen
	if in.Suffix != "/api/kernels" || in.Query != "session_id=1" || in.Header.Get("Cookie") != "a=b" || c.Subprotocol() != "second" {
		t.Errorf("the listener saw %+v, the sender got sub-protocol %q", in, c.Subprotocol())
	}
	for _, m := range []struct {
		kind websocket.MessageType
		size int
	}{{websocket.MessageText, 5}, {websocket.MessageBinary, 0}, {websocket.MessageBinary, 32 << 10}, {websocket.MessageText, 32<<10 + 1}, {websocket.MessageBinary, 5 << 20}, {websocket.MessageText, 0}} {
		sent := bytes.Repeat([]byte("x"), m.size)
		go func() { _ = c.Write(t.Context(), m.kind, sent) }()
		kind, got, err := c.Read(t.Context())
		if err != nil || kind != m.kind || !bytes.Equal(got, sent) {
			t.Fatalf("a message of %d bytes of type %s came back with %d of type %s, error %v", m.size, m.kind, len(got), kind, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
