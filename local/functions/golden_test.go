//go:build unix

package functions

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/invoke"
)

// seen is a request that the handler has received.
type seen struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers"`
	Body    any                 `json:"body"`
}

// goldenHost returns a host whose handler is the test, without a process.
func goldenHost(t *testing.T, functions ...*function) (*Host, chan seen) {
	got := make(chan seen, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := seen{Method: r.Method, Path: r.URL.RequestURI(), Headers: r.Header.Clone()}
		s.Headers["Host"] = []string{r.Host}
		if len(r.TransferEncoding) > 0 {
			s.Headers["Transfer-Encoding"] = r.TransferEncoding
		}
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(b, &s.Body)
		}
		if err != nil {
			t.Errorf("a request's body: %v: %s", err, b)
		}
		got <- s
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Settings:    map[string]string{"Bus": "Endpoint=sb://team.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=b"},
		FunctionKey: "key",
		StateDir:    t.TempDir(),
	}
	cfg.setDefaults()
	h := &Host{
		cfg:       cfg,
		functions: functions,
		log:       slog.New(slog.DiscardHandler),
		timeout:   testTime,
		transport: &http.Transport{DisableCompression: true},
	}
	h.ctx, h.cancel = context.WithCancel(t.Context())
	h.worker = newWorker(cfg, nil, 0)
	h.worker.set(func(s *state) { s.ready, s.port = true, port })
	return h, got
}

// normalise replaces the values that differ from run to run: ids, times, the trace, the
// handler's port and the version of the host.
func (s seen) normalise(t *testing.T) seen {
	t.Helper()
	if host := s.Headers["Host"]; len(host) == 1 && strings.HasPrefix(host[0], "127.0.0.1:") {
		host[0] = "HANDLER"
	}
	id := ""
	for name, values := range s.Headers {
		for i := range values {
			values[i] = strings.ReplaceAll(values[i], hostVersion, "VERSION")
			switch name {
			case "X-Azure-Functions-Invocationid":
				id, values[i] = values[i], "INVOCATION"
			case "X-Ms-Invocation-Id":
				values[i] = "INVOCATION"
			case "Traceparent":
				if len(values[i]) != 55 || strings.Count(values[i], "-") != 3 {
					t.Errorf("traceparent is %q", values[i])
				}
				values[i] = "TRACE"
			}
		}
	}
	body, _ := s.Body.(map[string]any)
	meta, _ := body["Metadata"].(map[string]any)
	if sys, ok := meta["sys"].(map[string]any); ok {
		if sys["RandGuid"] == id {
			sys["RandGuid"] = "INVOCATION"
		}
		now, _ := sys["UtcNow"].(string)
		if at, err := time.Parse(time.RFC3339Nano, now); err != nil || !strings.HasSuffix(now, "Z") || time.Since(at).Abs() > time.Minute {
			t.Errorf("UtcNow is %q: %v", now, err)
		}
		sys["UtcNow"] = "NOW"
	}
	if client, ok := meta["Client"].(map[string]any); ok {
		client["Identifier"] = "CLIENT"
	}
	return s
}

var (
	goldenOne = &delivery{Delivery: invoke.Delivery{
		Message: invoke.Message{
			Body:           []byte(`{"jobId":"j1","n":2}`),
			ID:             "m-1",
			ContentType:    "application/json",
			SequenceNumber: 1,
			DeliveryCount:  1,
			EnqueuedAt:     time.Date(2023, 10, 12, 20, 13, 49, 123e6, time.UTC),
		},
		LockToken: "4e773554-f6b7-4ea2-b07d-4c5fd5aba741",
		ExpiresAt: time.Date(2023, 10, 26, 20, 13, 49, 123e6, time.UTC),
	}}
	goldenTwo = &delivery{Delivery: invoke.Delivery{
		Message: invoke.Message{
			Body:           []byte("hello"),
			ID:             "m-2",
			SequenceNumber: 2,
			DeliveryCount:  1,
			EnqueuedAt:     time.Date(2023, 10, 12, 20, 13, 50, 0, time.UTC),
			Properties:     map[string]any{"tenant": "a"},
		},
		LockToken: "4e773554-f6b7-4ea2-b07d-4c5fd5aba742",
		ExpiresAt: time.Date(2023, 10, 26, 20, 13, 50, 0, time.UTC),
	}}
)

// fixed is a source with only the messages that the test puts into it.
type fixed struct{ *fakeQueue }

// The handler gets what the real host sends: path, headers, and every value of the body.
func TestGoldenRequests(t *testing.T) {
	t.Parallel()
	bus := func(name, cardinality, dataType, session string) func(*testing.T) seen {
		return func(t *testing.T) seen {
			f := &function{
				name: name,
				trigger: binding{
					Name:              "message",
					Connection:        "Bus",
					Cardinality:       cardinality,
					DataType:          dataType,
					IsSessionsEnabled: session != "",
				},
			}
			h, got := goldenHost(t, f)
			l := h.newBusLoop(f)
			q := fixed{newFakeQueue()}
			for _, d := range []*delivery{goldenOne, goldenTwo} {
				d := *d
				d.SessionID, d.PartitionKey = session, session
				if q.waiting = append(q.waiting, &d); cardinality == "one" {
					break
				}
			}
			l.concurrent, l.open = 1, func(context.Context) (source, error) { return q, nil }
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); l.sessions(ctx) }()
			defer func() { cancel(); <-ended }()
			return hear(t, got)
		}
	}
	tick := func(name string, st status, useMonitor bool, now time.Time) func(*testing.T) seen {
		return func(t *testing.T) seen {
			f := &function{name: name, trigger: binding{Name: "timer", Type: timerTrigger, UseMonitor: &useMonitor}}
			var err error
			if f.schedule, err = parseSchedule("0 */5 * * * *"); err != nil {
				t.Fatal(err)
			}
			h, got := goldenHost(t, f)
			tm := h.newTimer(f)
			tm.now = func() time.Time { return now }
			tm.wait = func(context.Context, time.Duration) { now = time.Date(2026, 1, 5, 10, 5, 0, 0, time.UTC) }
			if st != (status{}) {
				tm.write(st)
			}
			ctx, cancel := context.WithCancel(t.Context())
			call := tm.call
			tm.call = func(ctx context.Context, tick invoke.Tick) error { defer cancel(); return call(ctx, tick) }
			tm.run(ctx)
			return hear(t, got)
		}
	}
	web := func(f *function, path string, header http.Header, proxying bool) func(*testing.T) seen {
		return func(t *testing.T) seen {
			if err := f.readHTTP(); err != nil {
				t.Fatal(err)
			}
			h, got := goldenHost(t, f)
			h.file.CustomHandler.EnableProxyingHTTPRequest = proxying
			r := httptest.NewRequest(http.MethodPost, "http://localhost:7071"+path, strings.NewReader(`{"id":1}`))
			r.Header = header
			r.RemoteAddr = "192.0.2.7:50000"
			h.routes().ServeHTTP(httptest.NewRecorder(), r)
			return hear(t, got)
		}
	}
	route, forwarded := "pools/{name}", "forwarded"
	at := time.Date(2026, 1, 5, 10, 0, 0, 12e5, time.UTC)
	for name, make := range map[string]func(*testing.T) seen{
		"single":                bus("Single", "one", "binary", ""),
		"single-string":         bus("Text", "one", "", ""),
		"batch":                 bus("Batch", "many", "binary", ""),
		"session-single":        bus("SessionSingle", "one", "binary", "gpu"),
		"session-batch":         bus("SessionBatch", "many", "binary", "gpu"),
		"timer":                 tick("Timer", status{Last: at, Next: at.Truncate(time.Minute).Add(5 * time.Minute), LastUpdated: at}, true, at),
		"timer-past-due":        tick("TimerPastDue", status{Last: at.Add(-4 * time.Hour), Next: at.Truncate(time.Minute).Add(-4*time.Hour + 5*time.Minute), LastUpdated: at.Add(-4 * time.Hour)}, true, at),
		"timer-without-monitor": tick("TimerBare", status{}, false, at),
		"http": web(&function{name: "Http", output: "res", trigger: binding{Name: "req", Type: httpTrigger, AuthLevel: "anonymous", Route: &route}},
			"/api/pools/gpu?x=1", http.Header{"Content-Type": {"application/json"}}, false),
		"http-forwarded": web(&function{name: "Forwarded", output: "res", trigger: binding{Name: "req", Type: httpTrigger, AuthLevel: "anonymous", Route: &forwarded}},
			"/api/forwarded?x=1", http.Header{"Content-Type": {"application/json"}, "X-Own": {"a", "b"}, "X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Host": {"example.com"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}, true),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(filepath.Join("../../shared/invoke/testdata/golden", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var want seen
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			compare(t, "", tree(t, make(t).normalise(t)), tree(t, want))
		})
	}
}

// Requests have a trace only with Application Insights: a new one on invocations, the
// client's on requests that are passed on.
func TestTraces(t *testing.T) {
	t.Parallel()
	const came = "0af7651916cd43dd8448eb211c80319c"
	route := "{*path}"
	f := &function{name: "Any", output: "res", trigger: binding{Name: "req", Type: httpTrigger, AuthLevel: "anonymous", Route: &route}}
	if err := f.readHTTP(); err != nil {
		t.Fatal(err)
	}
	h, got := goldenHost(t, f)
	h.cfg.Settings["APPLICATIONINSIGHTS_CONNECTION_STRING"] = "InstrumentationKey=x"
	h.file.CustomHandler.EnableProxyingHTTPRequest = true
	r := httptest.NewRequest(http.MethodPost, "/api/x", strings.NewReader(`{}`))
	r.Header.Set("traceparent", "00-"+came+"-b7ad6b7169203331-01")
	h.routes().ServeHTTP(httptest.NewRecorder(), r)
	if trace := http.Header(hear(t, got).Headers).Get("traceparent"); !strings.HasPrefix(trace, "00-"+came+"-") ||
		strings.Contains(trace, "b7ad6b7169203331") {
		t.Errorf("passed on: got %q", trace)
	}
	if _, err := h.call(t.Context(), f, h.invocation(f), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if trace := http.Header(hear(t, got).Headers).Get("traceparent"); len(trace) != 55 || strings.Contains(trace, came) {
		t.Errorf("an invocation: got %q", trace)
	}
}

func hear(t *testing.T, got <-chan seen) seen {
	t.Helper()
	select {
	case s := <-got:
		return s
	case <-time.After(testTime):
		t.Fatal("the handler got no request")
		return seen{}
	}
}

func tree(t *testing.T, v any) (out any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// compare reports the path of each value that differs. It compares strings that hold JSON
// as JSON.
func compare(t *testing.T, path string, got, want any) {
	t.Helper()
	g, gok := got.(map[string]any)
	w, wok := want.(map[string]any)
	if gok && wok {
		for name := range g {
			if _, ok := w[name]; !ok {
				t.Errorf("%s/%s: got %v, want none", path, name, g[name])
			}
		}
		for name := range w {
			if _, ok := g[name]; !ok {
				t.Errorf("%s/%s: got none, want %v", path, name, w[name])
				continue
			}
			compare(t, path+"/"+name, g[name], w[name])
		}
		return
	}
	a, aok := got.(string)
	b, bok := want.(string)
	var in, out any
	if aok && bok && json.Unmarshal([]byte(a), &in) == nil && json.Unmarshal([]byte(b), &out) == nil {
		got, want = in, out
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %#v\nwant %#v", path, got, want)
	}
}

var discard = slog.New(slog.DiscardHandler)
