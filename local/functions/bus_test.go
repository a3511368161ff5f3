//go:build unix

package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/invoke"
)

// fakeQueue is a queue in memory. Abandoned messages come again at once.
type fakeQueue struct {
	mu      sync.Mutex
	waiting []*delivery
	done    []string // ids, in the order of completion
	opened  int
	broken  error // of the next receive
	renewed int
	settle  error
	tries   int // settlements, failed ones included
	changed chan struct{}
}

func newFakeQueue() *fakeQueue { return &fakeQueue{changed: make(chan struct{}, 1)} }

func (q *fakeQueue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

func (q *fakeQueue) put(lockedUntil time.Time, ids ...string) {
	q.mu.Lock()
	for _, id := range ids {
		q.waiting = append(q.waiting,
			&delivery{Delivery: invoke.Delivery{Message: invoke.Message{ID: id, DeliveryCount: 1}, LockedUntil: lockedUntil}})
	}
	q.mu.Unlock()
	q.signal()
}

func (q *fakeQueue) receive(ctx context.Context, most int) ([]*delivery, error) {
	for {
		q.mu.Lock()
		err := q.broken
		q.broken = nil
		n := min(most, len(q.waiting))
		got := slices.Clone(q.waiting[:n])
		q.waiting = q.waiting[n:]
		q.mu.Unlock()
		if err != nil || n > 0 {
			return got, err
		}
		select {
		case <-q.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *fakeQueue) complete(_ context.Context, d *delivery) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tries++; q.settle != nil {
		return q.settle
	}
	q.done = append(q.done, d.ID)
	return nil
}

func (q *fakeQueue) abandon(_ context.Context, d *delivery) error {
	q.mu.Lock()
	q.tries++
	d.DeliveryCount++
	q.waiting = append(q.waiting, d)
	q.mu.Unlock()
	q.signal()
	return nil
}

func (q *fakeQueue) renew(_ context.Context, d *delivery) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.renewed++
	d.LockedUntil = time.Now().Add(20 * time.Millisecond)
	return nil
}

func (q *fakeQueue) close() {}

func (q *fakeQueue) completed() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.done)
}

// loop runs a bus loop over the queue until the test ends. call gets the ids of each batch.
func loop(t *testing.T, q *fakeQueue, cardinality string, most int, call func(ids []string) error) context.CancelFunc {
	t.Helper()
	l := &busLoop{
		f:       &function{name: "F", trigger: binding{Name: "m", Cardinality: cardinality, DataType: "binary"}},
		log:     slog.New(slog.DiscardHandler),
		most:    most,
		renewal: time.Minute,
		open: func(context.Context) (source, error) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.opened++
			return q, nil
		},
		ready: func(context.Context) error { return nil },
		begin: func() invoke.Invocation { return invoke.Invocation{Function: "F", Binding: "m"} },
	}
	l.call = func(_ context.Context, _ invoke.Invocation, body []byte) error { return call(idsOf(t, body)) }
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return cancel
}

func idsOf(t *testing.T, body []byte) []string {
	var p struct {
		Metadata struct{ MessageID, MessageIDArray string }
	}
	var raw struct{ Metadata map[string]json.RawMessage }
	if err := json.Unmarshal(body, &raw); err != nil {
		t.Error(err)
	}
	_ = json.Unmarshal(raw.Metadata["MessageIdArray"], &p.Metadata.MessageIDArray)
	_ = json.Unmarshal(raw.Metadata["MessageId"], &p.Metadata.MessageID)
	var ids []string
	if json.Unmarshal([]byte(p.Metadata.MessageIDArray), &ids) == nil {
		return ids
	}
	var id string
	if err := json.Unmarshal([]byte(p.Metadata.MessageID), &id); err != nil {
		t.Errorf("an invocation without an id: %s", body)
	}
	return []string{id}
}

func numbered(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

// One batch at a time, up to the limit; while it runs nothing is taken from the queue.
func TestNothingIsTakenWhileTheFunctionRuns(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	batches, finish := make(chan []string), make(chan struct{})
	loop(t, q, "many", 10, func(ids []string) error {
		batches <- ids
		<-finish
		return nil
	})
	q.put(time.Time{}, "first")
	if got := <-batches; len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	q.put(time.Time{}, numbered(25)...)
	for total := 1; total < 26; {
		q.mu.Lock()
		if left := len(q.waiting); left != 26-total {
			t.Errorf("%d wait in the queue after %d were handed over, want %d", left, total, 26-total)
		}
		q.mu.Unlock()
		finish <- struct{}{}
		got := <-batches
		if total == 1 && len(got) != 10 || len(got) > 10 {
			t.Errorf("a batch of %d, want 10", len(got))
		}
		total += len(got)
	}
	finish <- struct{}{}
	eventually(t, "all completed", func() bool { return len(q.completed()) == 26 })
}

// A message whose body does not bind fails its batch: the handler gets none of the
// messages. A text in an AMQP value does not bind to bytes.
func TestBodiesThatDoNotBind(t *testing.T) {
	t.Parallel()
	text := &delivery{kind: tolerant.Value, isText: true}
	number := &delivery{kind: tolerant.Value}
	list := &delivery{kind: tolerant.Sequence}
	for _, tt := range []struct {
		name   string
		d      *delivery
		binary bool
		binds  bool
	}{
		{"bytes to bytes", &delivery{}, true, true}, {"bytes to text", &delivery{}, false, true}, {"text to text", text, false, true},
		{"text to bytes", text, true, false},
		{"number to text", number, false, false}, {"number to bytes", number, true, false}, {"sequence to text", list, false, false},
		{"sequence to bytes", list, true, false},
	} {
		if err := tt.d.checkBinding(tt.binary); (err == nil) != tt.binds {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	for _, cardinality := range []string{"many", "one"} {
		t.Run(cardinality, func(t *testing.T) {
			t.Parallel()
			q := newFakeQueue()
			q.put(time.Time{}, numbered(3)...)
			q.waiting[1].kind = tolerant.Sequence
			var mu sync.Mutex
			var called []string
			loop(t, q, cardinality, 10, func(ids []string) error {
				mu.Lock()
				defer mu.Unlock()
				called = append(called, ids...)
				return nil
			})
			eventually(t, "ten tries", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.tries >= 10 })
			mu.Lock()
			defer mu.Unlock()
			if cardinality == "many" && len(called) > 0 || slices.Contains(called, "1") {
				t.Errorf("the handler was called with %v", called)
			}
			if cardinality == "one" && len(called) != 2 {
				t.Errorf("the others were not handed over: %v", called)
			}
		})
	}
}

// After a failure, every message of the batch comes again.
func TestBatchFails(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	var mu sync.Mutex
	calls := 0
	q.put(time.Time{}, numbered(100)...)
	loop(t, q, "many", 100, func(ids []string) error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls <= 2 {
			return errors.New("no")
		}
		return nil
	})
	eventually(t, "all completed", func() bool { return len(q.completed()) == 100 })
	got := q.completed()
	slices.Sort(got)
	if len(slices.Compact(got)) != 100 {
		t.Error("a message was completed twice")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tries < 200 {
		t.Errorf("%d settlements; the messages of a failed batch were not abandoned", q.tries)
	}
}

// A message whose lock has ended is left out of the batch: the server sends it again.
func TestLocksThatRanOut(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	q.put(time.Now().Add(-time.Second), "old")
	q.put(time.Now().Add(time.Minute), "new")
	loop(t, q, "many", 10, func(ids []string) error { return nil })
	eventually(t, "a completion", func() bool { return len(q.completed()) > 0 })
	if got := q.completed(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("got %v, want the new message only", got)
	}
}

// A host that ends settles the messages that it has received, and receives no others.
func TestEndOfLoop(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	began, finish := make(chan struct{}), make(chan struct{})
	stop := loop(t, q, "many", 10, func([]string) error {
		close(began)
		<-finish
		return nil
	})
	q.put(time.Time{}, "first")
	<-began
	q.put(time.Time{}, numbered(3)...)
	stop()
	close(finish)
	eventually(t, "the end", func() bool { return len(q.completed()) == 1 })
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Equal(q.done, []string{"first"}) || len(q.waiting) != 3 || q.waiting[0].DeliveryCount != 1 {
		t.Errorf("completed %v, %d are left, of which the first was handed over %d times", q.done, len(q.waiting),
			q.waiting[0].DeliveryCount-1)
	}
}

// A queue that fails is opened again, in both modes.
func TestQueueFails(t *testing.T) {
	t.Parallel()
	for _, cardinality := range []string{"many", "one"} {
		t.Run(cardinality, func(t *testing.T) {
			t.Parallel()
			q := newFakeQueue()
			q.broken = errors.New("the link is gone")
			q.put(time.Time{}, numbered(5)...)
			loop(t, q, cardinality, 1, func([]string) error { return nil })
			eventually(t, "a second opening", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.opened == 2 })
			q.put(time.Time{}, numbered(3)...)
			eventually(t, "the messages", func() bool { return len(q.completed()) >= 3 })
		})
	}
}

// When no message can be settled, the batch does not try each one.
func TestHopelessSettlement(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	q.settle = errors.New("the server is away")
	q.put(time.Time{}, numbered(1000)...)
	called := make(chan struct{}, 10)
	loop(t, q, "many", 1000, func([]string) error { called <- struct{}{}; return nil })
	<-called
	q.put(time.Time{}, "next")
	<-called
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tries < maxFailedFirst || q.tries > maxFailedFirst+settleAtOnce {
		t.Errorf("%d settlements were tried", q.tries)
	}
}

// Single messages run concurrently up to the limit, and their locks are renewed.
func TestSingles(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	began, finish := make(chan string), make(chan struct{})
	loop(t, q, "one", 3, func(ids []string) error {
		began <- ids[0]
		<-finish
		return nil
	})
	q.put(time.Now().Add(20*time.Millisecond), numbered(5)...)
	for range 3 {
		<-began
	}
	select {
	case id := <-began:
		t.Fatalf("%s is a fourth at a time", id)
	default:
	}
	eventually(t, "renewals", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.renewed > 6 })
	for range 2 {
		finish <- struct{}{}
		<-began
	}
	close(finish)
	eventually(t, "all completed", func() bool { return len(q.completed()) == 5 })
}
