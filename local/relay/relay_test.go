package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/local/chaos"
	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/relay"
)

// world is a relay, and what a test says to it.
type world struct {
	*localrelay.Server
	relay.Namespace
	t *testing.T
}

func start(t *testing.T, change func(*localrelay.Config)) world {
	t.Helper()
	cfg := localrelay.Config{
		Addr:     "127.0.0.1:0",
		Rules:    []localrelay.Rule{{Name: relay.RuleListen, Key: listenKey, Listen: true}, {Name: relay.RuleSend, Key: sendKey, Send: true}},
		Entities: []localrelay.Entity{{Name: "lab-0", Rules: []localrelay.Rule{{Name: "own", Key: bothKey, Listen: true}}}, {Name: "lab-1"}, {Name: "lab-0-web", Anonymous: true}},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := localrelay.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	n, err := relay.ParseNamespace("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return world{s, n, t}
}

// token makes a token of a rule for an entity.
func (w world) token(rule, key, entity string) string {
	return w.Token(rule, key, entity, time.Now().Add(time.Hour))
}

// open opens a WebSocket; the status is that of the answer.
func (w world) open(address, token string) (*websocket.Conn, int, string) {
	w.t.Helper()
	c, answer, err := websocket.Dial(w.t.Context(), address, &websocket.DialOptions{HTTPHeader: http.Header{"ServiceBusAuthorization": {token}}})
	if answer == nil {
		w.t.Fatal(err)
	}
	if err != nil {
		text, _ := io.ReadAll(answer.Body)
		return nil, answer.StatusCode, string(text)
	}
	w.t.Cleanup(func() { c.CloseNow() })
	return c, answer.StatusCode, ""
}

func (w world) listen(entity string) *websocket.Conn {
	w.t.Helper()
	c, status, text := w.open(w.Address(entity)+"?sb-hc-action=listen", w.token(relay.RuleListen, listenKey, entity))
	if c == nil {
		w.t.Fatalf("listening is answered with %d %s", status, text)
	}
	return c
}

// sender comes to lab-0, and says how it was answered.
func (w world) sender() <-chan int {
	answered := make(chan int, 1)
	go func() {
		_, status, _ := w.open(w.Address("lab-0")+"/ssh?sb-hc-action=connect", w.token(relay.RuleSend, sendKey, "lab-0"))
		answered <- status
	}()
	return answered
}

// address reads the next message of a control channel, and returns the address in it.
func address(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	_, text, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Accept, Request struct{ Address string }
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m.Accept.Address + m.Request.Address
}

func TestAnAddressIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.listen("lab-0")
	answered := w.sender()
	at := address(t, c)
	if _, status, _ := w.open(strings.Replace(at, "sb-hc-secret=", "sb-hc-secret=x", 1), ""); status != http.StatusForbidden {
		t.Errorf("a guessed address is answered with %d", status)
	}
	if _, status, _ := w.open(strings.Replace(at, "sb-hc-action=accept", "sb-hc-action=request", 1), ""); status != http.StatusForbidden {
		t.Errorf("the address with another action is answered with %d", status)
	}
	if _, status, _ := w.open(at, ""); status != http.StatusSwitchingProtocols {
		t.Fatalf("the address is answered with %d", status)
	}
	if status := <-answered; status != http.StatusSwitchingProtocols {
		t.Fatalf("the sender is answered with %d", status)
	}
	if _, status, _ := w.open(at, ""); status != http.StatusForbidden {
		t.Errorf("the second use is answered with %d", status)
	}
}

func TestAnAddressEnds(t *testing.T) {
	t.Parallel()
	w := start(t, func(cfg *localrelay.Config) {
		localrelay.Shorten(cfg, 100*time.Millisecond, 100*time.Millisecond, time.Second)
	})
	c := w.listen("lab-0")
	answered := w.sender()
	at := address(t, c)
	if status := <-answered; status != http.StatusGatewayTimeout {
		t.Errorf("a sender that waits too long is answered with %d", status)
	}
	if _, status, _ := w.open(at, ""); status != http.StatusForbidden {
		t.Errorf("the address that has ended is answered with %d", status)
	}
	if n := w.Waiting(); n != 0 {
		t.Errorf("%d addresses are left", n)
	}
	answer, err := http.DefaultClient.Do(w.request("lab-0", nil))
	if err != nil || answer.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a request that waits too long is answered with %v, %v", answer, err)
	}
}

func (w world) request(entity string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.Page(entity)+"/x", body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("ServiceBusAuthorization", w.token(relay.RuleSend, sendKey, entity))
	return r
}

func TestRejected(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := w.listen("lab-0")
	answered := w.sender()
	if _, status, _ := w.open(address(t, c)+"&sb-hc-statusCode=418&sb-hc-statusDescription=no%0D%0AX-Evil:%201", ""); status != http.StatusGone {
		t.Errorf("who rejects is answered with %d", status)
	}
	if status := <-answered; status != http.StatusTeapot {
		t.Errorf("the sender is answered with %d", status)
	}
}

func TestRightsAndLimits(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, c := range []struct {
		name, entity, action, token string
		want                        int
	}{
		{"the entity's own rule", "lab-0", "listen", w.token("own", bothKey, "lab-0"), http.StatusSwitchingProtocols},
		{"that rule at another entity", "lab-1", "listen", w.token("own", bothKey, "lab-1"), http.StatusUnauthorized},
		{"a token of the whole namespace", "lab-1", "listen", w.token(relay.RuleListen, listenKey, ""), http.StatusSwitchingProtocols},
		{"a token to send", "lab-0", "listen", w.token(relay.RuleSend, sendKey, "lab-0"), http.StatusForbidden},
		{"no such entity", "lab-9", "listen", w.token(relay.RuleListen, listenKey, "lab-9"), http.StatusNotFound},
		{"no such action", "lab-0", "dance", "", http.StatusBadRequest},
		{"listening without a token where senders need none", "lab-0-web", "listen", "", http.StatusUnauthorized},
	} {
		if _, status, text := w.open(w.Address(c.entity)+"?sb-hc-action="+c.action, c.token); status != c.want {
			t.Errorf("%s: got %d %s, want %d", c.name, status, text, c.want)
		}
	}
	for range 25 {
		w.listen("lab-0-web")
	}
	if _, status, _ := w.open(w.Address("lab-0-web")+"?sb-hc-action=listen", w.token(relay.RuleListen, listenKey, "lab-0-web")); status != http.StatusForbidden {
		t.Errorf("the 26th listener is answered with %d", status)
	}
	if _, status, _ := w.open(w.Address("lab-1")+"?sb-hc-action=connect&x="+strings.Repeat("x", 64<<10), ""); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KB is answered with %d", status)
	}
}

func TestWhatAListenerMayNotSay(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, c := range []struct {
		name string
		kind websocket.MessageType
		text string
		want websocket.StatusCode
	}{
		{"no JSON", websocket.MessageText, "hello", websocket.StatusInternalError},
		{"a message of 200 KB", websocket.MessageText, strings.Repeat("x", 200<<10), websocket.StatusMessageTooBig},
		{"a token that is none", websocket.MessageText, `{"renewToken":{"token":"x"}}`, websocket.StatusPolicyViolation},
		{"a token to send", websocket.MessageText, fmt.Sprintf(`{"renewToken":{"token":%q}}`, w.token(relay.RuleSend, sendKey, "lab-1")), websocket.StatusPolicyViolation},
	} {
		l := w.listen("lab-1")
		_ = l.Write(t.Context(), c.kind, []byte(c.text))
		if _, _, err := l.Read(t.Context()); websocket.CloseStatus(err) != c.want {
			t.Errorf("%s: got %v, want status %d", c.name, err, c.want)
		}
	}
	// A body without a head, and answers that nobody waits for, harm nothing.
	l := w.listen("lab-0")
	for _, text := range []string{`{"response":{"requestId":"1","statusCode":200,"body":false}}`, `{"unknown":1}`, `{}`} {
		_ = l.Write(t.Context(), websocket.MessageBinary, []byte("stray"))
		_ = l.Write(t.Context(), websocket.MessageText, []byte(text))
	}
	answered := w.sender()
	if _, status, _ := w.open(address(t, l), ""); status != http.StatusSwitchingProtocols || <-answered != status {
		t.Errorf("the channel does not live on: %d", status)
	}
}

// TestAnswersOfListeners has a listener that answers by hand.
func TestAnswersOfListeners(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	l := w.listen("lab-0")
	go func() {
		for {
			kind, text, err := l.Read(t.Context())
			if err != nil {
				return
			}
			if kind == websocket.MessageBinary {
				continue
			}
			var m struct {
				Request struct{ ID, RequestTarget string }
			}
			_ = json.Unmarshal(text, &m)
			_, head, _ := strings.Cut(m.Request.RequestTarget, "?")
			status, _, _ := strings.Cut(head, "&")
			_ = l.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil,
				`{"response":{"requestId":%q,"statusCode":%s,"responseHeaders":{"Connection":"close","X-N":7,"Bad\nName":"x"},"body":false}}`, m.Request.ID, status))
		}
	}()
	for status, want := range map[string]int{"201": 201, `"404"`: 404, "502": 500, "504": 500, "99": 500, "1000": 500, "-1": 500} {
		r := w.request("lab-0", strings.NewReader("small"))
		r.URL.RawQuery = status
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", status, err)
		}
		answer.Body.Close()
		if answer.StatusCode != want || (want < 500) != (answer.Header.Get("X-N") == "7") {
			t.Errorf("%s is passed on as %d with %v, want %d", status, answer.StatusCode, answer.Header, want)
		}
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	w := start(t, func(cfg *localrelay.Config) {
		localrelay.Shorten(cfg, time.Second, 200*time.Millisecond, 200*time.Millisecond)
	})
	w.listen("lab-0-web")
	for _, c := range []struct{ name, text string }{
		{"a header that does not end", "GET /lab-0-web/ HTTP/1.1\r\nHost: localhost\r\nX-"},
		{"a body that does not come", "POST /lab-0-web/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfour"},
		{"a body for nobody", "POST /nobody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfour"},
		{"no word", ""},
	} {
		conn, err := net.Dial("tcp", w.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, c.text)
		got, err := io.ReadAll(conn) // ends when the relay has cut it off
		if err != nil || len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 4") {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.listen("lab-0-web")
	for _, header := range [][2]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		r := w.request("lab-0-web", nil)
		r.Header.Set(header[0], header[1])
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s: got %v, %v", header, answer, err)
		}
	}
	r := w.request("lab-0-web", nil)
	r.Host = "evil.example"
	if answer, err := http.DefaultClient.Do(r); err != nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("another host: got %v, %v", answer, err)
	}
}

func TestEntitiesLast(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "relay.json")
	keep := func(cfg *localrelay.Config) { cfg.Path = path }
	w := start(t, keep)
	const at = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Relay/namespaces/local/hybridConnections/"
	call := func(w world, method, name, body string) (int, string) {
		answer := httptest.NewRecorder()
		w.Manager().ServeHTTP(answer, httptest.NewRequest(method, at+name, strings.NewReader(body)))
		return answer.Code, answer.Body.String()
	}
	for _, c := range []struct {
		method, name, body string
		want               int
	}{
		{"GET", "gpu-0", "", 404},
		{"PUT", "gpu-0", `{"properties":{}}`, 200},
		{"PUT", "gpu-0-web", `{"properties":{"requiresClientAuthorization":false}}`, 200},
		{"PUT", "gpu-1", `{}`, 200},
		{"DELETE", "gpu-1", "", 200},
		{"DELETE", "gpu-1", "", 204},
		{"PUT", "a%20b", `{}`, 400},
		{"PUT", "gpu-2", `{`, 400},
		{"POST", "gpu-0", `{}`, 405},
		{"PUT", "gpu-0/authorizationRules/x", `{}`, 404},
	} {
		if got, text := call(w, c.method, c.name, c.body); got != c.want {
			t.Errorf("%s %s: got %d %s, want %d", c.method, c.name, got, text, c.want)
		}
	}
	l := w.listen("gpu-0")
	w.Close()
	_, _, _ = l.Read(t.Context())
	again := start(t, keep)
	again.listen("gpu-0")
	if got, text := call(again, "GET", "gpu-0-web", ""); got != 200 || !strings.Contains(text, `"requiresClientAuthorization":false`) {
		t.Errorf("got %d %s", got, text)
	}
	if got, _ := call(again, "GET", "gpu-1", ""); got != 404 {
		t.Errorf("what was deleted is there again: %d", got)
	}
	l = again.listen("gpu-0")
	if got, _ := call(again, "DELETE", "gpu-0", ""); got != 200 {
		t.Errorf("got %d", got)
	}
	if _, _, err := l.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the listener of a deleted entity got %v", err)
	}
}

func TestInjections(t *testing.T) {
	t.Parallel()
	set := chaos.New(1)
	w := start(t, func(cfg *localrelay.Config) { cfg.Chaos = set })
	inject := func(operation string, do chaos.Action) {
		if _, err := set.Add(chaos.Injection{Target: "relay/" + operation + "/lab-0", Do: do, Count: 1}); err != nil {
			t.Fatal(err)
		}
	}
	listen := func() int {
		_, status, _ := w.open(w.Address("lab-0")+"?sb-hc-action=listen", w.token(relay.RuleListen, listenKey, "lab-0"))
		return status
	}
	inject("listen", chaos.Refuse)
	inject("listen", chaos.Throttle)
	if first, second := listen(), listen(); first != 500 || second != 503 {
		t.Errorf("got %d and %d", first, second)
	}
	l := w.listen("lab-0")
	inject("connect", chaos.Throttle)
	if got := <-w.sender(); got != 503 {
		t.Errorf("got %d", got)
	}
	inject("control", chaos.Detach)
	if got := <-w.sender(); got != 404 {
		t.Errorf("got %d", got)
	}
	if _, _, err := l.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError {
		t.Errorf("got %v", err)
	}
	l = w.listen("lab-0")
	inject("control", chaos.Stick)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		r := w.request("lab-0", nil).WithContext(ctx)
		if answer, err := http.DefaultClient.Do(r); err == nil {
			answer.Body.Close()
		}
	}()
	for w.Listeners("lab-0") > 0 {
		time.Sleep(time.Millisecond)
	}
	l.CloseRead(t.Context())
	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if err := l.Ping(short); err == nil {
		t.Error("a channel that was forgotten answers a ping")
	}
}

func FuzzFromListener(f *testing.F) {
	for _, seed := range []string{`{"renewToken":{"token":"x"}}`, `{"response":{"requestId":"1","statusCode":"200","responseHeaders":{"A":1},"body":true}}`, `{"response":{"statusCode":""}}`, "[", `{"response":{"statusCode":"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, text []byte) { _ = localrelay.ParseFromListener(text) })
}
