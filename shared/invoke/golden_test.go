package invoke

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Each request that the real host sends is read, and answered so that the host
// takes it for a success.
func TestGoldenRequests(t *testing.T) {
	t.Parallel()
	one := Message{Body: []byte(`{"jobId":"j1","n":2}`), ID: "m-1", ContentType: "application/json", SequenceNumber: 1, DeliveryCount: 1,
		EnqueuedAt: time.Date(2023, 10, 12, 20, 13, 49, 0, time.UTC), Properties: map[string]any{}}
	two := Message{
		Body:           []byte("hello"),
		ID:             "m-2",
		SequenceNumber: 2,
		DeliveryCount:  1,
		EnqueuedAt:     one.EnqueuedAt.Add(time.Second),
		Properties:     map[string]any{"tenant": "a"},
	}
	exact := one
	exact.EnqueuedAt = one.EnqueuedAt.Add(123 * time.Millisecond) // lists keep sub-seconds
	session := func(msgs ...Message) []Message {
		for i := range msgs {
			msgs[i].SessionID = "gpu"
		}
		return msgs
	}
	last := time.Date(2026, 1, 5, 10, 0, 0, 12e5, time.UTC)
	next := time.Date(2026, 1, 5, 10, 5, 0, 0, time.UTC)
	for name, want := range map[string]any{
		"single":                []Message{one},
		"single-string":         []Message{one},
		"batch":                 []Message{exact, two},
		"session-single":        session(one),
		"session-batch":         session(exact, two),
		"timer":                 Tick{Last: last, Next: next},
		"timer-past-due":        Tick{PastDue: true, Last: last.Add(-4 * time.Hour), Next: next.Add(-4 * time.Hour)},
		"timer-without-monitor": Tick{},
		"http-forwarded":        `POST /api/forwarded?x=1 {"id":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var request struct {
				Method, Path string
				Headers      http.Header
				Body         json.RawMessage
			}
			if err := json.Unmarshal(golden(t, "golden/"+name), &request); err != nil {
				t.Fatal(err)
			}
			var compact strings.Builder
			if name == "http-forwarded" {
				compact.WriteString(`{"id":1}`)
			} else {
				compact.Write(request.Body)
			}
			r := httptest.NewRequest(request.Method, request.Path, strings.NewReader(compact.String()))
			r.Header = request.Headers
			var got any
			a := New(slog.New(slog.DiscardHandler))
			function := strings.TrimPrefix(request.Path, "/")
			switch want.(type) {
			case []Message:
				a.Batch(function, func(_ context.Context, msgs []Message) error { got = msgs; return nil })
			case Tick:
				a.Timer(function, func(_ context.Context, tick Tick) error { got = tick; return nil })
			default:
				a.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					b, _ := io.ReadAll(r.Body)
					got = r.Method + " " + r.URL.RequestURI() + " " + string(b)
				}))
			}
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("\n got %#v\nwant %#v", got, want)
			}
			if _, isHTTP := want.(string); !isHTTP {
				if _, err := ReadReply(w.Result(), 1<<20); err != nil {
					t.Errorf("the reply is no success: %v", err)
				}
			}
		})
	}
}
