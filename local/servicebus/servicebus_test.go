package servicebus_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"dsvmpools/local/servicebus"
)

var queues = []servicebus.QueueConfig{
	{Name: "plain", MaxDeliveryCount: 3},
	{Name: "short", LockDuration: 300 * time.Millisecond, MaxDeliveryCount: 3},
	{Name: "work", RequiresSession: true},
	{Name: "shortwork", RequiresSession: true, LockDuration: 300 * time.Millisecond},
}

var rules = []servicebus.AccessKey{
	{Name: "root", Key: "cm9vdA==", Send: true, Listen: true, Manage: true},
	{Name: "send", Key: "c2VuZA==", Send: true},
	{Name: "agent", Key: "YWdlbnQ=", Entities: map[string]servicebus.Right{"work": {Listen: true}, "plain": {Send: true}}},
}

// fixture is a running server with one client.
type fixture struct {
	*servicebus.Server
	client *azservicebus.Client
	ctx    context.Context
}

func start(tb testing.TB, path string) fixture {
	tb.Helper()
	s, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: path, Queues: queues, AccessKeys: rules})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	client, err := azservicebus.NewClientFromConnectionString(
		s.ConnectionString("root"),
		&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}},
	)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		client.Close(ctx)
		s.Close()
		cancel()
	})
	return fixture{s, client, ctx}
}

func setup(tb testing.TB) fixture {
	tb.Helper()
	return start(tb, filepath.Join(tb.TempDir(), "bus.db"))
}

func (f fixture) sender(tb testing.TB, queue string) *azservicebus.Sender {
	tb.Helper()
	s, err := f.client.NewSender(queue, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (f fixture) send(tb testing.TB, queue string, messages ...*azservicebus.Message) {
	tb.Helper()
	s := f.sender(tb, queue)
	defer s.Close(f.ctx)
	for _, m := range messages {
		if err := s.SendMessage(f.ctx, m, nil); err != nil {
			tb.Fatal(err)
		}
	}
}

func (f fixture) receiver(tb testing.TB, queue string, opts *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	tb.Helper()
	r, err := f.client.NewReceiverForQueue(queue, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

type receives interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// one receives one message.
func (f fixture) one(tb testing.TB, r receives) *azservicebus.ReceivedMessage {
	tb.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	defer cancel()
	got, err := r.ReceiveMessages(ctx, 1, nil)
	if err != nil || len(got) != 1 {
		tb.Fatalf("receive: got %d messages, %v", len(got), err)
	}
	return got[0]
}

// none checks that nothing is there.
func (f fixture) none(tb testing.TB, queue string) {
	tb.Helper()
	if active, scheduled, _, _ := f.Counts(queue); active+scheduled != 0 {
		tb.Errorf("%s: got %d active and %d scheduled messages, want none", queue, active, scheduled)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func message(body string) *azservicebus.Message { return &azservicebus.Message{Body: []byte(body)} }

func inSession(id, body string) *azservicebus.Message {
	return &azservicebus.Message{Body: []byte(body), SessionID: &id}
}

func TestSendReceiveComplete(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "plain", &azservicebus.Message{Body: []byte("hello"), MessageID: to.Ptr("m1"), ContentType: to.Ptr("text/plain"),
		Subject: to.Ptr("s"), CorrelationID: to.Ptr("c"), ApplicationProperties: map[string]any{"a": "b", "n": int64(7)}})
	r := f.receiver(t, "Plain", nil)
	m := f.one(t, r)
	if string(m.Body) != "hello" || m.MessageID != "m1" || *m.ContentType != "text/plain" || *m.Subject != "s" || *m.CorrelationID != "c" ||
		m.ApplicationProperties["a"] != "b" || m.ApplicationProperties["n"] != int64(7) || m.DeliveryCount != 1 || *m.SequenceNumber != 1 {
		t.Errorf("got %+v", m)
	}
	if left := time.Until(*m.LockedUntil); left < 50*time.Second || left > time.Minute {
		t.Errorf("locked for %v, want about a minute", left)
	}
	must(t, r.CompleteMessage(f.ctx, m, nil))
	f.none(t, "plain")
	if s := f.Stats(); s.MessagesSent != 1 || s.MessagesDelivered != 1 || s.Settled != 1 {
		t.Errorf("stats: got %+v", s)
	}
}

func TestAbandonCountsAndDeadLetters(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "plain", message("poison"))
	r := f.receiver(t, "plain", nil)
	for want := uint32(1); want <= 3; want++ {
		m := f.one(t, r)
		if m.DeliveryCount != want {
			t.Errorf("delivery count: got %d, want %d", m.DeliveryCount, want)
		}
		must(t, r.AbandonMessage(f.ctx, m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"try": int64(want)}}))
	}
	f.none(t, "plain")
	dead := f.receiver(t, "plain", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	m := f.one(t, dead)
	if *m.DeadLetterReason != "MaxDeliveryCountExceeded" || m.ApplicationProperties["try"] != int64(3) || string(m.Body) != "poison" {
		t.Errorf("dead letter: got %q %v", *m.DeadLetterReason, m.ApplicationProperties)
	}
	must(t, dead.CompleteMessage(f.ctx, m, nil))
	if _, _, _, n := f.Counts("plain"); n != 0 {
		t.Errorf("dead letters: got %d, want 0", n)
	}
}

func TestDeadLetterDeferAndFetch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "plain", message("a"), message("b"))
	r := f.receiver(t, "plain", nil)
	a := f.one(t, r)
	must(t, r.DeadLetterMessage(f.ctx, a, &azservicebus.DeadLetterOptions{Reason: to.Ptr("bad"), ErrorDescription: to.Ptr("very")}))
	b := f.one(t, r)
	must(t, r.DeferMessage(f.ctx, b, nil))
	got, err := r.ReceiveDeferredMessages(f.ctx, []int64{*b.SequenceNumber}, nil)
	must(t, err)
	must(t, r.CompleteMessage(f.ctx, got[0], nil))
	f.none(t, "plain")
	d := f.one(
		t,
		f.receiver(
			t,
			"plain",
			&azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter, ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete},
		),
	)
	if *d.DeadLetterReason != "bad" || *d.DeadLetterErrorDescription != "very" {
		t.Errorf("got %q %q", *d.DeadLetterReason, *d.DeadLetterErrorDescription)
	}
}

func TestLockExpiryAndRenewal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "short", message("x"))
	r := f.receiver(t, "short", nil)
	m := f.one(t, r)
	must(t, r.RenewMessageLock(f.ctx, m, nil))
	again := f.one(t, r) // comes when the lock has run out
	if again.DeliveryCount != 2 {
		t.Errorf("delivery count: got %d, want 2", again.DeliveryCount)
	}
	var sbErr *azservicebus.Error
	if err := r.CompleteMessage(f.ctx, m, nil); !errors.As(err, &sbErr) || sbErr.Code != azservicebus.CodeLockLost {
		t.Errorf("late complete: got %v, want lock lost", err)
	}
	must(t, r.CompleteMessage(f.ctx, again, nil))
}

func TestScheduled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := f.sender(t, "plain")
	at := time.Now().Add(400 * time.Millisecond)
	seqs, err := s.ScheduleMessages(f.ctx, []*azservicebus.Message{message("kept"), message("cancelled")}, at, nil)
	must(t, err)
	must(t, s.CancelScheduledMessages(f.ctx, seqs[1:], nil))
	must(
		t,
		s.SendMessage(
			f.ctx,
			&azservicebus.Message{Body: []byte("by annotation"), ScheduledEnqueueTime: to.Ptr(at.Add(50 * time.Millisecond))},
			nil,
		),
	)
	never, err := s.ScheduleMessages(f.ctx, []*azservicebus.Message{message("never")}, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), nil)
	must(t, err)
	r := f.receiver(t, "plain", nil)
	for _, want := range []string{"kept", "by annotation"} {
		m := f.one(t, r)
		if string(m.Body) != want || m.EnqueuedTime.Before(at.Truncate(time.Millisecond)) {
			t.Errorf("got %q at %v, want %q not before %v", m.Body, m.EnqueuedTime, want, at)
		}
		must(t, r.CompleteMessage(f.ctx, m, nil))
	}
	must(t, s.CancelScheduledMessages(f.ctx, never, nil))
	f.none(t, "plain")
}

func TestSessions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "work", inSession("a", "a1"), inSession("b", "b1"), inSession("a", "a2"))
	a, err := f.client.AcceptSessionForQueue(f.ctx, "work", "a", nil)
	must(t, err)
	if _, err := f.client.AcceptSessionForQueue(f.ctx, "work", "a", nil); err == nil ||
		!strings.Contains(err.Error(), "session-cannot-be-locked") {
		t.Errorf("second accept: got %v, want a refusal", err)
	}
	for _, want := range []string{"a1", "a2"} {
		m := f.one(t, a)
		if string(m.Body) != want || *m.SessionID != "a" {
			t.Errorf("got %q in %q, want %q", m.Body, *m.SessionID, want)
		}
		must(t, a.CompleteMessage(f.ctx, m, nil))
	}
	must(t, a.SetSessionState(f.ctx, []byte("state"), nil))
	must(t, a.RenewSessionLock(f.ctx, nil))
	must(t, a.Close(f.ctx))
	next, err := f.client.AcceptNextSessionForQueue(f.ctx, "work", nil)
	must(t, err)
	if next.SessionID() != "b" {
		t.Errorf("next session: got %q, want b", next.SessionID())
	}
	a, err = f.client.AcceptSessionForQueue(f.ctx, "work", "a", nil)
	must(t, err)
	if state, err := a.GetSessionState(f.ctx, nil); err != nil || string(state) != "state" {
		t.Errorf("state: got %q, %v", state, err)
	}
	f.send(t, "work", inSession("a", "a3"))
	if m := f.one(t, a); string(m.Body) != "a3" {
		t.Errorf("got %q, want a3", m.Body)
	}
}

func TestSessionLockRunsOut(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.send(t, "shortwork", inSession("a", "x"))
	first, err := f.client.AcceptSessionForQueue(f.ctx, "shortwork", "a", nil)
	must(t, err)
	f.one(t, first)
	var second *azservicebus.SessionReceiver
	for second == nil { // refused until the lock has run out
		second, err = f.client.AcceptSessionForQueue(f.ctx, "shortwork", "a", nil)
		if f.ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if m := f.one(t, second); m.DeliveryCount != 2 {
		t.Errorf("delivery count: got %d, want 2", m.DeliveryCount)
	}
}

func TestBatchesAndPeek(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := f.sender(t, "plain")
	b, err := s.NewMessageBatch(f.ctx, nil)
	must(t, err)
	const n = 200
	for i := range n {
		must(t, b.AddMessage(message(fmt.Sprint(i)), nil))
	}
	must(t, s.SendMessageBatch(f.ctx, b, nil))
	r := f.receiver(t, "plain", nil)
	peeked, err := r.PeekMessages(f.ctx, 10, nil)
	must(t, err)
	if len(peeked) != 10 || string(peeked[9].Body) != "9" {
		t.Errorf("peek: got %d messages", len(peeked))
	}
	seen := map[string]bool{} // what comes between two calls is given back by the client, so the order may change
	for len(seen) < n {
		ms, err := r.ReceiveMessages(f.ctx, n, nil)
		must(t, err)
		for _, m := range ms {
			must(t, r.CompleteMessage(f.ctx, m, nil))
			if seen[string(m.Body)] {
				t.Errorf("message %s came twice", m.Body)
			}
			seen[string(m.Body)] = true
		}
	}
	f.none(t, "plain")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := f.sender(t, "plain")
	must(t, s.SendMessage(f.ctx, message(strings.Repeat("x", 255<<10)), nil))
	if m := f.one(t, f.receiver(t, "plain", nil)); len(m.Body) != 255<<10 {
		t.Errorf("body: got %d bytes", len(m.Body))
	}
	if err := s.SendMessage(f.ctx, message(strings.Repeat("x", 257<<10)), nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("257 KB: got %v, want %v", err, azservicebus.ErrMessageTooLarge)
	}
	long := to.Ptr(strings.Repeat("i", 129))
	sixteen := strings.Repeat("p", 16<<10)
	for what, m := range map[string]*azservicebus.Message{
		"an id of 129 characters":            {MessageID: long},
		"a session id of 129 characters":     {SessionID: long},
		"a partition key of 129 characters":  {PartitionKey: long},
		"a partition key beside its session": {SessionID: to.Ptr("a"), PartitionKey: to.Ptr("b")},
		"a property of 33 KB":                {ApplicationProperties: map[string]any{"p": strings.Repeat("p", 33<<10)}},
		"properties of 64 KB together":       {ApplicationProperties: map[string]any{"a": sixteen, "b": sixteen, "c": sixteen, "d": sixteen}},
	} {
		if err := s.SendMessage(f.ctx, m, nil); err == nil {
			t.Errorf("%s was taken", what)
		}
		if _, err := s.ScheduleMessages(f.ctx, []*azservicebus.Message{m}, time.Now().Add(time.Hour), nil); err == nil {
			t.Errorf("%s was scheduled", what)
		}
	}
	must(
		t,
		s.SendMessage(
			f.ctx,
			&azservicebus.Message{
				MessageID:             to.Ptr((*long)[1:]),
				ApplicationProperties: map[string]any{"a": sixteen, "b": sixteen, "c": sixteen},
			},
			nil,
		),
	)
	if err := f.sender(t, "work").SendMessage(f.ctx, message("no session"), nil); err == nil {
		t.Error("a message without a session was taken by a queue with sessions")
	}
}

// TestTimeToLiveIsCapped: the queue's own is the longest a message has, from when
// it is enqueued.
func TestTimeToLiveIsCapped(t *testing.T) {
	t.Parallel()
	f := setup(t)
	create(t, administration(t, f.ConnectionString("root")), "q", admin.QueueProperties{DefaultMessageTimeToLive: to.Ptr("PT2H")})
	create(t, administration(t, f.ConnectionString("root")), "endless", admin.QueueProperties{DefaultMessageTimeToLive: to.Ptr("P100000D")})
	f.send(t, "endless", message("x"))
	if m := f.one(t, f.receiver(t, "endless", nil)); string(m.Body) != "x" {
		t.Errorf("endless: got %q", m.Body)
	}
	f.send(
		t,
		"q",
		&azservicebus.Message{TimeToLive: to.Ptr(time.Hour)},
		&azservicebus.Message{TimeToLive: to.Ptr(3 * time.Hour)},
		message("x"),
	)
	got, err := f.receiver(t, "q", nil).PeekMessages(f.ctx, 3, nil)
	must(t, err)
	for i, want := range []time.Duration{time.Hour, 2 * time.Hour, 2 * time.Hour} {
		if ttl := got[i].ExpiresAt.Sub(*got[i].EnqueuedTime); ttl != want {
			t.Errorf("message %d: got %v, want %v", i, ttl, want)
		}
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	f := setup(t)
	open := func(conn string) *azservicebus.Client {
		c, err := azservicebus.NewClientFromConnectionString(
			conn,
			&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}},
		)
		must(t, err)
		t.Cleanup(func() { c.Close(f.ctx) })
		return c
	}
	code := func(c *azservicebus.Client, queue string) azservicebus.Code {
		s, err := c.NewSender(queue, nil)
		must(t, err)
		var sbErr *azservicebus.Error
		errors.As(s.SendMessage(f.ctx, inSession("s", "x"), nil), &sbErr)
		if sbErr == nil {
			return ""
		}
		return sbErr.Code
	}
	agent := open(f.ConnectionString("agent"))
	if got := code(agent, "plain"); got != "" {
		t.Errorf("the agent's send to plain: got %q", got)
	}
	if got := code(agent, "work"); got != azservicebus.CodeUnauthorizedAccess {
		t.Errorf("the agent's send to work: got %q, want refusal", got)
	}
	wrong := open(strings.Replace(f.ConnectionString("root"), "cm9vdA==", "d3Jvbmc=", 1))
	if got := code(wrong, "plain"); got != azservicebus.CodeUnauthorizedAccess {
		t.Errorf("a wrong key: got %q, want refusal", got)
	}
	if got := code(open(f.ConnectionString("root")), "nowhere"); got != azservicebus.CodeNotFound {
		t.Errorf("an unknown queue: got %q, want not found", got)
	}
}

func TestSurvivesRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: path, Queues: queues, AccessKeys: rules})
	must(t, err)
	ctx := t.Context()
	c, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("root"), nil)
	must(t, err)
	f := fixture{s, c, ctx}
	f.send(t, "plain", message("one"), message("two"), message("three"))
	f.send(t, "work", inSession("a", "x"))
	r := f.receiver(t, "plain", nil)
	must(t, r.CompleteMessage(ctx, f.one(t, r), nil))
	f.one(t, r) // locked when the server stops
	a, err := c.AcceptSessionForQueue(ctx, "work", "a", nil)
	must(t, err)
	must(t, a.SetSessionState(ctx, []byte("kept"), nil))
	must(t, s.Close())
	c.Close(ctx)

	f = start(t, path)
	r = f.receiver(t, "plain", nil)
	for _, want := range []string{"two", "three"} {
		if m := f.one(t, r); string(m.Body) != want {
			t.Errorf("got %q, want %q", m.Body, want)
		}
	}
	a, err = f.client.AcceptSessionForQueue(f.ctx, "work", "a", nil)
	must(t, err)
	if state, _ := a.GetSessionState(f.ctx, nil); string(state) != "kept" {
		t.Errorf("state: got %q", state)
	}
	f.send(t, "plain", message("four"))
	if m := f.one(t, r); *m.SequenceNumber != 4 {
		t.Errorf("number: got %d, want 4", *m.SequenceNumber)
	}
}
