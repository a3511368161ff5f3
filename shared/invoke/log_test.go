package invoke

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Each line that a function or the API writes with its context carries the invocation,
// once, also through a logger with attributes and groups.
func TestLogHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(LogHandler(slog.NewTextHandler(&out, nil)))
	app := New(log)
	app.Timer("Tick", func(ctx context.Context, _ Tick) error {
		log.InfoContext(ctx, "first")
		log.With("pool", "cpu").WarnContext(ctx, "second")
		log.Info("third")
		return errors.New("broken")
	})
	app.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { log.InfoContext(r.Context(), "fourth") }))
	for _, request := range []struct{ method, url, id, body string }{
		{"POST", "/Tick", "i-1", `{"Data":{"timer":{"Schedule":{},"IsPastDue":false}},"Metadata":{}}`},
		{"GET", "/api/jobs", "i-2", ""},
	} {
		r := httptest.NewRequest(request.method, request.url, strings.NewReader(request.body))
		r.Header.Set(HeaderInvocation, request.id)
		app.ServeHTTP(httptest.NewRecorder(), r)
	}
	log.InfoContext(t.Context(), "fifth")
	for message, want := range map[string]string{"first": "i-1", "second": "i-1", "third": "", "invocation failed": "i-1", "fourth": "i-2", "fifth": ""} {
		found := false
		for line := range strings.Lines(out.String()) {
			if !strings.Contains(line, message) {
				continue
			}
			found = true
			if want == "" && strings.Contains(line, "invocation=") || want != "" && strings.Count(line, "invocation="+want) != 1 {
				t.Errorf("%s: got %q, want the invocation %q once", message, line, want)
			}
		}
		if !found {
			t.Errorf("no line says %q: %s", message, out.String())
		}
	}
}
