package bus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

// key is the access key of the tests. No error may quote it.
const key = "c2VjcmV0IGtleQ=="

// fixture is a Bus on a server on loopback, and a client that looks at the queues.
type fixture struct {
	*bus.Bus
	server *servicebus.Server
	client *azservicebus.Client
	ctx    context.Context
}

func setup(t *testing.T) fixture {
	t.Helper()
	server, err := servicebus.Start(servicebus.Config{
		Addr:       "127.0.0.1:0",
		Path:       filepath.Join(t.TempDir(), "bus.db"),
		Queues:     []servicebus.QueueConfig{{Name: "jobs"}, {Name: "pool-events"}, {Name: "work", RequiresSession: true}},
		AccessKeys: []servicebus.AccessKey{{Name: "root", Key: key, Manage: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(bus.Config{ConnectionString: server.ConnectionString("root"), Queues: bus.DefaultQueues})
	if err != nil {
		t.Fatal(err)
	}
	client, err := azservicebus.NewClientFromConnectionString(server.ConnectionString("root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(func() {
		client.Close(ctx)
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
		cancel()
	})
	return fixture{b, server, client, ctx}
}

// receiver is what messages are received from: a queue or a session.
type receiver interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// receive receives n messages.
func (f fixture) receive(t *testing.T, r receiver, n int) (all []*azservicebus.ReceivedMessage) {
	t.Helper()
	for len(all) < n {
		got, err := r.ReceiveMessages(f.ctx, n-len(all), nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	return all
}

func (f fixture) queue(t *testing.T, name string) *azservicebus.Receiver {
	t.Helper()
	r, err := f.client.NewReceiverForQueue(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSend: a message arrives with all that was set, and one that is for later waits.
func TestSend(t *testing.T) {
	t.Parallel()
	f := setup(t)
	properties := map[string]any{"team": "vision", "n": int64(7)}
	m := bus.Message{ID: "m1", Body: []byte(`{"a":1}`), ContentType: "application/json", Properties: properties}
	if err := f.Send(f.ctx, "jobs", m); err != nil {
		t.Fatal(err)
	}
	got := f.receive(t, f.queue(t, "jobs"), 1)[0]
	if got.MessageID != "m1" || string(got.Body) != `{"a":1}` || got.ContentType == nil || *got.ContentType != "application/json" ||
		!reflect.DeepEqual(got.ApplicationProperties, properties) {
		t.Errorf("got %+v", got)
	}

	at := time.Now().Add(time.Hour)
	if err := f.Send(f.ctx, "pool-events", bus.Message{Body: []byte("wake up"), At: at}); err != nil {
		t.Fatal(err)
	}
	if active, scheduled, _, _ := f.server.Counts("pool-events"); active != 0 || scheduled != 1 {
		t.Errorf("a message for later: got %d active, %d scheduled; want 0, 1", active, scheduled)
	}
	list, err := f.queue(t, "pool-events").PeekMessages(f.ctx, 1, nil)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %d messages, %v", len(list), err)
	}
	if got := list[0].ScheduledEnqueueTime; got == nil || got.Sub(at).Abs() > time.Second {
		t.Errorf("scheduled for %v, want %v", got, at)
	}
}

// TestSendMany: messages that are too large for one batch arrive in several, all and
// in their order.
// What a message cannot hold arrives as text, and what its sender wrote on it arrives.
func TestSendWhatTheSenderWrote(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sent := bus.Message{ID: "m", Body: []byte("x"), Labels: bus.Labels{CorrelationID: "c", Subject: "s", To: "t", ReplyTo: "r", ReplyToSessionID: "q"},
		Properties: map[string]any{"map": map[string]any{"n": json.Number("1")}, "list": []any{json.Number("2")}, "number": json.Number("3"), "whole": int64(4)}}
	if err := f.Send(f.ctx, "jobs", sent); err != nil {
		t.Fatal(err)
	}
	r := f.queue(t, "jobs")
	m := f.receive(t, r, 1)[0]
	if *m.CorrelationID != "c" || *m.Subject != "s" || *m.To != "t" || *m.ReplyTo != "r" || *m.ReplyToSessionID != "q" {
		t.Errorf("got %+v", m)
	}
	want := map[string]any{"map": `{"n":1}`, "list": "[2]", "number": "3", "whole": int64(4)}
	if !reflect.DeepEqual(m.ApplicationProperties, want) {
		t.Errorf("got %v, want %v", m.ApplicationProperties, want)
	}
	why := "it is wrong"
	if err := r.DeadLetterMessage(f.ctx, m, &azservicebus.DeadLetterOptions{Reason: &why}); err != nil {
		t.Fatal(err)
	}
	err := f.DeadLetters(f.ctx, "jobs", 1, func(_ context.Context, dead []bus.Dead) map[int]error {
		if len(dead) != 1 || dead[0].Labels != sent.Labels {
			t.Errorf("got dead letters %+v", dead)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSendMany(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var list []bus.Message
	for i := range 5 {
		list = append(list, bus.Message{ID: fmt.Sprint(i), Body: bytes.Repeat([]byte("x"), 100<<10)})
	}
	if err := f.Send(f.ctx, "jobs", list...); err != nil {
		t.Fatal(err)
	}
	for i, m := range f.receive(t, f.queue(t, "jobs"), len(list)) {
		if m.MessageID != list[i].ID || len(m.Body) != len(list[i].Body) {
			t.Errorf("place %d: got message %s of %d bytes", i, m.MessageID, len(m.Body))
		}
	}
	if err := f.Send(f.ctx, "jobs"); err != nil {
		t.Errorf("no messages: got %v", err)
	}
}

// TestWork: items reach the node's session in their order, in as few messages as the
// limit allows, and an item that is too large is refused before anything is sent.
func TestWork(t *testing.T) {
	t.Parallel()
	f := setup(t)
	session := protocol.SessionID("cpu", "vm-1")
	const third = protocol.MaxBytes / 3
	var items []protocol.WorkItem
	for n := range int64(5) {
		items = append(items, protocol.WorkItem{N: n + 1, Cancel: &protocol.Cancel{Target: n, Reason: strings.Repeat("x", third)}})
	}
	if err := f.Work(f.ctx, session, items); err != nil {
		t.Fatal(err)
	}
	r, err := f.client.AcceptSessionForQueue(f.ctx, "work", session, nil)
	if err != nil {
		t.Fatal(err)
	}
	const messages = 3 // of two items, two and one: each is a little more than a third of the limit
	var got []protocol.WorkItem
	for _, m := range f.receive(t, r, messages) {
		work, err := protocol.DecodeWork(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, work.Items...)
	}
	if !reflect.DeepEqual(got, items) {
		t.Errorf("got %d items, want the %d that were sent, in their order", len(got), len(items))
	}
	tooLarge := protocol.WorkItem{N: 9, Cancel: &protocol.Cancel{Reason: strings.Repeat("x", protocol.MaxBytes)}}
	if err := f.Work(f.ctx, session, []protocol.WorkItem{{Here: true}, tooLarge}); err == nil {
		t.Error("an item that is larger than a message was sent")
	}
	if active, scheduled, locked, _ := f.server.Counts("work"); active != messages || scheduled != 0 || locked != messages {
		t.Errorf("got %d active, %d scheduled and %d locked messages; want %d, 0, %[4]d", active, scheduled, locked, messages)
	}
}

// TestFence: a session that an agent holds is not taken; one that is free is taken and
// marked, also a second time.
func TestFence(t *testing.T) {
	t.Parallel()
	f := setup(t)
	session := protocol.SessionID("cpu", "vm-1")
	agent, err := f.client.AcceptSessionForQueue(f.ctx, "work", session, nil)
	if err != nil {
		t.Fatal(err)
	}
	if fenced, err := f.Fence(f.ctx, session); fenced || err != nil {
		t.Errorf("a session that is held: got %v, %v", fenced, err)
	}
	if state, err := agent.GetSessionState(f.ctx, nil); err != nil || protocol.IsFenced(state) {
		t.Errorf("the state of a session that is held: got %q, %v", state, err)
	}
	if err := agent.Close(f.ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if fenced, err := f.Fence(f.ctx, session); !fenced || err != nil {
			t.Errorf("a free session: got %v, %v", fenced, err)
		}
	}
	if agent, err = f.client.AcceptSessionForQueue(f.ctx, "work", session, nil); err != nil {
		t.Fatal(err)
	}
	if state, err := agent.GetSessionState(f.ctx, nil); err != nil || !protocol.IsFenced(state) {
		t.Errorf("the state of a session that was taken: got %q, %v", state, err)
	}
}

// TestDeadLetters: dead letters are handed over in the order in which they were sent.
// Those that are taken are gone; one that is not taken stays.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	f := setup(t)
	take := func(ctx context.Context, dead []bus.Dead) map[int]error {
		t.Errorf("an empty queue: got %d dead letters", len(dead))
		return nil
	}
	if err := f.DeadLetters(f.ctx, "jobs", 10, take); err != nil {
		t.Errorf("an empty queue: got %v", err)
	}
	bodies := []string{"one", "two", "three"}
	for _, body := range bodies {
		if err := f.Send(f.ctx, "jobs", bus.Message{ID: body, Body: []byte(body), Properties: map[string]any{"of": body}}); err != nil {
			t.Fatal(err)
		}
	}
	r := f.queue(t, "jobs")
	received := f.receive(t, r, len(bodies))
	why := "it is wrong"
	for i := range received { // the last one dies first
		m := received[len(received)-1-i]
		if err := r.DeadLetterMessage(f.ctx, m, &azservicebus.DeadLetterOptions{Reason: &why}); err != nil {
			t.Fatal(err)
		}
	}
	refusal := errors.New("not now")
	var got []string
	err := f.DeadLetters(f.ctx, "jobs", 10, func(_ context.Context, dead []bus.Dead) map[int]error {
		for _, d := range dead {
			if d.ID != string(d.Body) || d.Properties["of"] != d.ID || d.Unreadable != "" || !strings.HasPrefix(d.Reason, why) {
				t.Errorf("got %+v", d)
			}
			got = append(got, string(d.Body))
		}
		return map[int]error{1: refusal}
	})
	if !errors.Is(err, refusal) {
		t.Errorf("got %v, want the error of the one that was not taken", err)
	}
	if !reflect.DeepEqual(got, bodies) {
		t.Errorf("got %q, want %q", got, bodies)
	}
	if _, _, _, dead := f.server.Counts("jobs"); dead != 1 {
		t.Errorf("got %d dead letters in the end, want 1", dead)
	}
}

// TestErrors: errors have codes, name the queue or the setting, and never quote the
// connection string.
func TestErrors(t *testing.T) {
	t.Parallel()
	f := setup(t)
	open := func(connection string) *bus.Bus {
		b, err := bus.Open(bus.Config{ConnectionString: connection, Queues: bus.DefaultQueues})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close(context.WithoutCancel(f.ctx)) })
		return b
	}
	right := f.server.ConnectionString("root")
	const wrongKey = "d3Jvbmcga2V5"
	wrong := open(strings.Replace(right, key, wrongKey, 1))
	for _, test := range []struct {
		name string
		do   func() error
		code fault.Code
		says string
	}{
		{"no connection", func() error {
			_, err := bus.Open(bus.Config{})
			return err
		}, fault.Invalid, "ServiceBusConnection"},
		{"a connection string that cannot be read", func() error {
			_, err := bus.Open(bus.Config{ConnectionString: "SharedAccessKey=" + key + ";Endpoint"})
			return err
		}, fault.Invalid, "check its form"},
		{"a wrong key", func() error { return wrong.Send(f.ctx, "jobs", bus.Message{}) }, fault.Invalid, `"jobs"`},
		{"no such queue", func() error { return f.Send(f.ctx, "nowhere", bus.Message{}) }, fault.NotFound, `"nowhere"`},
		{"no such queue of dead letters", func() error {
			return f.DeadLetters(f.ctx, "nowhere", 1, nil)
		}, fault.NotFound, `"nowhere"`},
		{"a message that is too large", func() error {
			return f.Send(f.ctx, "jobs", bus.Message{Body: make([]byte, 300<<10)})
		}, fault.Invalid, "larger than the queue allows"},
		{"a message of several that is too large", func() error {
			return f.Send(f.ctx, "jobs", bus.Message{Body: []byte("a")}, bus.Message{Body: make([]byte, 300<<10)})
		}, fault.Invalid, "larger than the queue allows"},
	} {
		err := test.do()
		if err == nil || fault.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got code %v: %v; want %v and %q", test.name, fault.CodeOf(err), err, test.code, test.says)
			continue
		}
		for _, secret := range []string{key, wrongKey, right} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error quotes the connection string: %v", test.name, err)
			}
		}
	}
}
