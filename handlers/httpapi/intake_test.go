package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/intake"
	"dsvmpools/shared/job"
	"dsvmpools/shared/push"
	"dsvmpools/shared/wire"
)

// choosy is a backend with one rule, of GitLab's kind or of GitHub's.
type choosy struct {
	counting
	provider push.Provider
}

func (c choosy) Expects(_ context.Context, provider push.Provider, proof push.Proof) (bool, error) {
	return provider == c.provider && (proof.OfBody() || proof.Verify("secret", nil)), nil
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.ErrUnexpectedEOF
}

// What nobody can have signed is refused before its body is read.
func TestRefusedUnread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		rule, provider push.Provider
		header, value  string
		length         int64
		status         int
	}{
		{"no signature", push.GitHub, push.GitHub, "", "", 100, 401},
		{"a signature of no form", push.GitHub, push.GitHub, "X-Hub-Signature-256", "sha256=1", 100, 401},
		{"no rule for the provider", push.GitLab, push.GitHub, "X-Hub-Signature-256", signed(nil), 100, 401},
		{"another secret", push.GitLab, push.GitLab, "X-Gitlab-Token", "guess", 100, 401},
		{"another secret, unannounced", push.GitLab, push.GitLab, "X-Gitlab-Token", "guess", -1, 401},
		{"too large", push.GitLab, push.GitLab, "X-Gitlab-Token", "secret", push.MaxBody + 1, 413},
		{"no such provider", push.GitHub, "sourceforge", "", "", 100, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &server{
				Services: Services{Pushes: choosy{counting{taken: make(chan int, 1)}, tt.rule}},
				log:      slog.New(slog.DiscardHandler),
				now:      time.Now,
				pace:     defaultPace,
				pushTime: time.Minute,
				room:     deliveries(),
			}
			r := httptest.NewRequest("POST", "/api/push/"+string(tt.provider), unread{t})
			r.ContentLength = tt.length
			if tt.header != "" {
				r.Header.Set(tt.header, tt.value)
			}
			w := httptest.NewRecorder()
			if s.handler().ServeHTTP(w, r); w.Code != tt.status || w.Header().Get("Connection") != "close" {
				t.Errorf("got %d %s %v, want %d", w.Code, w.Body, w.Header(), tt.status)
			}
		})
	}
}

// When there is no memory for a delivery it waits, and is told when to come again.
func TestNoRoomForADelivery(t *testing.T) {
	t.Parallel()
	s := &server{
		Services: Services{Pushes: counting{taken: make(chan int, 10)}},
		log:      slog.New(slog.DiscardHandler),
		now:      time.Now,
		pace:     defaultPace,
		pushTime: time.Minute,
		room:     intake.NewRoom(20*time.Millisecond, intake.Size{Bytes: 16, Count: 1}),
	}
	h := httptest.NewServer(s.handler())
	defer h.Close()
	taken, err := s.room.Read(t.Context(), strings.NewReader("x"), 16)
	if err != nil {
		t.Fatal(err)
	}
	post := func() *http.Response {
		body := []byte(`{"a":1}`)
		r, err := http.NewRequest("POST", h.URL+"/api/push/github", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Hub-Signature-256", signed(body))
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		return reply
	}
	if reply := post(); reply.StatusCode != http.StatusServiceUnavailable || reply.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d, Retry-After %q; want 503 and 1", reply.StatusCode, reply.Header.Get("Retry-After"))
	}
	taken.Release()
	for range 3 { // each gives its memory back
		if reply := post(); reply.StatusCode != http.StatusAccepted {
			t.Errorf("got %d, want 202", reply.StatusCode)
		}
	}
}

// A document that trickles in is refused with 408, and the connection ends.
func TestSlowDocument(t *testing.T) {
	t.Parallel()
	s := &server{
		Services: Services{Pushes: counting{taken: make(chan int, 1)}},
		log:      slog.New(slog.DiscardHandler),
		now:      time.Now,
		pace:     defaultPace,
		pushTime: time.Minute,
		room:     deliveries(),
	}
	inner := s.handler()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, intake.Keep(w, r, intake.Pace{Bytes: 1 << 10, Within: 50 * time.Millisecond}))
	}))
	defer h.Close()
	for _, path := range []string{"/api/jobs", "/api/pools", "/api/rules"} {
		c, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path)
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408") {
			t.Errorf("%s: got %q, %v; want 408 and the end of the connection", path, answer, err)
		}
		c.Close()
	}
}

// No route that changes something takes a type that any web page may send.
func TestTypesOfPages(t *testing.T) {
	t.Parallel()
	s := &server{
		Services: Services{Pushes: counting{}},
		log:      slog.New(slog.DiscardHandler),
		now:      time.Now,
		pace:     defaultPace,
		pushTime: time.Minute,
		room:     deliveries(),
	}
	h := s.handler()
	checked := 0
	for _, route := range s.routes() {
		if route.method == "GET" || strings.HasPrefix(route.path, "/api/push/") {
			continue
		}
		for _, kind := range []string{"text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			r := httptest.NewRequest(
				route.method,
				strings.NewReplacer("{id}", "a", "{name}", "a").Replace(route.path),
				strings.NewReader(`{}`),
			)
			r.Header.Set("Content-Type", kind)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var p wire.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusUnsupportedMediaType || p.Status != w.Code ||
				!strings.Contains(p.Detail, "application/json") {
				t.Errorf("%s %s as %s: got %d %s", route.method, route.path, kind, w.Code, w.Body)
			}
			checked++
		}
	}
	if checked < 20 {
		t.Errorf("only %d requests were tried", checked)
	}
}

// takesAll takes every job of a list.
type takesAll struct{ Jobs }

func (takesAll) SubmitAll(_ context.Context, specs []job.Spec) []error {
	return make([]error, len(specs))
}

// Long lists of jobs share the memory of uploads: one that finds none is to come again, and a
// short one needs none of it.
func TestLongListWaitsForMemory(t *testing.T) {
	t.Parallel()
	s := &server{
		Services: Services{Jobs: takesAll{}},
		log:      slog.New(slog.DiscardHandler),
		now:      time.Now,
		uploads:  intake.NewRoom(time.Millisecond, intake.Size{Bytes: 256 << 10, Count: 1}),
	}
	h := s.handler()
	send := func(body string) (int, string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/api/jobs", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const one = `{"pool":"cpu","script":"0123456789012345678901234567890123456789012345678901234567890123456789"}`
	long := "[" + strings.TrimSuffix(strings.Repeat(one+",", wire.MaxDocument/len(one)+1), ",") + "]"
	held, err := s.uploads.Read(t.Context(), strings.NewReader("x"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := send(long); status != http.StatusServiceUnavailable || !strings.Contains(answer, "send it again") {
		t.Errorf("got %d %s", status, answer)
	}
	if status, answer := send("[" + one + "]"); status != http.StatusMultiStatus {
		t.Errorf("a short list: got %d %s", status, answer)
	}
	held.Release()
	for range 2 { // the memory comes back
		if status, answer := send(long); status != http.StatusMultiStatus || strings.Count(answer, `"status":202`) != strings.Count(long, one) {
			t.Errorf("got %d %.300s", status, answer)
		}
	}
}
