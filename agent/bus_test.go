//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"dsvmpools/shared/protocol"
)

// deadline bounds every wait of these tests; none of them takes that long.
const deadline = 20 * time.Second

// memBus is Service Bus for one node, in memory. One session at a time; a
// message that is not settled before its session closes comes again.
type memBus struct {
	tb testing.TB

	mu       sync.Mutex
	queue    []*message
	locked   []*message // received, not settled
	state    []byte
	reports  []protocol.Report
	put      []string // reasons of refused messages
	taken    bool
	away     bool // every call fails
	busy     int  // so many reports are refused
	accepts  int
	forget   bool // reports are counted, not kept
	count    int  // ends reported
	renewals int
	lock     time.Duration // 0 = a minute
	changed  chan struct{} // closed and replaced at every change
}

func newBus(tb testing.TB) *memBus { return &memBus{tb: tb, changed: make(chan struct{})} }

var errAway = errors.New("Service Bus is away")

// change runs f under the lock and wakes everybody who waits.
func (b *memBus) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// await returns when the condition holds, which is tried under the lock.
func (b *memBus) await(ctx context.Context, ok func() bool) error {
	for {
		b.mu.Lock()
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *memBus) accept(context.Context) (session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away || b.taken {
		return nil, errAway
	}
	b.taken = true
	b.accepts++
	return &memSession{b}, nil
}

func (b *memBus) send(_ context.Context, body []byte) error {
	r, err := protocol.DecodeReport(body)
	if err != nil {
		b.tb.Errorf("a report that cannot be read: %v", err)
	}
	err = nil
	b.change(func() {
		if b.away {
			err = errAway
			return
		}
		if b.busy > 0 {
			b.busy--
			err = &amqp.Error{Condition: "com.microsoft:server-busy"}
			return
		}
		b.count += len(ends([]protocol.Report{r}))
		if !b.forget {
			b.reports = append(b.reports, r)
		}
	})
	return err
}

func (b *memBus) reset() {}

func (b *memBus) close(context.Context) {}

// work sends items to the node.
func (b *memBus) work(items ...protocol.WorkItem) {
	body, err := json.Marshal(protocol.Work{V: protocol.Version, Items: items})
	if err != nil {
		b.tb.Error(err)
	}
	b.raw(body)
}

func (b *memBus) raw(body []byte) {
	b.change(func() { b.queue = append(b.queue, &message{body: body}) })
}

// until waits until the reports so far satisfy the condition.
func (b *memBus) until(what string, ok func([]protocol.Report) bool) {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if b.await(ctx, func() bool { return ok(b.reports) }) != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		got, _ := json.MarshalIndent(b.reports, "", " ")
		b.tb.Fatalf("waited in vain for %s; reports so far:\n%s", what, got)
	}
}

// finished waits for the end of assignment n and returns it.
func (b *memBus) finished(n int64) protocol.Finished {
	b.tb.Helper()
	var got protocol.Finished
	b.until("the end of an assignment", func(all []protocol.Report) bool {
		for _, f := range ends(all) {
			if f.N == n {
				got = f
				return true
			}
		}
		return false
	})
	return got
}

// settled waits until no message is left.
func (b *memBus) settled() {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if b.await(ctx, func() bool { return len(b.queue) == 0 && len(b.locked) == 0 }) != nil {
		b.tb.Fatal("waited in vain for the messages to be settled")
	}
}

// ends lists the reported ends.
func ends(all []protocol.Report) []protocol.Finished {
	var list []protocol.Finished
	for _, r := range all {
		for _, i := range r.Items {
			if i.Finished != nil {
				list = append(list, *i.Finished)
			}
		}
	}
	return list
}

type memSession struct{ b *memBus }

func (s *memSession) state(context.Context) ([]byte, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return s.b.state, nil
}

func (s *memSession) receive(ctx context.Context) (*message, error) {
	var m *message
	var failed error
	err := s.b.await(ctx, func() bool {
		if s.b.away {
			failed = errAway
			return true
		}
		if len(s.b.queue) == 0 {
			return false
		}
		m, s.b.queue = s.b.queue[0], s.b.queue[1:]
		s.b.locked = append(s.b.locked, m)
		return true
	})
	return m, errors.Join(err, failed)
}

func (s *memSession) complete(_ context.Context, m *message) error {
	err := errAway
	s.b.change(func() {
		for i, l := range s.b.locked {
			if l == m && !s.b.away {
				s.b.locked = append(s.b.locked[:i:i], s.b.locked[i+1:]...)
				err = nil
				return
			}
		}
	})
	return err
}

func (s *memSession) refuse(ctx context.Context, m *message, reason string) error {
	s.b.change(func() { s.b.put = append(s.b.put, reason) })
	return s.complete(ctx, m)
}

func (s *memSession) renew(context.Context) error {
	var err error
	s.b.change(func() {
		s.b.renewals++
		if s.b.away {
			err = errAway
		}
	})
	return err
}

func (s *memSession) left() time.Duration {
	if s.b.lock > 0 {
		return s.b.lock
	}
	return time.Minute
}

func (s *memSession) close(context.Context) {
	s.b.change(func() {
		s.b.queue = append(s.b.locked, s.b.queue...)
		s.b.locked, s.b.taken = nil, false
	})
}

// counted gives an agent that asks for the pool's counter what it asks for, as its
// pool does. One that does not ask gets nothing.
func (b *memBus) counted(counter int64) {
	b.tb.Helper()
	b.until("the agent's first word", func(all []protocol.Report) bool { return len(all) > 0 })
	b.mu.Lock()
	ready := b.reports[0].Items[0].Ready
	b.mu.Unlock()
	if ready != nil && ready.Counter {
		b.work(protocol.WorkItem{Counter: &protocol.Counter{Boot: ready.Boot, N: counter}})
	}
}
