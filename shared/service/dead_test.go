package service_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/bus/tolerant/tolerantest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/service"
)

// kill sends messages to a queue and has them die there.
func kill(t *testing.T, server *servicebus.Server, messages []*azservicebus.AMQPAnnotatedMessage) {
	t.Helper()
	connection := server.ConnectionString("all")
	host, plain := tolerant.Endpoint(connection)
	dialer := &tolerant.Dialer{Host: host, Plain: plain}
	client := func(dial func(context.Context) (net.Conn, error)) *azservicebus.Client {
		c, err := azservicebus.NewClientFromConnectionString(connection, &azservicebus.ClientOptions{
			NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) { return dial(ctx) }})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	sending := client(func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		return tolerantest.Conn{Conn: garbling{c}}, err
	})
	defer sending.Close(t.Context())
	sender, err := sending.NewSender("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := sender.SendAMQPAnnotatedMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	receiving := client(dialer.Dial)
	defer receiving.Close(t.Context())
	receiver, err := receiving.NewReceiverForQueue("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []*azservicebus.ReceivedMessage
	for len(all) < len(messages) {
		got, err := receiver.ReceiveMessages(t.Context(), len(messages), nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	slices.Reverse(all) // they die in another order than they came in
	for _, m := range all {
		if err := receiver.DeadLetterMessage(t.Context(), m, &azservicebus.DeadLetterOptions{Reason: ptr("MaxDeliveryCountExceeded")}); err != nil {
			t.Fatal(err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// noUTF8 is a text that garbling sends with bytes that no text has.
const noUTF8 = "no UTF-8"

// garbling sends what the client would not.
type garbling struct{ net.Conn }

func (g garbling) Write(b []byte) (int, error) {
	return g.Conn.Write(bytes.ReplaceAll(b, []byte(noUTF8), []byte("no \xff\xfe\x80\xc0\xf5")))
}

// A message that is as long as a queue takes is too long with what this app writes on it: it
// goes to `rejected` without its end, and does not stop those beside it.
func TestDeadLettersOfTheLargestSize(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	h.change(func(c *service.Config) { c.ReviveAfter = reviveAfter })
	message := func(id string, body []byte) *azservicebus.AMQPAnnotatedMessage {
		return &azservicebus.AMQPAnnotatedMessage{
			Body:       azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{body}},
			Properties: &azservicebus.AMQPAnnotatedMessageProperties{MessageID: id},
		}
	}
	good := func(id string) *azservicebus.AMQPAnnotatedMessage {
		return message(id, fmt.Appendf(nil, `{"id":%q,"pool":"cpu","command":["x"]}`, id))
	}
	large := bytes.Repeat([]byte("x"), 262_040)
	wide := map[string]any{}
	for i := range 8 {
		wide[fmt.Sprint("p", i)] = strings.Repeat("x", 32_000)
	}
	kill(t, h.server, []*azservicebus.AMQPAnnotatedMessage{good("one"), message("large", large), good("two")})
	if err := h.service.Rejections.ReviveDeadLetters(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, dead := h.server.Counts("jobs"); dead != 0 {
		t.Errorf("%d messages are still dead", dead)
	}
	var ids []string
	for _, m := range peekAll(t, h.receiver) {
		ids = append(ids, m.MessageID)
	}
	if !slices.Contains(ids, "one") || !slices.Contains(ids, "two") || slices.Contains(ids, "large") {
		t.Errorf("came back: %v", ids)
	}
	// The same when a function rejects them.
	for id, m := range map[string]bus.Message{
		"f-large": {Body: large},
		"f-wide":  {Body: []byte("{}"), Properties: maps.Clone(wide)},
		"f-both":  {Body: large, Properties: maps.Clone(wide)},
	} {
		m.ID = id
		cause := fault.New(fault.Invalid, "", "%s", strings.Repeat("because ", 100))
		if err := h.service.Rejections.Reject(t.Context(), "jobs", m, service.RefusedJob{}, cause); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	client, err := azservicebus.NewClientFromConnectionString(h.server.ConnectionString("all"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.Background())
	rejected, err := client.NewReceiverForQueue("rejected", nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]int{}
	for _, m := range peekAll(t, rejected) {
		kept[m.MessageID] = len(m.Body)
		reason, _ := m.ApplicationProperties["reason"].(string)
		if !strings.Contains(reason, "kept here") || m.ApplicationProperties["source"] != "jobs" {
			t.Errorf("%s: %v", m.MessageID, m.ApplicationProperties)
		}
	}
	if kept["large"] < 200_000 || kept["f-large"] < 200_000 || kept["f-wide"] != 2 || kept["f-both"] == 0 {
		t.Errorf("of the bodies are kept: %v", kept)
	}
}

// peekAll looks at all messages of a queue: one look shows as many as one answer holds.
func peekAll(t *testing.T, r *azservicebus.Receiver) (all []*azservicebus.ReceivedMessage) {
	t.Helper()
	for {
		some, err := r.PeekMessages(t.Context(), 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

// What died on a queue is brought back as bytes, in its order and under its own id,
// or is rejected with its content, if no function can have it. None of them, not
// even one that the client cannot read, stops the others.
func TestDeadLettersOfEveryForm(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	now := time.Now()
	h.clock = func() time.Time { return now }
	h.change(func(c *service.Config) { c.ReviveAfter = reviveAfter })
	doc := func(id string) string { return fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["x"]}`, id) }
	data := func(parts ...string) (b azservicebus.AMQPAnnotatedMessageBody) {
		for _, p := range parts {
			b.Data = append(b.Data, []byte(p))
		}
		return b
	}
	value := func(v any) azservicebus.AMQPAnnotatedMessageBody {
		return azservicebus.AMQPAnnotatedMessageBody{Value: v}
	}
	tests := []struct {
		id         string
		body       azservicebus.AMQPAnnotatedMessageBody
		properties map[string]any
		rejected   string // what its reason says; "" = it comes back
		want       string // the body
	}{
		{"one", data(doc("one")), map[string]any{"team": "vision"}, "", doc("one")},
		{
			"map",
			value(map[string]any{"id": "map", "price": tolerantest.Decimal}),
			nil,
			"an AMQP value of type map",
			"{\n  \"id\": \"map\",\n  \"price\": \"1.5\"\n}",
		},
		{"text", value(doc("text")), nil, "", doc("text")},
		{
			"document",
			value(map[string]any{"id": "document", "pool": "cpu", "command": []any{"x"}, "resources": map[string]any{"cpus": int32(2)}}),
			nil,
			"",
			"{\n  \"command\": [\n    \"x\"\n  ],\n  \"id\": \"document\",\n  \"pool\": \"cpu\",\n  \"resources\": {\n    \"cpus\": 2\n  }\n}",
		},
		{"binary", value([]byte(doc("binary"))), nil, "", doc("binary")},
		{"noise", value([]byte("\xff\xfe")), nil, "an AMQP value of type binary", "\xff\xfe"},
		{"decimal", value(tolerantest.Decimal), nil, "an AMQP value of type decimal", `"1.5"`},
		{"parts", data(doc("parts")[:10], doc("parts")[10:]), nil, "", doc("parts")},
		{
			"sequence",
			azservicebus.AMQPAnnotatedMessageBody{Sequence: [][]any{{"a", int64(1)}}},
			nil,
			"an AMQP sequence",
			"[\n  [\n    \"a\",\n    1\n  ]\n]",
		},
		{"priced", data(doc("priced")), map[string]any{"price": tolerantest.Decimal}, "", doc("priced")},
		{"garbled", data(doc("garbled")), map[string]any{noUTF8: noUTF8}, "", doc("garbled")},
		{
			"last",
			data(doc("last")),
			map[string]any{service.PropRevived: int64(3)},
			"",
			doc("last"),
		}, // it has died often enough, but now of its neighbours
	}
	var messages []*azservicebus.AMQPAnnotatedMessage
	var want []string
	for _, tt := range tests {
		messages = append(
			messages,
			&azservicebus.AMQPAnnotatedMessage{
				Body:                  tt.body,
				ApplicationProperties: tt.properties,
				Properties:            &azservicebus.AMQPAnnotatedMessageProperties{MessageID: tt.id},
			},
		)
		if tt.rejected == "" {
			want = append(want, tt.id)
		}
	}
	kill(t, h.server, messages)
	if err := h.service.Rejections.ReviveDeadLetters(t.Context()); err != nil {
		t.Fatal(err)
	}
	if active, scheduled, locked, dead := h.server.Counts("jobs"); active+locked+dead != 0 || scheduled != len(want) {
		t.Errorf("%d active, %d scheduled, %d locked and %d dead are left", active, scheduled, locked, dead)
	}
	back, err := h.receiver.PeekMessages(t.Context(), 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range back {
		ids = append(ids, m.MessageID)
		for _, tt := range tests {
			if tt.id == m.MessageID &&
				(string(m.Body) != tt.want || service.Number(m.ApplicationProperties[service.PropRevived]) != service.Number(tt.properties[service.PropRevived]) || m.ScheduledEnqueueTime.Sub(now).Round(time.Second) != time.Minute) {
				t.Errorf("%s came back as %s with %v at %v", tt.id, m.Body, m.ApplicationProperties, m.ScheduledEnqueueTime)
			}
		}
		if p := m.ApplicationProperties; m.MessageID == "priced" && p["price"] != "1.5" || m.MessageID == "one" && p["team"] != "vision" {
			t.Errorf("%s lost its property: %v", m.MessageID, p)
		}
	}
	if !slices.Equal(ids, want) {
		t.Errorf("came back: %v, want %v", ids, want)
	}
	client, err := azservicebus.NewClientFromConnectionString(h.server.ConnectionString("all"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.Background())
	rejected, err := client.NewReceiverForQueue("rejected", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := rejected.PeekMessages(t.Context(), 100, nil)
	if err != nil || len(seen) != len(tests)-len(want) {
		t.Fatalf("%d were rejected, %v", len(seen), err)
	}
	for _, tt := range tests {
		if tt.rejected == "" {
			continue
		}
		i := slices.IndexFunc(seen, func(m *azservicebus.ReceivedMessage) bool { return m.MessageID == tt.id })
		if i < 0 {
			t.Errorf("%s is not on rejected", tt.id)
			continue
		}
		reason, _ := seen[i].ApplicationProperties["reason"].(string)
		if string(seen[i].Body) != tt.want || !strings.Contains(reason, tt.rejected) {
			t.Errorf("%s was rejected as %s with %q", tt.id, seen[i].Body, reason)
		}
		if row, err := h.store.ID(t.Context(), tt.id); err != nil || row.State != job.Rejected ||
			!strings.Contains(row.Reason, tt.rejected) {
			t.Errorf("%s: the job is %+v, %v", tt.id, row, err)
		}
	}
	if err := h.service.Rejections.ReviveDeadLetters(t.Context()); err != nil {
		t.Errorf("nothing is dead: %v", err)
	}
}

// A message with a property of each type dies and comes back. What comes back can be read by
// every client: no value has a descriptor or a type that only some clients know.
func TestDeadLettersOfEveryType(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	h.change(func(c *service.Config) { c.ReviveAfter = reviveAfter })
	var messages []*azservicebus.AMQPAnnotatedMessage
	for _, v := range tolerantest.Values() {
		encoded := slices.Concat(
			tolerantest.Section(tolerantest.AnnotationsSection, tolerantest.Map(tolerantest.Symbol("x-opt-mine"), v.Encoded)),
			tolerantest.Section(tolerantest.PropertiesSection,
				tolerantest.List(tolerantest.Text(v.Name), tolerantest.Null, tolerantest.Null, tolerantest.Null, tolerantest.Null, v.ID())),
			tolerantest.Section(tolerantest.ApplicationSection, tolerantest.Map(tolerantest.Text("p"), v.Encoded)),
			tolerantest.Section(tolerantest.DataSection, tolerantest.Bytes([]byte("{}"))))
		messages = append(messages, &azservicebus.AMQPAnnotatedMessage{
			Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{tolerantest.Raw(encoded)}}})
	}
	kill(t, h.server, messages)
	if err := h.service.Rejections.ReviveDeadLetters(t.Context()); err != nil {
		t.Fatal(err)
	}
	back, err := h.receiver.PeekMessages(t.Context(), 2*len(messages), nil)
	if err != nil || len(back) != len(messages) {
		t.Fatalf("%d of %d came back, %v", len(back), len(messages), err)
	}
	for i, v := range tolerantest.Values() {
		m := back[i]
		switch p := m.ApplicationProperties["p"].(type) {
		case nil, bool, string, []byte, time.Time, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64:
		default:
			t.Errorf("%s came back as %T %v", v.Name, p, p)
		}
		if want, is := v.Arrives.(string); is && v.Name != "binary" && v.Name != "timestamp" && m.ApplicationProperties["p"] != want {
			t.Errorf("%s came back as %v, want %s", v.Name, m.ApplicationProperties["p"], want)
		}
		if m.MessageID != v.Name || (v.ID()[0] != tolerantest.Null[0]) != (m.CorrelationID != nil) {
			t.Errorf("message %d came back as %s with correlation id %v, want %s", i, m.MessageID, m.CorrelationID, v.Name)
		}
	}
}

// useQueues has the app use other queues.
func (h *hook) useQueues(t *testing.T, queues bus.Queues) {
	t.Helper()
	b, err := bus.Open(bus.Config{ConnectionString: h.server.ConnectionString("all"), Queues: queues})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.WithoutCancel(t.Context())) })
	h.change(func(c *service.Config) { c.Bus = b })
}

// What cannot be brought back stays dead, and the others do not wait for it.
func TestDeadLettersThatStayDead(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	h.change(func(c *service.Config) { c.ReviveAfter = reviveAfter })
	kill(t, h.server, []*azservicebus.AMQPAnnotatedMessage{
		{
			Body:       azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte(`{}`)}},
			Properties: &azservicebus.AMQPAnnotatedMessageProperties{MessageID: "good"},
		},
		{
			Body:       azservicebus.AMQPAnnotatedMessageBody{Value: int64(1)},
			Properties: &azservicebus.AMQPAnnotatedMessageProperties{MessageID: "bad"},
		},
	})
	broken := h.config.Bus.Queues()
	broken.Rejected = "nowhere"
	h.useQueues(t, broken)
	if err := h.service.Rejections.ReviveDeadLetters(t.Context()); err == nil {
		t.Error("a queue that is not there took a message")
	}
	if _, scheduled, _, dead := h.server.Counts("jobs"); scheduled != 1 || dead != 1 {
		t.Errorf("%d came back and %d are dead, want one each", scheduled, dead)
	}
	if active, _, _, _ := h.server.Counts("rejected"); active != 0 {
		t.Errorf("%d were rejected on a queue that was not asked for", active)
	}
}
