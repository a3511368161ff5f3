package invoke

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	enqueued = time.Date(2026, 1, 5, 10, 0, 0, 123e6, time.UTC)
	expires  = time.Date(2026, 1, 19, 10, 0, 0, 0, time.UTC)
)

var plainMessage = Message{
	Body:           []byte(`{"pool":"cpu"}`),
	ID:             "m-1",
	ContentType:    "application/json",
	SequenceNumber: 7,
	DeliveryCount:  1,
	EnqueuedAt:     enqueued,
	Properties:     map[string]any{},
}

// fullMessage has bytes that are no text, an id that looks like JSON, and a
// number that a float64 cannot hold.
var fullMessage = Message{
	Body:           []byte{0, 255, '"'},
	ID:             "[2]",
	Subject:        "push",
	CorrelationID:  "c-1",
	SessionID:      "gpu.4",
	SequenceNumber: 9007199254740993,
	DeliveryCount:  2,
	EnqueuedAt:     time.Date(2026, 1, 5, 10, 0, 1, 0, time.UTC),
	Properties:     map[string]any{"team": "vision", "tries": int64(3), "share": 0.5},
}

func delivery(m Message, token int) Delivery {
	return Delivery{
		Message:      m,
		LockToken:    fmt.Sprintf("0a1b2c3d-0000-4000-8000-%012d", token),
		ExpiresAt:    expires,
		PartitionKey: m.SessionID,
	}
}

func invocation(function, binding string) Invocation {
	return Invocation{
		Function:  function,
		Binding:   binding,
		ID:        "5a0e4f8c-3d1b-4b58-9a57-0d4c2b1f6e11",
		Namespace: "team.servicebus.windows.net",
		At:        time.Date(2026, 1, 5, 10, 5, 0, 4275e3, time.UTC),
	}
}

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func textMessage() Message {
	return Message{
		Body:           []byte(`{"DeliveryCount":40,"list":[1],"name":"a","none":null,"on":true,"spec":{"n":1}}`),
		ID:             "m-3",
		SequenceNumber: 12,
		DeliveryCount:  1,
		EnqueuedAt:     fullMessage.EnqueuedAt,
		Properties:     map[string]any{},
	}
}

// What the host's end builds is, value for value, what the real host sends.
func TestBodies(t *testing.T) {
	t.Parallel()
	request := httptest.NewRequest(http.MethodPut, "http://localhost:7071/api/pools/gpu?x=1&y=2", strings.NewReader(`{"id":1}`))
	request.Header = http.Header{"Content-Type": {"application/json"}, "X-Two": {"a", "b"}}
	for name, got := range map[string][]byte{
		"batch":                invocation("SubmitJob", "messages").Batch([]Delivery{delivery(plainMessage, 1), delivery(fullMessage, 2)}, true),
		"single":               invocation("SubmitJob", "message").Single(delivery(fullMessage, 2), true),
		"text":                 invocation("SubmitJob", "message").Single(delivery(textMessage(), 3), false),
		"timer":                invocation("Reconcile", "timer").Tick(Tick{PastDue: true, Last: time.Date(2026, 1, 5, 10, 0, 0, 1200e3, time.UTC), Next: time.Date(2026, 1, 5, 10, 5, 0, 0, time.UTC)}),
		"timer-without-status": invocation("Reconcile", "timer").Tick(Tick{}),
		"request":              invocation("Pools", "req").Request(request, map[string]string{"name": "gpu"}, []byte(`{"id":1}`)),
	} {
		t.Run(name, func(t *testing.T) {
			var gotTree, wantTree map[string]map[string]any
			if err := json.Unmarshal(got, &gotTree); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(golden(t, name), &wantTree); err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{"Data", "Metadata"} {
				for key := range merged(gotTree[part], wantTree[part]) {
					if g, w := gotTree[part][key], wantTree[part][key]; !reflect.DeepEqual(g, w) {
						t.Errorf("%s.%s:\n got %#v\nwant %#v", part, key, g, w)
					}
				}
			}
		})
	}
}

func merged(a, b map[string]any) map[string]bool {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	return keys
}

func TestMessages(t *testing.T) {
	t.Parallel()
	text := textMessage()
	text.DeliveryCount = 40 // shadowed by the body's field, as in the cloud
	twisted := Message{Body: []byte("hello"), ID: "5", SequenceNumber: 9, DeliveryCount: 1, EnqueuedAt: enqueued}
	for _, tt := range []struct {
		name    string
		payload []byte
		want    []Message
	}{
		{"batch", golden(t, "batch"), []Message{plainMessage, fullMessage}},
		{"single", golden(t, "single"), []Message{fullMessage}},
		{"text", golden(t, "text"), []Message{text}},
		{"body in one string", []byte(`{"Data":{"m":"{\"a\":1}"},"Metadata":{}}`), []Message{{Body: []byte(`{"a":1}`)}}},
		{"body parsed by the host", []byte(`{"Data":{"m":{"a":1}},"Metadata":{}}`), []Message{{Body: []byte(`{"a":1}`)}}},
		{"empty body", []byte(`{"Data":{"m":""},"Metadata":{"DeliveryCount":null}}`), []Message{{Body: []byte{}}}},
		{"lists without strings around them", []byte(`{"Data":{"m":["aGVsbG8="]},"Metadata":{"MessageIdArray":["5"],"SequenceNumberArray":[9],"DeliveryCountArray":[1],
			"EnqueuedTimeUtcArray":["2026-01-05T10:00:00.123Z"],"SubjectArray":[null],"ApplicationPropertiesArray":[null]}}`), []Message{twisted}},
		{"lists of strings", []byte(`{"Data":{"m":"[\"aGVsbG8=\"]"},"Metadata":{"MessageIdArray":"[\"\\\"5\\\"\"]","SequenceNumberArray":"[\"9\"]","DeliveryCountArray":"[\"1\"]",
			"EnqueuedTimeUtcArray":"[\"2026-01-05T11:00:00.123+01:00\"]"}}`), []Message{twisted}},
		{"no messages", []byte(`{"Data":{"m":"[]"},"Metadata":{"MessageIdArray":"[]"}}`), []Message{}},
		{"plain numbers", []byte(`{"Data":{"m":"aGVsbG8="},"Metadata":{"MessageId":"5","SequenceNumber":9,"DeliveryCount":1,"EnqueuedTimeUtc":"2026-01-05T10:00:00.123Z"}}`), []Message{twisted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readMessages(bytes.NewReader(tt.payload), false)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("\n got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestMessagesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, payload, want string }{
		{"not JSON", `hello`, "not the JSON that the host sends"},
		{"no input", `{"Data":{},"Metadata":{}}`, "has 0 inputs"},
		{"two inputs", `{"Data":{"a":"","b":""}}`, "has 2 inputs"},
		{"batch of texts", `{"Data":{"m":"[\"{}\"]"},"Metadata":{"MessageIdArray":"[\"1\"]"}}`, `"dataType": "binary"`},
		{"list too short", `{"Data":{"m":"[\"\",\"\"]"},"Metadata":{"MessageIdArray":"[\"1\"]"}}`, "2 messages came with 1 values of MessageIdArray"},
		{"no list", `{"Data":{"m":"[\"\"]"},"Metadata":{"MessageIdArray":"{}"}}`, "MessageIdArray is not a list"},
		{"no number", `{"Data":{"m":"[\"\"]"},"Metadata":{"SequenceNumberArray":"[\"x\"]"}}`, "SequenceNumberArray, message 0"},
		{"no properties", `{"Data":{"m":"[\"\"]"},"Metadata":{"MessageIdArray":"[\"1\"]","ApplicationPropertiesArray":"[5]"}}`, "ApplicationPropertiesArray, message 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readMessages(strings.NewReader(tt.payload), false)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	next := time.Date(2026, 1, 5, 10, 5, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		payload []byte
		want    Tick
	}{
		{"with status", golden(t, "timer"), Tick{PastDue: true, Last: time.Date(2026, 1, 5, 10, 0, 0, 1200e3, time.UTC), Next: next}},
		{"without status", golden(t, "timer-without-status"), Tick{}},
		{"never before, in .NET's zero", []byte(`{"Data":{"t":{"ScheduleStatus":{"Last":"0001-01-01T00:00:00","Next":"2026-01-05T10:05:00+00:00"}}}}`), Tick{Next: next}},
		{"in a string", []byte(`{"Data":{"t":"{\"IsPastDue\":true}"}}`), Tick{PastDue: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeTick(tt.payload)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := decodeTick([]byte(`{"Data":{"t":"soon"}}`)); err == nil {
		t.Error("a tick that is a word was read")
	}
}

// A body is passed on only if its length was announced, and as base64 if it is
// no text.
func TestRequestBodies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kind string
		length     int64
		want       any
	}{
		{"text", "text/plain", 2, "hi"},
		{"binary", "application/octet-stream", 2, "aGk="},
		{"form with files", "multipart/form-data; boundary=x", 2, "aGk="},
		{"chunked", "text/plain", -1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "http://localhost/api/F", strings.NewReader("hi"))
			r.ContentLength = tt.length
			r.Header.Set("Content-Type", tt.kind)
			var got struct {
				Data map[string]map[string]any
			}
			if err := json.Unmarshal(invocation("F", "req").Request(r, nil, []byte("hi")), &got); err != nil {
				t.Fatal(err)
			}
			if got.Data["req"]["Body"] != tt.want {
				t.Errorf("got %v, want %v", got.Data["req"]["Body"], tt.want)
			}
		})
	}
}

// Whatever comes is read or refused, and never grows into more messages than it
// has bytes.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"batch", "single", "text", "timer", "timer-without-status"} {
		f.Add(golden(f, name))
	}
	f.Add([]byte(`{"Data":{"m":"[null]"},"Metadata":{"MessageIdArray":"[null]"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if msgs, err := readMessages(bytes.NewReader(b), false); err == nil && len(msgs) > max(len(b), 1) {
			t.Errorf("%d messages out of %d bytes", len(msgs), len(b))
		}
		_, _ = decodeTick(b)
	})
}

func thousand() []Delivery {
	all := make([]Delivery, 1000)
	for i := range all {
		m := plainMessage
		m.ID, m.SequenceNumber, m.Body = fmt.Sprint("job-", i), int64(i), bytes.Repeat([]byte("0123456789abcdef"), 32)
		all[i] = delivery(m, i)
	}
	return all
}

func BenchmarkEncodeBatch(b *testing.B) {
	all := thousand()
	for b.Loop() {
		invocation("SubmitJob", "messages").Batch(all, true)
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	payload := invocation("SubmitJob", "messages").Batch(thousand(), true)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if msgs, err := readMessages(bytes.NewReader(payload), false); err != nil || len(msgs) != 1000 {
			b.Fatal(len(msgs), err)
		}
	}
}

// TestBatchIsQuotedAsByTheStandardEncoder: texts of every kind in all places, twice quoted.
func TestBatchIsQuotedAsByTheStandardEncoder(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", `"\/`, "a<b>&c", "\x01\n\t\x7f", "é\u2028😀", "\xff"} {
		if got, want := string(appendQuoted([]byte("x"), s)), "x"+string(object(s)); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
		m := Message{ID: s, Subject: s, Body: []byte(s), Properties: map[string]any{"k": s}}
		var out struct {
			Data, Metadata map[string]json.RawMessage
		}
		if err := json.Unmarshal(invocation("F", "m").Batch([]Delivery{delivery(m, 1), delivery(m, 2)}, false), &out); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		for name, want := range map[string]any{
			"MessageIdArray":             []string{s, s},
			"ApplicationPropertiesArray": []any{m.Properties, m.Properties},
			"DeliveryCountArray":         []int{0, 0},
			"DeadLetterSourceArray":      []any{nil, nil},
		} {
			if got := out.Metadata[name]; !bytes.Equal(got, text(want)) {
				t.Errorf("%q: %s is %s, want %s", s, name, got, text(want))
			}
		}
		if got, want := out.Data["m"], text([]string{bodyOf([]byte(s), false), bodyOf([]byte(s), false)}); !bytes.Equal(got, want) {
			t.Errorf("%q: the bodies are %s, want %s", s, got, want)
		}
	}
}
