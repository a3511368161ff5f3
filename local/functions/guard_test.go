//go:build unix

package functions

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/invoke"
)

// A host with Guard works like one without, and its handler answers only the host.
func TestGuardedHandler(t *testing.T) {
	t.Parallel()
	c := newControl(t, exitRestart) // the second handler gets a new secret
	h, log := start(t, script(hostJSON, map[string]string{"Api": httpAny, "Sweep": timerYearly}), roleApp, c,
		func(cfg *Config) { cfg.Guard = true })
	ready(t, h)
	if reply, body := request(t, "POST", "http://"+h.Addr()+"/api/x", "fn-key", "{}"); reply.StatusCode != http.StatusTeapot {
		t.Errorf("a request through the host: got %d %s", reply.StatusCode, body)
	}
	if reply, body := request(t, "POST", "http://"+h.Addr()+"/admin/functions/Sweep", "master-key", `{"input":""}`); reply.StatusCode != http.StatusAccepted {
		t.Errorf("an invocation by hand: got %d %s", reply.StatusCode, body)
	}
	if e := c.next(t); e.name != "Sweep" {
		t.Errorf("got %s", e.name)
	}
	h.worker.mu.Lock()
	s := h.worker.state
	h.worker.mu.Unlock()
	for name, header := range map[string]string{"none": "", "another": "x", "the right one": s.secret} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", handlerURL(s.port)+"/api/x", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(invoke.HeaderSecret, header)
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if (reply.StatusCode == http.StatusTeapot) != (name == "the right one") {
			t.Errorf("%s: the handler answers %d", name, reply.StatusCode)
		}
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.process.Pid))
	if err == nil && (strings.Contains(string(environ), s.secret) || !strings.Contains(string(environ), invoke.SecretSetting)) {
		t.Error("the secret is in the handler's environment, or nothing says where it is")
	}
	if strings.Contains(log.String(), s.secret) {
		t.Error("the secret is in the log")
	}
}

func TestGuardedHost(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny, "Sweep": timerYearly}), roleApp, newControl(t), func(cfg *Config) {
		cfg.Guard, cfg.Hosts = true, []string{"dsvm.example"}
	})
	ready(t, h)
	for _, tt := range []struct {
		name, path, key, host, header string
		status                        int
	}{
		{"a client", "/api/x", "fn-key", "", "", http.StatusTeapot},
		{"through the tunnel", "/api/x", "fn-key", "dsvm.example", "", http.StatusTeapot},
		{"a renamed site", "/api/x", "fn-key", "evil.example", "", http.StatusForbidden},
		{"another page", "/api/x", "fn-key", "", "Origin: http://evil.example", http.StatusForbidden},
		{"an image", "/api/x", "fn-key", "", "Sec-Fetch-Site: cross-site", http.StatusForbidden},
		{"what is nowhere", "/x", "", "", "Origin: http://evil.example", http.StatusForbidden},
		{"by hand", "/admin/functions/Sweep", "master-key", "", "Content-Type: application/json", http.StatusAccepted},
		{"by hand, plain text", "/admin/functions/Sweep", "master-key", "", "Content-Type: text/plain", http.StatusUnsupportedMediaType},
		{"by hand, plain text, in capitals", "/ADMIN/functions/Sweep", "master-key", "", "Content-Type: text/plain", http.StatusUnsupportedMediaType},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+h.Addr()+tt.path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = tt.host
		r.Header.Set("x-functions-key", tt.key)
		if name, value, ok := strings.Cut(tt.header, ": "); ok {
			r.Header.Set(name, value)
		}
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if reply.StatusCode != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, reply.StatusCode, body, tt.status)
		}
	}
}

// If another program listens on the handler's port first, the host does not use it as its
// handler and does not send it the secret.
func TestSomebodyElseOnThePort(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var heard []http.Header
	asked := make(chan struct{}, 1000)
	squatter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		heard = append(heard, r.Header)
		mu.Unlock()
		w.Header().Set(invoke.HeaderProof, invoke.Prove("guessed", r.Header.Get(invoke.HeaderQuestion)))
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	defer squatter.Close()
	const secret = "the-secret"
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	go func() {
		<-asked
		<-asked
		cancel()
	}()
	if awaitProof(ctx, portOf(t, squatter.URL), secret) {
		t.Error("somebody without the secret was taken for the handler")
	}
	handler := httptest.NewServer(invoke.New(slog.New(slog.DiscardHandler), invoke.Guard(secret, false)))
	defer handler.Close()
	patience, stop := context.WithTimeout(t.Context(), testTime)
	defer stop()
	if !awaitProof(patience, portOf(t, handler.URL), secret) {
		t.Error("the handler was not recognised")
	}
	w := newWorker(Config{}, nil, time.Second)
	w.set(func(s *state) { s.secret, s.port = secret, portOf(t, handler.URL) })
	for port, want := range map[int]string{portOf(t, handler.URL): secret, portOf(t, squatter.URL): ""} {
		header := http.Header{invoke.HeaderSecret: {"a client's own"}}
		if w.sign(header, port); header.Get(invoke.HeaderSecret) != want {
			t.Errorf("got %v, want %q", header, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	questions := map[string]bool{}
	for _, header := range heard {
		questions[header.Get(invoke.HeaderQuestion)] = true
		if strings.Contains(fmt.Sprint(header), secret) {
			t.Errorf("the secret was told: %v", header)
		}
	}
	if len(questions) != len(heard) {
		t.Error("a question was asked twice; its answer could be one that was overheard")
	}
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
