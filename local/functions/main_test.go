//go:build unix

package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"dsvmpools/shared/invoke"
)

// The test program plays the handler too, when the host under test starts it
// with one of these roles.
const (
	roleSetting    = "FUNCTIONS_TEST_ROLE"
	controlSetting = "FUNCTIONS_TEST_CONTROL" // URL of the test's control
	roleApp        = "app"                    // a handler on the invoke package
	roleRaw        = "raw"                    // one that breaks the rules of replies
	roleDeaf       = "deaf"                   // one that never listens
	roleHost       = "host"                   // a host with a handler, to be killed
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleSetting) {
	case roleApp, roleRaw:
		os.Exit(playHandler(os.Getenv(roleSetting)))
	case roleDeaf:
		select {}
	case roleHost:
		playHost()
	}
	os.Exit(m.Run())
}

// playHandler asks the control for orders and follows them.
func playHandler(role string) int {
	var order struct{ Exit int }
	if err := tell("start", nil, &order); err != nil {
		fmt.Println(err)
		return 9
	}
	if order.Exit >= 0 {
		fmt.Fprintln(os.Stderr, "told to exit")
		return order.Exit
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println("the handler is up")
	fmt.Print("and says half a line")
	var err error
	if role == roleRaw {
		err = http.ListenAndServe("127.0.0.1:"+os.Getenv(invoke.PortSetting), http.HandlerFunc(raw))
	} else {
		err = app().Serve(ctx, os.Getenv(invoke.PortSetting))
		_ = tell("stopped", nil, nil)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// app is a handler whose functions do what the control says.
func app() *invoke.App {
	var options []invoke.Option
	if secret, err := invoke.ReadSecret(os.Getenv); err != nil {
		fmt.Println(err)
	} else if secret != "" {
		options = append(options, invoke.Guard(secret, true))
	}
	a := invoke.New(slog.New(slog.NewTextHandler(os.Stdout, nil)), options...)
	a.Batch("Jobs", func(_ context.Context, msgs []invoke.Message) error { return tell("Jobs", msgs, nil) })
	a.Batch("One", func(_ context.Context, msgs []invoke.Message) error { return tell("One", msgs, nil) })
	a.Timer("Sweep", func(_ context.Context, t invoke.Tick) error { return tell("Sweep", t, nil) })
	a.Timer("Hourly", func(_ context.Context, t invoke.Tick) error { return tell("Hourly", t, nil) })
	a.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/api/tell/"); ok {
			_ = tell(name, nil, nil)
			return
		}
		if n, ok := strings.CutPrefix(r.URL.Path, "/api/refuse/"); ok { // after it has read n bytes of the body
			size, _ := strconv.ParseInt(n, 10, 64)
			_, _ = io.CopyN(io.Discard, r.Body, size)
			w.Header().Set("Connection", "close")
			http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		if r.URL.Path == "/api/lines" { // answers each line as it comes
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex()
			buffer := make([]byte, 100)
			for {
				n, err := r.Body.Read(buffer)
				fmt.Fprintf(w, "got %s", buffer[:n])
				_ = control.Flush()
				if err != nil {
					return
				}
			}
		}
		b, _ := io.ReadAll(r.Body)
		id, version := r.Header.Get(invoke.HeaderInvocation), r.Header.Get(invoke.HeaderHostVersion)
		w.Header().Set("X-Seen", id+" "+version+" "+r.Header.Get("x-ms-invocation-id"))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %d", r.Method, r.URL.RequestURI(), r.Host, len(b))
	}))
	return a
}

// raw replies in the ways that the host must judge.
func raw(w http.ResponseWriter, r *http.Request) {
	object := func(body string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
	switch r.URL.Path {
	case "/Empty":
	case "/NoContent":
		w.WriteHeader(http.StatusNoContent)
	case "/Null":
		object("null")
	case "/Silent":
		<-r.Context().Done()
	case "/Text":
		_, _ = io.WriteString(w, "{}")
	case "/Untyped":
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "{}")
	case "/List":
		object("[]")
	case "/Redirect":
		http.Redirect(w, r, "/Good", http.StatusFound)
	case "/Endless":
		w.Header().Set("Content-Type", "application/json")
		for chunk := bytes.Repeat([]byte(" "), 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case "/Header":
		w.Header().Set("X-Long", strings.Repeat("x", 2*maxReplyHeader))
		object("{}")
	case "/Broken":
		object("{")
	case "/Failing":
		w.WriteHeader(http.StatusInternalServerError)
		object(`{"Logs":["dropped with the failure"]}`)
	case "/Gone":
		os.Exit(3)
	case "/Payload": // an HTTP function whose requests are not passed on
		b, _ := io.ReadAll(r.Body)
		body, _ := json.Marshal(string(b))
		object(`{"Outputs":{"res":{"statusCode":"202","headers":{"X-A":"b"},"body":` + string(body) + `}}}`)
	default:
		object(`{"Logs":["a line of the handler"],"more":1}`)
	}
}

// tell sends an event to the control and reads the answer; a status other than success is
// an error.
func tell(event string, body, answer any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.Post(os.Getenv(controlSetting)+"/"+event, "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("the control says %d", r.StatusCode)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(got, answer)
	}
	return err
}

// control connects the test with the handler: it gets events from the handler, and answers
// with orders.
type control struct {
	*httptest.Server
	mu     sync.Mutex
	exits  []int // of the next starts; then the handler serves
	starts int
	heard  chan event
	reply  func(e event) int // status; nil = 200
}

type event struct {
	name string
	msgs []invoke.Message
	tick invoke.Tick
}

func newControl(t testing.TB, exits ...int) *control {
	c := &control{exits: exits, heard: make(chan event, 10000)}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.CloseClientConnections)
	return c
}

func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	e := event{name: r.URL.Path[1:]}
	switch e.name {
	case "start":
		c.mu.Lock()
		exit := -1
		if c.starts++; len(c.exits) > 0 {
			exit, c.exits = c.exits[0], c.exits[1:]
		}
		c.mu.Unlock()
		fmt.Fprintf(w, `{"Exit":%d}`, exit)
		return
	case "Jobs", "One":
		_ = json.Unmarshal(b, &e.msgs)
	case "Sweep", "Hourly":
		_ = json.Unmarshal(b, &e.tick)
	}
	status := http.StatusOK
	if c.reply != nil {
		status = c.reply(e)
	}
	c.heard <- e
	w.WriteHeader(status)
}

func (c *control) started() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.starts
}

// next waits for an event.
func (c *control) next(t testing.TB) event {
	t.Helper()
	select {
	case e := <-c.heard:
		return e
	case <-time.After(testTime):
		t.Fatal("nothing was heard of the handler")
		return event{}
	}
}

// testTime is how long a test waits for something that must happen.
const testTime = 20 * time.Second

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

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("it never happened: %s", what)
		}
		pause(ctx, time.Millisecond)
	}
}

const hostJSON = `{"version":"2.0","functionTimeout":"00:05:00","customHandler":{"description":{"defaultExecutablePath":"handler"},"enableProxyingHttpRequest":true}}`

// script is a script root of host.json and functions, each a list of bindings.
func script(host string, functions map[string]string) fstest.MapFS {
	root := fstest.MapFS{"host.json": {Data: []byte(host)}}
	for name, bindings := range functions {
		root[name+"/function.json"] = &fstest.MapFile{Data: []byte(`{"bindings":[` + bindings + `]}`)}
	}
	return root
}

const (
	timerYearly = `{"name":"timer","type":"timerTrigger","direction":"in","schedule":"0 0 0 1 1 *"}`
	httpAny     = `{"name":"req","type":"httpTrigger","direction":"in","route":"{*path}","authLevel":"function"},{"name":"res","type":"http","direction":"out"}`
	jobsBatch   = `{"name":"messages","type":"serviceBusTrigger","direction":"in","queueName":"%JOBS%","connection":"Bus","cardinality":"many","dataType":"binary"}`
)

// start starts a host with a handler of a role, and stops it with the test.
func start(t testing.TB, root fstest.MapFS, role string, c *control, change func(*Config)) (*Host, *lines) {
	t.Helper()
	log := &lines{}
	cfg := Config{
		Root:        root,
		Addr:        "127.0.0.1:0",
		Handler:     []string{os.Args[0]},
		Dir:         t.TempDir(),
		StateDir:    t.TempDir(),
		FunctionKey: "fn-key",
		MasterKey:   "master-key",
		Settings:    map[string]string{},
		Env:         []string{roleSetting + "=" + role, controlSetting + "=" + c.URL},
		Output:      log,
		Log:         slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if role == roleRaw {
		cfg.TermGrace = -1 // it does not know how to end
	}
	if change != nil {
		change(&cfg)
	}
	h, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.Close()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return h, log
}

func ready(t testing.TB, h *Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	if err := h.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// playHost is a host in a process of its own.
func playHost() {
	root := script(hostJSON, map[string]string{"Sweep": timerYearly})
	h, err := Start(Config{Root: root, Addr: "127.0.0.1:0", Handler: []string{os.Args[0]}, Env: []string{roleSetting + "=" + roleApp}})
	if err == nil {
		err = h.Ready(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(h.HandlerPID())
	select {}
}

func request(t testing.TB, method, url, key, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("x-functions-key", key)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply, string(b)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
