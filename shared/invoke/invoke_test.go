package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"
)

var at = time.Date(2026, 1, 5, 10, 0, 0, 123e6, time.UTC)

func TestBatchRoundTrip(t *testing.T) {
	t.Parallel()
	want := []Message{
		{Body: []byte(`{"pool":"cpu"}`), ID: "m-1", ContentType: "application/json", SequenceNumber: 7, DeliveryCount: 1, EnqueuedAt: at, Properties: map[string]any{"a": "b"}},
		{Body: []byte{0, 255, '"'}, ID: "[1]", Subject: "s", CorrelationID: "c", SessionID: "x", SequenceNumber: 8, DeliveryCount: 2, EnqueuedAt: at.Add(time.Second), Properties: map[string]any{}},
	}
	got, err := decodeMessages(EncodeBatch("F", "messages", "guid", at, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// The payload has the shape that the host is known to send: lists as texts.
func TestBatchShape(t *testing.T) {
	t.Parallel()
	var p map[string]map[string]any
	if err := json.Unmarshal(EncodeBatch("F", "messages", "g", at, []Message{{Body: []byte("hello"), ID: "m", EnqueuedAt: at}}), &p); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"MessageIdArray": `["m"]`, "DeliveryCountArray": `[0]`, "ContentTypeArray": `[null]`,
		"EnqueuedTimeUtcArray": `["2026-01-05T10:00:00.123"]`, "EnqueuedTimeArray": `["2026-01-05T10:00:00.123+00:00"]`} {
		if got := p["Metadata"][name]; got != want {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
	if got, want := p["Data"]["messages"], `["aGVsbG8="]`; got != want {
		t.Errorf("data: got %v, want %s", got, want)
	}
}

func TestSingleMessage(t *testing.T) {
	t.Parallel()
	body := `{"Data":{"msg":"eyJhIjoxfQ=="},"Metadata":{"MessageId":"\"m-1\"","DeliveryCount":"3","SequenceNumber":"9",
		"EnqueuedTimeUtc":"2026-01-05T10:00:00","ContentType":"\"application/json\"","ApplicationProperties":{"k":"v"},"sys":{}}}`
	got, err := decodeMessages([]byte(body))
	want := []Message{{Body: []byte(`{"a":1}`), ID: "m-1", ContentType: "application/json", DeliveryCount: 3, SequenceNumber: 9,
		EnqueuedAt: at.Truncate(time.Second), Properties: map[string]any{"k": "v"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestTimerRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []Tick{{}, {PastDue: true, Last: at, Next: at.Add(time.Minute)}} {
		got, err := decodeTick(EncodeTimer("F", "timer", "g", at, want))
		if err != nil || got.PastDue != want.PastDue || !got.Last.Equal(want.Last) || !got.Next.Equal(want.Next) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	app := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	app.Batch("Good", func(context.Context, []Message) error { return nil })
	app.Batch("Bad", func(context.Context, []Message) error { return errors.New("no") })
	app.Timer("Panics", func(context.Context, Tick) error { panic("oh") })
	server := httptest.NewServer(app.mux)
	defer server.Close()
	for _, tt := range []struct {
		path, body string
		status     int
	}{
		{"Good", string(EncodeBatch("Good", "m", "g", at, []Message{{Body: []byte("x")}})), 200},
		{"Bad", string(EncodeBatch("Bad", "m", "g", at, nil)), 500},
		{"Panics", string(EncodeTimer("Panics", "t", "g", at, Tick{})), 500},
		{"Good", "not json", 500},
		{"Unknown", "{}", 404},
	} {
		r, err := http.Post(server.URL+"/"+tt.path, "application/json", bytes.NewReader([]byte(tt.body)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != tt.status {
			t.Errorf("%s: got %d, want %d", tt.path, r.StatusCode, tt.status)
		}
		if r.StatusCode == 200 && (r.Header.Get("Content-Type") != "application/json" || !json.Valid(body)) {
			t.Errorf("%s: a success that the host would not take: %q", tt.path, body)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(EncodeBatch("F", "m", "g", at, []Message{{Body: []byte("x"), ID: "1"}}))
	f.Add(EncodeTimer("F", "t", "g", at, Tick{Last: at, Next: at}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ms, err := decodeMessages(b); err == nil && len(ms) > len(b) {
			t.Errorf("%d messages out of %d bytes", len(ms), len(b))
		}
		_, _ = decodeTick(b)
	})
}
