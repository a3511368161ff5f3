package servicebus_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus"
)

// faulty is a running server with a client that does not try again by itself,
// unless retries says so, and faults to be added.
func faulty(t *testing.T, retries int32) (fixture, *chaos.Set) {
	t.Helper()
	set := chaos.New(1)
	s, err := servicebus.Start(
		servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"), Queues: queues, AccessKeys: rules, Chaos: set},
	)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	client, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("root"), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: retries, RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond}})
	must(t, err)
	t.Cleanup(func() {
		client.Close(ctx)
		s.Close()
		cancel()
	})
	return fixture{s, client, ctx}, set
}

const noRetries = -1

func inject(t *testing.T, set *chaos.Set, r chaos.Injection) {
	t.Helper()
	_, err := set.Add(r)
	must(t, err)
}

// TestFaultsThatAreErrors: the client gets an error, and the next attempt goes
// well.
func TestFaultsThatAreErrors(t *testing.T) {
	t.Parallel()
	send := func(t *testing.T, f fixture) error { return f.sender(t, "plain").SendMessage(f.ctx, message("x"), nil) }
	receive := func(t *testing.T, f fixture) error {
		_, err := f.receiver(t, "plain", nil).ReceiveMessages(f.ctx, 1, nil)
		return err
	}
	peek := func(t *testing.T, f fixture) error {
		_, err := f.receiver(t, "plain", nil).PeekMessages(f.ctx, 1, nil)
		return err
	}
	tests := []struct {
		target string
		do     chaos.Action
		code   string
		act    func(*testing.T, fixture) error
		want   string
	}{
		{"connect", chaos.Refuse, "", send, "connection:forced"},
		{"connect", chaos.Disconnect, "", send, "connlost"},
		{"token", chaos.Refuse, "", send, "unauthorized"},
		{"token", chaos.Throttle, "", send, "50009"},
		{"token", chaos.Disconnect, "", send, "connlost"},
		{"token", chaos.Lose, "", send, "connlost"},
		{"attach/plain", chaos.Refuse, "amqp:resource-limit-exceeded", send, "resource-limit-exceeded"},
		{"attach/plain", chaos.Throttle, "", receive, "50009"},
		{"attach/plain", chaos.Detach, "", receive, "detach-forced"},
		{"attach/plain", chaos.Disconnect, "", receive, "connlost"},
		{"send", chaos.Refuse, "amqp:resource-limit-exceeded", send, "resource-limit-exceeded"},
		{"send", chaos.Throttle, "", send, "50009"},
		{"send", chaos.Disconnect, "", send, "connlost"},
		{"management", chaos.Refuse, "", peek, "500"},
		{"management", chaos.Refuse, "404", peek, "notfound"},
		{"management", chaos.Throttle, "", peek, "50009"},
		{"management", chaos.Disconnect, "", peek, "connlost"},
		{"management", chaos.Lose, "", peek, "connlost"},
	}
	for _, test := range tests {
		t.Run(test.target+" "+string(test.do), func(t *testing.T) {
			t.Parallel()
			f, set := faulty(t, noRetries)
			inject(t, set, chaos.Injection{Do: test.do, Target: "servicebus/" + test.target, Count: 1, Code: test.code})
			err := test.act(t, f)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			again := func(what string, act func(*testing.T, fixture) error) {
				err := act(t, f)
				for attempt := 0; err != nil && attempt < 4; attempt++ { // a client without retries learns of its connection's end by its next call
					err = act(t, f)
				}
				if err != nil {
					t.Errorf("%s after the fault: %v", what, err)
				}
			}
			again("a send", send)
			again("the same", test.act)
		})
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	const delay = 100 * time.Millisecond
	for _, operation := range []string{"connect", "token", "attach", "send", "receive", "settle", "management"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			f, set := faulty(t, noRetries)
			inject(t, set, chaos.Injection{Do: chaos.Delay, Delay: delay, Target: "servicebus/" + operation, Count: 1})
			from := time.Now()
			f.send(t, "plain", message("x"))
			r := f.receiver(t, "plain", nil)
			_, err := r.PeekMessages(f.ctx, 1, nil)
			must(t, err)
			must(t, r.CompleteMessage(f.ctx, f.one(t, r), nil))
			if took := time.Since(from); took < delay {
				t.Errorf("all took %v, want at least %v", took, delay)
			}
		})
	}
}

func TestALostSendIsStored(t *testing.T) {
	t.Parallel()
	f, set := faulty(t, 3)
	inject(t, set, chaos.Injection{Do: chaos.Lose, Target: "servicebus/send/plain", Count: 1})
	f.send(t, "plain", message("twice")) // the client tries again
	if active, _, _, _ := f.Counts("plain"); active != 2 {
		t.Errorf("got %d messages, want 2", active)
	}
}

func TestALostSettlementIsDone(t *testing.T) {
	t.Parallel()
	f, set := faulty(t, 3)
	f.send(t, "plain", message("x"))
	r := f.receiver(t, "plain", nil)
	m := f.one(t, r)
	inject(t, set, chaos.Injection{Do: chaos.Lose, Target: "servicebus/settle/plain", Count: 1})
	ctx, cancel := context.WithTimeout(f.ctx, time.Second) // the client's retries of a settlement take no options
	defer cancel()
	if err := r.CompleteMessage(ctx, m, nil); err == nil {
		t.Error("the settlement was answered")
	}
	f.none(t, "plain")
}

func TestSettlementsThatAreNotDone(t *testing.T) {
	t.Parallel()
	for action, want := range map[chaos.Action]string{chaos.Refuse: "lock lost", chaos.Detach: "done", chaos.Disconnect: "failed"} {
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			f, set := faulty(t, 3)
			f.send(t, "plain", message("x"))
			r := f.receiver(t, "plain", nil)
			m := f.one(t, r)
			inject(t, set, chaos.Injection{Do: action, Target: "servicebus/settle", Count: 1})
			ctx, cancel := context.WithTimeout(f.ctx, time.Second) // the client's retries of a settlement take no options
			defer cancel()
			got, left := "failed", 1
			var sbErr *azservicebus.Error
			switch err := r.CompleteMessage(ctx, m, nil); {
			case err == nil:
				got, left = "done", 0 // by the management node
			case errors.As(err, &sbErr) && sbErr.Code == azservicebus.CodeLockLost:
				got = "lock lost"
			}
			if active, _, _, _ := f.Counts("plain"); got != want || active != left {
				t.Errorf("got %s and %d messages, want %s and %d", got, active, want, left)
			}
		})
	}
}

// TestADetachedSenderSendsAgain: the client attaches again by itself.
func TestADetachedSenderSendsAgain(t *testing.T) {
	t.Parallel()
	f, set := faulty(t, 3)
	inject(t, set, chaos.Injection{Do: chaos.Detach, Target: "servicebus/send/plain", Count: 1})
	f.send(t, "plain", message("once"))
	if active, _, _, _ := f.Counts("plain"); active != 1 {
		t.Errorf("got %d messages, want 1", active)
	}
}

func TestFaultsOfReceiving(t *testing.T) {
	t.Parallel()
	for action, want := range map[chaos.Action]uint32{chaos.Detach: 1, chaos.Disconnect: 1, chaos.Lose: 2} { // a lost message counts as delivered
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			f, set := faulty(t, 3)
			inject(t, set, chaos.Injection{Do: action, Target: "servicebus/receive/short", Count: 1})
			f.send(t, "short", message("x"))
			r := f.receiver(t, "short", nil)
			var got []*azservicebus.ReceivedMessage
			for len(got) == 0 {
				var err error
				if got, err = r.ReceiveMessages(f.ctx, 1, nil); err != nil {
					t.Fatal(err)
				}
			}
			if got[0].DeliveryCount != want {
				t.Errorf("delivery count: got %d, want %d", got[0].DeliveryCount, want)
			}
		})
	}
}

func TestCloudRates(t *testing.T) {
	t.Parallel()
	now := time.Now() // a clock that stands still: one second that does not end
	s, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"), Queues: queues,
		AccessKeys: rules, CloudRates: true, Now: func() time.Time { return now }})
	must(t, err)
	defer s.Close()
	client, err := azservicebus.NewClientFromConnectionString(
		s.ConnectionString("root"),
		&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}},
	)
	must(t, err)
	defer client.Close(t.Context())
	f := fixture{s, client, t.Context()}
	c := administration(t, s.ConnectionString("root"))
	for range 10 { // 10 credits each
		_, err := c.GetQueue(t.Context(), "plain", nil)
		must(t, err)
	}
	sender := f.sender(t, "plain")
	sent := 0
	for ; sent < 1000; sent++ {
		if err = sender.SendMessage(t.Context(), message("x"), nil); err != nil {
			break
		}
	}
	if sent != 900 || !strings.Contains(err.Error(), "com.microsoft:server-busy") || !strings.Contains(err.Error(), "50009") {
		t.Errorf("sent %d messages, then %v; want 900, then server-busy", sent, err)
	}
	if _, err := c.GetQueue(t.Context(), "plain", nil); status(err) != 503 {
		t.Errorf("the administration: got %v, want 503", err)
	}
	if _, err := f.receiver(t, "plain", nil).PeekMessages(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "50009") {
		t.Errorf("peek: got %v, want it throttled", err)
	}
}

// TestCreditsOfMessages counts what clients pay: for each message when it is sent, when it is
// delivered and when it is peeked, and for the renewal of a lock. Its end costs nothing.
func TestCreditsOfMessages(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"), Queues: queues,
		AccessKeys: rules, CloudRates: true, Now: func() time.Time { return now }})
	must(t, err)
	defer s.Close()
	client, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("root"), nil)
	must(t, err)
	defer client.Close(t.Context())
	f := fixture{s, client, t.Context()}
	spent := int64(0)
	wantSpent := func(what string, n int64) {
		t.Helper()
		if got := s.RateStats().Credits - spent; got != n {
			t.Errorf("%s cost %d credits, want %d", what, got, n)
		}
		spent = s.RateStats().Credits
	}
	sender := f.sender(t, "plain")
	batch, err := sender.NewMessageBatch(t.Context(), nil)
	must(t, err)
	for range 5 {
		must(t, batch.AddMessage(message("x"), nil))
	}
	must(t, sender.SendMessageBatch(t.Context(), batch, nil))
	wantSpent("a batch of 5", 5)
	must(t, sender.SendMessage(t.Context(), message("x"), nil))
	wantSpent("one message", 1)
	r := f.receiver(t, "plain", nil)
	_, err = r.PeekMessages(t.Context(), 4, nil)
	must(t, err)
	wantSpent("a look at 4", 4)
	var got []*azservicebus.ReceivedMessage
	for len(got) < 6 {
		some, err := r.ReceiveMessages(t.Context(), 6-len(got), nil)
		must(t, err)
		got = append(got, some...)
	}
	wantSpent("6 deliveries", 6)
	must(t, r.RenewMessageLock(t.Context(), got[0], nil))
	wantSpent("the renewal of a lock", 1)
	must(t, r.CompleteMessage(t.Context(), got[0], nil))
	must(t, r.AbandonMessage(t.Context(), got[1], nil))
	must(t, r.DeadLetterMessage(t.Context(), got[2], nil))
	wantSpent("the end of messages", 0)
	if stats := s.RateStats(); stats.Sends != (servicebus.RequestCount{Requests: 2}) || stats.FullSeconds != 0 {
		t.Errorf("got %+v, want 2 sends and no refusal", stats)
	}
}
