package bus_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/bus/tolerant/tolerantest"
	"dsvmpools/shared/fault"
)

// fill sends n messages to the queue jobs, in the middle one that the client cannot decode.
func (f fixture) fill(t *testing.T, n int) {
	t.Helper()
	messages := make([]bus.Message, 0, n)
	for i := range n {
		messages = append(messages, bus.Message{ID: fmt.Sprintf("m-%d", i+1), Body: fmt.Appendf(nil, "body %d", i+1)})
	}
	if err := f.Send(f.ctx, "jobs", messages[:n/2]...); err != nil {
		t.Fatal(err)
	}
	host, _ := tolerant.Endpoint(f.server.ConnectionString("root"))
	odd, err := azservicebus.NewClientFromConnectionString(f.server.ConnectionString("root"), &azservicebus.ClientOptions{
		NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
			return tolerantest.Conn{Conn: c}, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer odd.Close(f.ctx)
	sender, err := odd.NewSender("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = sender.SendMessage(f.ctx, &azservicebus.Message{MessageID: to.Ptr("odd"), Body: []byte("odd"),
		ApplicationProperties: map[string]any{"price": tolerantest.Decimal}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Send(f.ctx, "jobs", messages[n/2:]...); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) peekAll(t *testing.T) []bus.Waiting {
	t.Helper()
	var all []bus.Waiting
	for from := int64(0); ; {
		seen, err := f.Peek(f.ctx, "jobs", from, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			return all
		}
		all = append(all, seen...)
		from = seen[len(seen)-1].Sequence + 1
	}
}

func ids(all []bus.Waiting) (out []string) {
	for _, w := range all {
		out = append(out, w.ID)
	}
	return out
}

// One message is removed from the middle of a queue. The others stay where they are, in
// their order, and no delivery of theirs is counted, however often that is done.
func TestRemoveOneMessage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const n = 250
	f.fill(t, n)
	all := f.peekAll(t)
	if len(all) != n+1 || all[n/2].ID != "odd" || all[n/2].Properties["price"] != "1.5" || string(all[0].Body) != "body 1" || all[0].EnqueuedAt.IsZero() {
		t.Fatalf("a look shows %d messages: %+v", len(all), all[n/2])
	}
	want := ids(all)
	for _, place := range []int{200, n / 2, 1, 0} { // from the end, so that the places stay
		if err := f.Remove(f.ctx, "jobs", all[place].Sequence); err != nil {
			t.Fatalf("message %d: %v", place, err)
		}
		want = slices.Delete(want, place, place+1)
	}
	if got := ids(f.peekAll(t)); !slices.Equal(got, want) {
		t.Errorf("left: %v\nwant: %v", got, want)
	}
	for _, sequence := range []int64{all[0].Sequence, 9_999} {
		if err := f.Remove(f.ctx, "jobs", sequence); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("message %d, which is not there: %v", sequence, err)
		}
	}
	r, err := f.client.NewReceiverForQueue("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range f.receive(t, r, len(want)) {
		if m.MessageID != want[i] || m.DeliveryCount != 1 {
			t.Fatalf("message %d: got %s with delivery %d, want %s with 1", i, m.MessageID, m.DeliveryCount, want[i])
		}
	}
}

// A message that another receiver holds is not removed, and nothing waits for it long.
func TestRemoveMessageOfAnother(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.Send(f.ctx, "jobs", bus.Message{ID: "1"}, bus.Message{ID: "2"}, bus.Message{ID: "3"}); err != nil {
		t.Fatal(err)
	}
	all := f.peekAll(t)
	r, err := f.client.NewReceiverForQueue("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	held := f.receive(t, r, 2)
	began := time.Now()
	for _, m := range held {
		if err := f.Remove(f.ctx, "jobs", *m.SequenceNumber); fault.CodeOf(err) != fault.Throttled {
			t.Errorf("message %s is held: %v", m.MessageID, err)
		}
	}
	if took := time.Since(began); took >= 4*time.Second { // two waits for messages that do not come
		t.Errorf("it takes %s to find out, though the message after those is there", took)
	}
	if err := f.Remove(f.ctx, "jobs", all[2].Sequence); err != nil {
		t.Errorf("the one after those: %v", err)
	}
	for _, m := range held {
		if err := r.CompleteMessage(f.ctx, m, nil); err != nil {
			t.Errorf("its holder completes %s: %v", m.MessageID, err)
		}
	}
}

// Several at a time do not lose a message to each other: each is removed, or stays.
func TestRemoveSideBySide(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const n = 40
	f.fill(t, n-1)
	all := f.peekAll(t)
	results := make(chan int64, n)
	for _, w := range all[:10] {
		go func() {
			for {
				err := f.Remove(f.ctx, "jobs", w.Sequence)
				if fault.CodeOf(err) == fault.Throttled {
					continue
				}
				if err != nil {
					t.Error(err)
				}
				results <- w.Sequence
				return
			}
		}()
	}
	for range 10 {
		select {
		case <-results:
		case <-f.ctx.Done():
			t.Fatal("not all were removed in time")
		}
	}
	if got := ids(f.peekAll(t)); !slices.Equal(got, ids(all[10:])) {
		t.Errorf("left: %v", got)
	}
}

func TestPeekOfNoQueue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.Peek(f.ctx, "nothing", 0, 1); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a look at no queue: %v", err)
	}
	if err := f.Remove(f.ctx, "nothing", 1); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a message of no queue: %v", err)
	}
}
