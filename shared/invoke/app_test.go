package invoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newApp(out io.Writer, options ...Option) *App {
	return New(slog.New(slog.NewTextHandler(out, nil)), options...)
}

func post(t *testing.T, url string, body []byte) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(HeaderInvocation, "inv-1")
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestReplies(t *testing.T) {
	t.Parallel()
	var out lines
	app := newApp(&out, Deadline(50*time.Millisecond), MaxPayload(4096))
	var ids [2]string
	app.Batch("Good", func(ctx context.Context, msgs []Message) error { ids[0] = InvocationID(ctx); return nil })
	app.Batch("Bad", func(context.Context, []Message) error { return errors.New("the queue is gone") })
	app.Timer("Panics", func(context.Context, Tick) error { panic("over here\nand there") })
	app.Timer("Slow", func(ctx context.Context, _ Tick) error { <-ctx.Done(); return ctx.Err() })
	app.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/panics" {
			panic("in the API")
		}
		ids[1] = InvocationID(r.Context())
		fmt.Fprint(w, r.URL.RequestURI())
	}))
	server := httptest.NewServer(app)
	defer server.Close()
	batch := invocation("F", "m").Batch([]Delivery{delivery(plainMessage, 1)}, true)
	tick := invocation("F", "t").Tick(Tick{})
	for _, tt := range []struct {
		name, path string
		payload    []byte
		status     int
		log        string // in the line that says why
	}{
		{"success", "/Good", batch, 200, ""},
		{"error", "/Bad", batch, 500, "the queue is gone"},
		{"panic", "/Panics", tick, 500, `over here\nand there`},
		{"deadline", "/Slow", tick, 500, "deadline exceeded"},
		{"not the host's JSON", "/Good", []byte("hello"), 500, "not the JSON"},
		{"too large", "/Good", bytes.Repeat([]byte(" "), 4097), 500, "larger than 4096 bytes"},
		{"unknown function", "/Other", batch, 404, "function not registered"},
		{"panic in the API", "/api/panics", nil, 500, "in the API"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(out.String())
			r := post(t, server.URL+tt.path, tt.payload)
			_, err := ReadReply(r, 1<<20)
			if r.StatusCode != tt.status || (err == nil) != (tt.status == 200) {
				t.Errorf("got %d (%v), want %d", r.StatusCode, err, tt.status)
			}
			said := out.String()[before:]
			if !strings.Contains(said, tt.log) || (tt.log == "") != (said == "") {
				t.Errorf("log: got %q, want %q in it", said, tt.log)
			}
			if strings.Count(said, "\n") > 1 {
				t.Errorf("a record takes several lines: %q", said)
			}
			if tt.status == 500 && !strings.Contains(said, "invocation=inv-1") {
				t.Errorf("log without the invocation's id: %q", said)
			}
		})
	}
	r := post(t, server.URL+"/api/a?b=c", nil)
	body, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if string(body) != "/api/a?b=c" {
		t.Errorf("passed on: got %q", body)
	}
	if ids != [2]string{"inv-1", "inv-1"} {
		t.Errorf("ids of invocations: got %q", ids)
	}
}

// What the host passes on goes where its path says, in whatever case that is
// written; its own questions and its invocations go elsewhere.
func TestWhereRequestsGo(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard)
	says := func(what string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, what, " ", r.URL.EscapedPath()) })
	}
	app.HTTP(says("api"))
	app.Site(says("site"))
	app.Timer("Sweep", func(context.Context, Tick) error { return nil })
	for _, tt := range []struct {
		method, path string
		passedOn     bool
		status       int
		body         string
	}{
		{"GET", "/api/jobs", true, 200, "api /api/jobs"}, {"POST", "/API/jobs/A%2525", true, 200, "api /api/jobs/A%2525"}, {"GET", "/", true, 200, "site /"}, {"HEAD", "/x.js", true, 200, ""},
		{"GET", "/api", true, 200, "site /api"}, {"POST", "/Web/x", true, 200, "site /Web/x"}, {"GET", "/", false, 200, ""}, {"GET", "/x.js", false, 404, emptyReply}, {"POST", "/x.js", true, 404, emptyReply},
		{"POST", "/Sweep", true, 200, emptyReply}, {"GET", "/Sweep", true, 200, "site /Sweep"},
	} {
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(`{"Data":{"t":{}}}`))
		if tt.passedOn {
			r.Header.Set(HeaderInvocation, "inv-1")
		}
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		if got := w.Body.String(); w.Code != tt.status || got != tt.body && tt.method != "HEAD" {
			t.Errorf("%s %s, passed on %v: got %d %q, want %d %q", tt.method, tt.path, tt.passedOn, w.Code, got, tt.status, tt.body)
		}
	}
}

// A client that does not read, or does not write on, ends with the deadline of an
// invocation: at functionTimeout the host would kill the process.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard, Deadline(200*time.Millisecond))
	ended := make(chan error, 2)
	app.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, err := io.ReadAll(r.Body)
			ended <- err
			return
		}
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				ended <- err
				return
			}
		}
	}))
	server := httptest.NewServer(app)
	defer server.Close()
	for _, request := range []string{"GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n", "POST /api/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nshort"} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%.10s ended without an error", request)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%.10s goes on", request)
		}
	}
}

// An answer that has begun is broken off, not ended, when its function panics.
func TestPanicInTheMiddleOfAnAnswer(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard)
	app.HTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		w.(http.Flusher).Flush()
		panic("in the middle")
	}))
	server := httptest.NewServer(app)
	defer server.Close()
	r, err := http.Get(server.URL + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err == nil {
		t.Errorf("got %q as a whole answer", body)
	}
}

// Serve finishes what is under way before it returns, and takes nothing new.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard)
	began, finish := make(chan struct{}), make(chan struct{})
	app.Timer("Slow", func(ctx context.Context, _ Tick) error {
		close(began)
		<-finish
		return ctx.Err()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	if r, err := http.Get(url + "/"); err != nil || r.StatusCode != 200 {
		t.Fatalf("the host's question whether it is up: %v, %v", r, err)
	}
	replied := make(chan int, 1)
	go func() { replied <- post(t, url+"/Slow", invocation("Slow", "t").Tick(Tick{})).StatusCode }()
	<-began
	stop()
	for { // until the listener is closed
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended before its work: %v", err)
	default:
	}
	close(finish)
	if got := <-replied; got != 200 {
		t.Errorf("what was under way got %d, want 200", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("an end that was asked for is an error: %v", err)
	}
}

func TestServeWithoutHost(t *testing.T) {
	t.Parallel()
	if err := New(nil).Serve(t.Context(), ""); err == nil || !strings.Contains(err.Error(), PortSetting) {
		t.Errorf("got %v, want an error that names %s", err, PortSetting)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := New(nil).Serve(t.Context(), port); err == nil {
		t.Error("a port that is taken was served")
	}
}

func TestReadReply(t *testing.T) {
	t.Parallel()
	const hangs = "goes on waiting"
	for _, tt := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   string // in the error; "" = success
	}{
		{"object", 200, "application/json", `{"Logs":["a"]}`, ""},
		{"empty object", 200, "application/json; charset=utf-8", `{}`, ""},
		{"names in any case", 201, "text/json", `{"logs":["a"],"more":1}`, ""},
		{"nothing", 200, "", "", hangs},
		{"no content", 204, "", "", hangs},
		{"null", 200, "application/json", "null", hangs},
		{"blank", 200, "application/json", " \n", hangs},
		{"failure", 500, "application/json", `{}`, "status 500"},
		{"redirect", 301, "application/json", `{}`, "status 301"},
		{"failure without content", 500, "", "", "status 500"},
		{"text", 200, "text/plain; charset=utf-8", `{}`, `type "text/plain`},
		{"no type", 200, "", `{}`, `type ""`},
		{"not JSON", 200, "application/json", "{", "not a JSON object"},
		{"list", 200, "application/json", "[]", "not a JSON object"},
		{"too large", 200, "application/json", `{"Logs":["` + strings.Repeat("x", 100) + `"]}`, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Response{
				StatusCode: tt.status,
				Header:     http.Header{"Content-Type": {tt.kind}},
				Body:       io.NopCloser(strings.NewReader(tt.body)),
			}
			_, err := ReadReply(r, 64)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want success", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if errors.Is(err, ErrHangs) != (tt.want == hangs) {
				t.Errorf("hangs: got %v", err)
			}
		})
	}
	r := &http.Response{
		StatusCode: 200,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(`{"logs":["a"],"outputs":{"res":1}}`)),
	}
	if got, err := ReadReply(r, 64); err != nil || len(got.Logs) != 1 || string(got.Outputs["res"]) != "1" {
		t.Errorf("got %+v, %v", got, err)
	}
}
