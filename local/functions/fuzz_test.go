//go:build unix

package functions

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/shared/invoke"
)

// The next time of a valid schedule is later, in UTC, and matches the schedule.
func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"0 */5 * * * *", "*/5 * * * *", "0 0 9 1-7 * MON", "TZ=", "@every 1s", "00:05:00", "0 0 0 30 2 *", "0-59/0 * * * * *", "99999999999999999999 * * * * *"} {
		f.Add(seed)
	}
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		schedule, err := parseSchedule(s)
		if err != nil {
			return
		}
		next := schedule.Next(noon)
		if next.IsZero() {
			return // it has no time within the years that the package searches
		}
		if !next.After(noon) || next.Location() != time.UTC || !schedule.Next(next.Add(-time.Second)).Equal(next) {
			t.Errorf("%q: %v follows %v", s, next, noon)
		}
	})
}

// A span is never negative.
func FuzzSpan(f *testing.F) {
	for _, seed := range []string{"00:05:00", "-1", "1.02:03:04.5", "-00:00:00.0010000", "..:::", "1e9:0:0", "999999.999999:999999:999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got span
		if err := got.UnmarshalText([]byte(s)); err == nil && (got.d < 0 || !got.set) {
			t.Errorf("%q: got %+v", s, got)
		}
	})
}

// Any text of a setting opens a client or is refused.
func FuzzConnectionString(f *testing.F) {
	for _, seed := range []string{"Endpoint=sb://team.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=b", "Endpoint=sb://127.0.0.1:5;SharedAccessKeyName=a;SharedAccessKey=b;UseDevelopmentEmulator=true",
		";;=;", "Endpoint", "endpoint = x", "Endpoint=sb://;SharedAccessSignature=", "Endpoint=%zz;EntityPath=q"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		settings := map[string]string{"Bus": s}
		if host := namespace(settings, "Bus"); len(host) > len(s) {
			t.Errorf("%q has the host %q", s, host)
		}
		var b buses
		client, err := b.client(settings, "Bus")
		if err == nil {
			_ = client.Close(context.Background())
		}
	})
}

// For any HTTP output, the answer has a status that a client can read.
func FuzzOutput(f *testing.F) {
	for _, seed := range []string{`{"statusCode":"202","headers":{"X-A":"b"},"body":"x"}`, `"{\"statusCode\":201}"`, `{"statusCode":-1}`, `{"statusCode":101}`, `{"headers":{"":"","a b":"c\r\nd: e"}}`, `[]`, `null`, `{"body":{"a":[1]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := httptest.NewRecorder()
		writeOutput(w, raw)
		if w.Code < 200 || w.Code > 999 {
			t.Errorf("%q: got status %d", raw, w.Code)
		}
	})
}

// With any status file, the timer has a next time, and only a time in the past is late.
func FuzzStatus(f *testing.F) {
	for _, seed := range []string{`{"Last":"2026-01-01T10:00:00Z","Next":"2026-01-01T10:10:00Z"}`, `{}`, `{`, `{"Next":"9999-12-31T23:59:59Z"}`, `{"Next":"0001-01-01T00:00:01Z"}`} {
		f.Add([]byte(seed))
	}
	schedule, err := parseSchedule("0 */10 * * * *")
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, b []byte) {
		tm := &timer{
			f:    &function{schedule: schedule},
			path: filepath.Join(t.TempDir(), "T.json"),
			log:  discard,
			now:  func() time.Time { return now },
		}
		if err := os.WriteFile(tm.path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if next, late := tm.findNext(tm.read()); next.IsZero() || late != next.Before(now) {
			t.Errorf("%q: next %v, late %v", b, next, late)
		}
	})
}

// For any message, the invocation is JSON, and the handler reads the sent values from it.
func FuzzInvocation(f *testing.F) {
	f.Add([]byte(`{"DeliveryCount":40}`), "id", "gpu", true)
	f.Add([]byte{0, 255}, "[2]", `"`, false)
	f.Fuzz(func(t *testing.T, body []byte, id, session string, binary bool) {
		inv := invoke.Invocation{Function: "F", Binding: "m", ID: "x", At: time.Unix(0, 0)}
		d := invoke.Delivery{Message: invoke.Message{Body: body, ID: id, SessionID: session, Properties: map[string]any{id: session}}}
		for _, b := range [][]byte{inv.Single(d, binary), inv.Batch([]invoke.Delivery{d, d}, binary)} {
			if !json.Valid(b) {
				t.Errorf("not JSON: %s", b)
			}
		}
	})
}
