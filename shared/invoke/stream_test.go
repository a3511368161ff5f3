package invoke

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// What the real host sends when somebody runs a function by hand: a list of one
// beside the metadata of a single message without an id.
const byHandPayload = `{"Data":{"messages":"[\"{\\\"pool\\\":\\\"cpu\\\"}\"]"},"Metadata":{"DeliveryCount":"0","EnqueuedTimeUtc":"0001-01-01T00:00:00","SequenceNumber":"-1",
	"LockToken":"\"00000000-0000-0000-0000-000000000000\"","ApplicationProperties":{},"UserProperties":{},"sys":{"MethodName":"SubmitJob"}}}`

func TestTextMessages(t *testing.T) {
	t.Parallel()
	odd := Message{
		Body:           []byte("[1, \"two\"]\n\u00e9\U0001f600"),
		ID:             "m-9",
		DeliveryCount:  1,
		SequenceNumber: 3,
		EnqueuedAt:     enqueued,
		Properties:     map[string]any{},
	}
	base := Message{
		Body:           []byte("aGVsbG8="),
		ID:             "m-10",
		DeliveryCount:  1,
		SequenceNumber: 4,
		EnqueuedAt:     enqueued,
		Properties:     map[string]any{},
	}
	for _, tt := range []struct {
		name    string
		payload string
		want    []Message
	}{
		{"batch", string(invocation("F", "m").Batch([]Delivery{delivery(odd, 1), delivery(base, 2)}, false)), []Message{odd, base}},
		{"by hand, of the real host", byHandPayload, []Message{{Body: []byte(`{"pool":"cpu"}`), SequenceNumber: -1, Properties: map[string]any{}}}},
		{"by hand, of this one", string(invocation("F", "m").ByHand(`{"pool":"cpu"}`, true, false)), []Message{{Body: []byte(`{"pool":"cpu"}`), SequenceNumber: -1, Properties: map[string]any{}}}},
		{"metadata first", `{"Metadata":{"MessageIdArray":"[\"a\",null]"},"more":[{"x":"}"}],"Data":{"m":"[\"1\",null]"}}`, []Message{{Body: []byte("1"), ID: "a"}, {}}},
		{"single, text in a text", `{"Data":{"m":"\"aGVsbG8=\""},"Metadata":{}}`, []Message{{Body: []byte("aGVsbG8=")}}},
		{"single, text in one string", `{"Data":{"m":"aGVsbG8="},"Metadata":{}}`, []Message{{Body: []byte("aGVsbG8=")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for name, r := range map[string]io.Reader{"whole": strings.NewReader(tt.payload), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.payload))} {
				got, err := readMessages(r, true)
				if err != nil || !reflect.DeepEqual(got, tt.want) {
					t.Errorf("%s:\n got %+v, %v\nwant %+v", name, got, err, tt.want)
				}
			}
		})
	}
}

// By hand with dataType binary, and what a text loses or gains on its way.
func TestFormsOfBodies(t *testing.T) {
	t.Parallel()
	got, err := readMessages(bytes.NewReader(invocation("F", "m").ByHand("hello", true, true)), false)
	if err != nil || len(got) != 1 || string(got[0].Body) != "hello" || got[0].SequenceNumber != -1 {
		t.Errorf("by hand: got %+v, %v", got, err)
	}
	for in, want := range map[string]string{"plain": "plain", "\xff\xfeh\x00i\x00": "hi", "\xfe\xff\x00h\x00i": "hi", "\xef\xbb\xbfmarked": "marked", "a\xffb": "a\ufffdb"} {
		got, err := readMessages(
			bytes.NewReader(invocation("F", "m").Batch([]Delivery{delivery(Message{ID: "1", Body: []byte(in)}, 1)}, false)),
			true,
		)
		if err != nil || string(got[0].Body) != want {
			t.Errorf("%q: got %q, %v, want %q", in, got[0].Body, err, want)
		}
	}
}

// A message that somebody made up at the host's door has the name of its
// invocation, since it has no other.
func TestByHandHasAName(t *testing.T) {
	t.Parallel()
	a := newApp(io.Discard)
	var got []Message
	a.TextBatch("SubmitJob", func(_ context.Context, msgs []Message) error { got = msgs; return nil })
	r := httptest.NewRequest("POST", "/SubmitJob", strings.NewReader(byHandPayload))
	r.Header.Set(HeaderInvocation, "inv-7")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	if w.Code != 200 || len(got) != 1 || got[0].ID != "inv-7" {
		t.Errorf("got %d, %+v", w.Code, got)
	}
}

// Never expires is the last moment that .NET knows.
func TestNeverExpires(t *testing.T) {
	t.Parallel()
	d := delivery(plainMessage, 1)
	d.ExpiresAt = time.Time{}
	for form, b := range map[string][]byte{`"ExpiresAtUtc":"9999-12-31T23:59:59"`: invocation("F", "m").Single(d, true),
		`\"9999-12-31T23:59:59.9999999\"`: invocation("F", "m").Batch([]Delivery{d}, true)} {
		if !bytes.Contains(b, []byte(form)) {
			t.Errorf("%s is not in %s", form, b)
		}
	}
}

// A payload that breaks off, goes on or is too much is refused, wherever.
func TestPayloadsThatBreakOff(t *testing.T) {
	t.Parallel()
	whole := invocation("F", "m").Batch([]Delivery{delivery(plainMessage, 1), delivery(fullMessage, 2)}, true)
	for n := range len(whole) - 1 {
		if got, err := readMessages(bytes.NewReader(whole[:n]), false); err == nil {
			t.Fatalf("%d of %d bytes were taken for %+v", n, len(whole), got)
		}
	}
	for _, tt := range []string{`{"Data":{"m":"[\"\",\"\"]"},"Metadata":{}}`, `{"Data":{"m":"\q"}}`, `{"Data":{"m":"\u12"}}`, `{"Data":{"m":"["},"Metadata":{}}`, `{"Data":{"m":"[1]"},"Metadata":{}}`} {
		if got, err := readMessages(strings.NewReader(tt), true); err == nil {
			t.Errorf("%s was taken for %+v", tt, got)
		}
	}
	endless := io.MultiReader(strings.NewReader(`{"Data":{"m":"[\"`), endlessly('x'))
	if _, err := readMessages(endless, true); !errors.Is(err, errTooMuch) {
		t.Errorf("without end: got %v", err)
	}
	endless = io.MultiReader(strings.NewReader(`{"Data":{"m":"[]"},"Metadata":{"x":"`), endlessly('x'))
	if _, err := readMessages(endless, true); !errors.Is(err, errTooMuch) {
		t.Errorf("metadata without end: got %v", err)
	}
	empty := io.MultiReader(
		strings.NewReader(`{"Data":{"m":"[`),
		strings.NewReader(strings.Repeat("null,", maxMessages+1)),
		strings.NewReader(`null]"}}`),
	)
	if _, err := readMessages(empty, true); !errors.Is(err, errTooMuch) {
		t.Errorf("too many: got %v", err)
	}
}

type endlessly byte

func (e endlessly) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// The largest batch, quoted twice as the host does, costs little more than its
// bodies: the payload is never there as a whole.
func TestMemoryOfABatch(t *testing.T) {
	const n, size = 100, 250 << 10
	body := bytes.Repeat([]byte(`{"k":"v"},`), size/10)
	all := make([]Delivery, n)
	for i := range all {
		all[i] = delivery(Message{ID: fmt.Sprint(i), Body: body, Properties: map[string]any{}}, i)
	}
	payload := invocation("F", "m").Batch(all, false)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, err := readMessages(bytes.NewReader(payload), true)
	runtime.ReadMemStats(&after)
	if err != nil || len(got) != n || !bytes.Equal(got[n-1].Body, body) {
		t.Fatalf("got %d, %v", len(got), err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > n*size+n*size/4 {
		t.Errorf("%d MB were allocated for %d MB of bodies in a payload of %d MB", used>>20, n*size>>20, len(payload)>>20)
	}
}

// What a string stands for is what encoding/json says.
func FuzzUnquoted(f *testing.F) {
	for _, seed := range []string{"plain", `a"b\c`, "\x00\n\u2028", "\U0001f600", "\xff", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(&unquoted{r: bufio.NewReaderSize(bytes.NewReader(raw[1:]), 16), most: len(raw) + 1})
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", raw, got, err, want)
		}
	})
}
