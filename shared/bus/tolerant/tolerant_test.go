package tolerant_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/bus/tolerant/tolerantest"
)

func start(t *testing.T) (send func(*azservicebus.AMQPAnnotatedMessage), receiver *azservicebus.Receiver,
	take func([]byte) *tolerant.Original) {
	t.Helper()
	bus, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"),
		Queues:     []servicebus.QueueConfig{{Name: "jobs"}},
		AccessKeys: []servicebus.AccessKey{{Name: "root", Key: "cm9vdA==", Send: true, Listen: true, Manage: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	host, plain := tolerant.Endpoint(bus.ConnectionString("root"))
	dialer := &tolerant.Dialer{Host: host, Plain: plain}
	client := func(dial func(context.Context) (net.Conn, error)) *azservicebus.Client {
		c, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString("root"), &azservicebus.ClientOptions{
			NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) { return dial(ctx) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			c.Close(ctx)
		})
		return c
	}
	sender, err := client(func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		return tolerantest.Conn{Conn: c}, err
	}).NewSender("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	if receiver, err = client(dialer.Dial).NewReceiverForQueue("jobs", nil); err != nil {
		t.Fatal(err)
	}
	return func(m *azservicebus.AMQPAnnotatedMessage) {
		t.Helper()
		if err := sender.SendAMQPAnnotatedMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}, receiver, dialer.Take
}

// Every message comes through, also those whose types the client does not read, and
// what each really holds is kept.
func TestEveryMessageComesThrough(t *testing.T) {
	t.Parallel()
	send, receiver, take := start(t)
	long := strings.Repeat("0123456789", 20_000) // more than one frame
	data := func(s string) azservicebus.AMQPAnnotatedMessageBody {
		return azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte(s)}}
	}
	value := func(v any) azservicebus.AMQPAnnotatedMessageBody {
		return azservicebus.AMQPAnnotatedMessageBody{Value: v}
	}
	tests := []struct {
		name       string
		body       azservicebus.AMQPAnnotatedMessageBody
		properties map[string]any
		kind       tolerant.Kind
		want       any    // Plain
		wantProps  string // as JSON; "" = nothing is kept
	}{
		{"bytes", data("hello"), map[string]any{"n": int64(5)}, tolerant.Data, nil, ""},
		{"decimal property", data("hello"), map[string]any{"price": tolerantest.Decimal}, tolerant.Data, []byte("hello"), `{"price":"1.5"}`},
		{"char property", data("hello"), map[string]any{"letter": tolerantest.Char, "id": amqp.UUID{1, 2, 3}}, tolerant.Data, []byte("hello"),
			`{"id":"01020300-0000-0000-0000-000000000000","letter":"😀"}`},
		{"decimal property before a long body", data(long), map[string]any{"price": tolerantest.Decimal}, tolerant.Data, []byte(long),
			`{"price":"1.5"}`},
		{"text value", value("hello"), nil, tolerant.Value, "hello", `{}`},
		{"decimal value", value(tolerantest.Decimal), nil, tolerant.Value, "1.5", `{}`},
		{"char value", value(tolerantest.Char), nil, tolerant.Value, "😀", `{}`},
		{"number value", value(int64(7)), nil, tolerant.Value, int64(7), `{}`},
		{"truth value", value(true), nil, tolerant.Value, true, `{}`},
		{"map value", value(map[string]any{"a": tolerantest.Decimal, "b": []any{"x", tolerantest.Char}}), nil, tolerant.Value,
			map[string]any{"a": "1.5", "b": []any{"x", "😀"}}, `{}`},
		{"long map value", value(map[string]any{"a": long}), nil, tolerant.Value, map[string]any{"a": long}, `{}`},
		{"sequence", azservicebus.AMQPAnnotatedMessageBody{Sequence: [][]any{{"a", int64(1)}, {tolerantest.Decimal}}}, nil, tolerant.Sequence,
			[]any{[]any{"a", int64(1)}, []any{"1.5"}}, `{}`},
		{"several parts", azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("he"), []byte("llo")}}, nil, tolerant.Data,
			[]byte("hello"), `{}`},
		{"a reason that is no text", data("hello"), map[string]any{"DeadLetterReason": int64(5)}, tolerant.Data, []byte("hello"),
			`{"DeadLetterReason":5}`},
		{"bytes at the end", data("bye"), nil, tolerant.Data, nil, ""},
	}
	for _, tt := range tests {
		send(&azservicebus.AMQPAnnotatedMessage{Body: tt.body, ApplicationProperties: tt.properties,
			Properties: &azservicebus.AMQPAnnotatedMessageProperties{MessageID: tt.name}})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := 0; i < len(tests); {
		got, err := receiver.ReceiveMessages(ctx, len(tests), nil)
		if err != nil {
			t.Fatalf("after %d messages: %v", i, err)
		}
		for _, m := range got {
			tt := tests[i]
			i++
			o := take(m.RawAMQPMessage.DeliveryTag)
			if err := receiver.CompleteMessage(ctx, m, nil); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if m.MessageID != tt.name || (o == nil) != (tt.wantProps == "") {
				t.Errorf("got %q with %+v, want %q", m.MessageID, o, tt.name)
				continue
			}
			if o == nil {
				continue
			}
			props := map[string]any{}
			for _, p := range o.Properties {
				props[fmt.Sprint(tolerant.Plain(p.Key))] = tolerant.Plain(p.Value)
			}
			text, _ := json.Marshal(props)
			body := any(o.Body)
			if _, isBytes := body.([]byte); !isBytes {
				body = tolerant.Plain(body)
			}
			if o.Kind != tt.kind || string(text) != tt.wantProps || !reflect.DeepEqual(body, tt.want) {
				t.Errorf("%s: got kind %d, %s, %.80v; want kind %d, %s, %.80v", tt.name, o.Kind, text, body, tt.kind, tt.wantProps, tt.want)
			}
			if take(m.RawAMQPMessage.DeliveryTag) != nil {
				t.Errorf("%s: it is kept although it was taken", tt.name)
			}
		}
	}
}

// Without it, the first such message keeps all those behind it.
func TestTheClientAlone(t *testing.T) {
	t.Parallel()
	for _, odd := range []any{tolerantest.Decimal, tolerantest.Char} {
		b, err := (&amqp.Message{ApplicationProperties: map[string]any{"odd": odd}, Data: [][]byte{[]byte("x")}}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := (tolerantest.Conn{Conn: writer{&out}}).Write(b); err != nil {
			t.Fatal(err)
		}
		if err := new(amqp.Message).UnmarshalBinary(out.Bytes()); err == nil {
			t.Error("the client reads it by now; the package tolerant is not needed any more")
		}
	}
}

type writer struct{ w io.Writer }

func (w writer) Write(p []byte) (int, error)      { return w.w.Write(p) }
func (writer) Read([]byte) (int, error)           { return 0, io.EOF }
func (writer) Close() error                       { return nil }
func (writer) LocalAddr() net.Addr                { return nil }
func (writer) RemoteAddr() net.Addr               { return nil }
func (writer) SetDeadline(time.Time) error        { return nil }
func (writer) SetReadDeadline(time.Time) error    { return nil }
func (writer) SetWriteDeadline(t time.Time) error { return nil }

func TestPlain(t *testing.T) {
	t.Parallel()
	dotNet := func(name string, v any) tolerant.Described {
		return tolerant.Described{Descriptor: tolerant.Symbol("com.microsoft:" + name), Value: v}
	}
	for _, tt := range []struct{ in, want any }{
		{tolerant.Decimal("1.50"), "1.5"}, {tolerant.Decimal("100"), "100"}, {tolerant.Decimal("0.00"), "0"}, {tolerant.Decimal("1E+50"),
			"1E+50"},
		{dotNet("timespan", int64(905_000_000)), "00:01:30.5000000"}, {dotNet("timespan", int64(-936_610_000_000)), "-1.02:01:01"},
		{dotNet("datetime-offset", int64(639_000_000_000_000_000)), "2025-11-29T08:00:00+00:00"}, {dotNet("uri", "https://example.com/a"),
			"https://example.com/a"},
		{tolerant.Described{Descriptor: uint64(7), Value: tolerant.Char('x')}, map[string]any{"descriptor": uint64(7), "value": "x"}},
		{[]tolerant.Pair{{Key: uint32(1), Value: []any{nil, true}}}, map[string]any{"1": []any{nil, true}}}, {[]byte("hi"), "aGk="},
	} {
		if got := tolerant.Plain(tt.in); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%#v: got %#v, want %#v", tt.in, got, tt.want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Endpoint=sb://team.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=b=":     "team.servicebus.windows.net false",
		"SharedAccessKey=b;endpoint=sb://127.0.0.1:5672;UseDevelopmentEmulator=true;EntityPath=q": "127.0.0.1:5672 true",
		"nothing": " false",
	} {
		if host, plain := tolerant.Endpoint(text); fmt.Sprint(host, " ", plain) != want {
			t.Errorf("%s: got %s, %v", text, host, plain)
		}
	}
}

// A value that has the bytes of a name is no name.
func TestRenamesTheKeyAlone(t *testing.T) {
	t.Parallel()
	const name = "DeadLetterReason"
	text := "\xa1" + string(rune(len(name))) + name
	pairs := "\xa1\x01k" + text + text + "\x54\x05" // k is the name, and the name is 5
	b := []byte("\x00\x53\x74\xc1" + string([]byte{byte(len(pairs) + 1), 4}) + pairs + "\x00\x53\x75\xa0\x01x")
	c := tolerant.New(pipe{bytes.NewReader(framed(transferOf("ab", 0x42), string(b)))})
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	var m amqp.Message
	if err := m.UnmarshalBinary(got[len(got)-len(b):]); err != nil {
		t.Fatal(err)
	}
	if m.ApplicationProperties["k"] != name || m.ApplicationProperties[name] != nil ||
		m.ApplicationProperties["deadLetterReason"] != int32(5) {
		t.Errorf("the client reads %v", m.ApplicationProperties)
	}
}

// A link that ends in the middle of a message leaves nothing to the next one that has
// its number: the client gets the parts before it hears of the end.
func TestALinkEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	const section = "\x00\x53\x75\xa0\x01x"
	for name, end := range map[string]string{"link": "\x00\x53\x16\xc0\x03\x02\x43\x41", "session": "\x00\x53\x17\x45"} {
		all := slices.Concat(framed(transferOf("ab", 0x41), section[:4]), framed(end, ""), framed(transferOf("cd", 0x42), section))
		got, err := io.ReadAll(tolerant.New(pipe{bytes.NewReader(all)}))
		if err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: %x became %x: %v", name, all, got, err)
		}
		got, _ = io.ReadAll(tolerant.New(pipe{bytes.NewReader(all[:len(all)-1])}))
		if want := len(all) - len(framed(transferOf("cd", 0x42), section)); len(got) != want {
			t.Errorf("%s: at its end the client has %d bytes, want %d", name, len(got), want)
		}
	}
}

// transferOf is the beginning of a transfer on the link 0; more is true or false.
func transferOf(tag string, more byte) string {
	return "\x00\x53\x14\xc0\x0a\x06\x43\x43\xa0\x02" + tag + "\x43\x40" + string([]byte{more})
}

// framed is a frame of the channel 1.
func framed(performative, payload string) []byte {
	b := append([]byte{0, 0, 0, byte(8 + len(performative) + len(payload)), 2, 0, 0, 1}, performative...)
	return append(b, payload...)
}

// Whatever comes is handed on whole, in as many bytes, however it is cut.
func FuzzConn(f *testing.F) {
	transfer, frame := transferOf("ab", 0x42), framed
	f.Add([]byte("AMQP\x00\x01\x00\x00"))
	f.Add(frame(transfer, "\x00\x53\x74\xc1\x09\x02\xa1\x01k\x73\x00\x00\x00A\x00\x53\x75\xa0\x01x"))
	f.Add(frame(transfer, "\x00\x53\x77\x94\x30\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x96"))
	f.Add(frame(transfer, "\x00\x53\x76\xc0\x03\x01\xa1\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := io.ReadAll(tolerant.New(pipe{iotest.OneByteReader(bytes.NewReader(b))}))
		if len(got) > len(b) || err == nil && len(got) != len(b) && !errors.Is(err, io.ErrUnexpectedEOF) && complete(b) {
			t.Errorf("%d bytes became %d: %v", len(b), len(got), err)
		}
	})
}

// complete: no message is under way at the end.
func complete(b []byte) bool { return len(b) == 8 && string(b[:4]) == "AMQP" }

type pipe struct{ io.Reader }

func (pipe) Write(p []byte) (int, error)      { return len(p), nil }
func (pipe) Close() error                     { return nil }
func (pipe) LocalAddr() net.Addr              { return nil }
func (pipe) RemoteAddr() net.Addr             { return nil }
func (pipe) SetDeadline(time.Time) error      { return nil }
func (pipe) SetReadDeadline(time.Time) error  { return nil }
func (pipe) SetWriteDeadline(time.Time) error { return nil }
