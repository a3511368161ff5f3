package apptest

import (
	"context"
	"slices"
	"sync"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

// Bus is a service.Bus in memory. It keeps what was sent until a test takes it.
type Bus struct {
	mu     sync.Mutex
	queues map[string][]bus.Waiting
	last   int64 // sequence number of the last message
	dead   map[string][]bus.Dead
	work   map[string][]protocol.WorkItem
	fenced map[string]bool
	err    error
}

// NewBus returns a bus with empty queues.
func NewBus() *Bus {
	return &Bus{
		queues: map[string][]bus.Waiting{},
		dead:   map[string][]bus.Dead{},
		work:   map[string][]protocol.WorkItem{},
		fenced: map[string]bool{},
	}
}

// Queues are the default names.
func (b *Bus) Queues() bus.Queues { return bus.DefaultQueues }

// Fail makes every call fail with an error, until it is nil.
func (b *Bus) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// Send keeps messages.
func (b *Bus) Send(_ context.Context, queue string, messages ...bus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	for _, m := range messages {
		b.last++
		b.queues[queue] = append(b.queues[queue], bus.Waiting{Dead: bus.Dead{Message: m}, Sequence: b.last})
	}
	return nil
}

// Take returns the messages of a queue in the order in which they were sent, and
// empties it.
func (b *Bus) Take(queue string) []bus.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]bus.Message, len(b.queues[queue]))
	for i, w := range b.queues[queue] {
		all[i] = w.Message
	}
	delete(b.queues, queue)
	return all
}

// Peek shows messages from a sequence number on.
func (b *Bus) Peek(_ context.Context, queue string, from int64, n int) ([]bus.Waiting, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	all := b.queues[queue]
	first := slices.IndexFunc(all, func(w bus.Waiting) bool { return w.Sequence >= from })
	if first < 0 {
		return nil, nil
	}
	return slices.Clone(all[first:min(first+n, len(all))]), nil
}

// Remove removes the message with a sequence number.
func (b *Bus) Remove(_ context.Context, queue string, sequence int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	i := slices.IndexFunc(b.queues[queue], func(w bus.Waiting) bool { return w.Sequence == sequence })
	if i < 0 {
		return fault.New(fault.NotFound, "", "queue %q has no message %d", queue, sequence)
	}
	b.queues[queue] = slices.Delete(b.queues[queue], i, i+1)
	return nil
}

// Kill puts messages on the dead-letter queue of a queue.
func (b *Bus) Kill(queue string, dead ...bus.Dead) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead[queue] = append(b.dead[queue], dead...)
}

// Dead returns the dead messages of a queue.
func (b *Bus) Dead(queue string) []bus.Dead {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.dead[queue])
}

// DeadLetters hands over dead messages; those without an error are gone.
func (b *Bus) DeadLetters(ctx context.Context, queue string, n int, fn func(context.Context, []bus.Dead) map[int]error) error {
	b.mu.Lock()
	part := slices.Clone(b.dead[queue][:min(n, len(b.dead[queue]))])
	err := b.err
	b.mu.Unlock()
	if err != nil || len(part) == 0 {
		return err
	}
	failed := fn(ctx, part)
	var stay []bus.Dead
	for i, d := range part {
		if failed[i] != nil {
			stay, err = append(stay, d), failed[i]
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead[queue] = append(stay, b.dead[queue][len(part):]...)
	return err
}

// Work keeps the items of a node's session.
func (b *Bus) Work(_ context.Context, session string, items []protocol.WorkItem) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.work[session] = append(b.work[session], items...)
	return nil
}

// TakeWork returns the items of a node's session, and empties it.
func (b *Bus) TakeWork(session string) []protocol.WorkItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.work[session]
	delete(b.work, session)
	return all
}

// Fence takes every session that no test holds as an agent would.
func (b *Bus) Fence(_ context.Context, session string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return false, b.err
	}
	b.fenced[session] = true
	return true, nil
}

// Inspect shows a queue as the template makes it.
func (b *Bus) Inspect(_ context.Context, queue string) (bus.Queue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := bus.Queue{Sessions: queue == b.Queues().Work, Lock: 5 * time.Minute, MaxDeliveries: 10}
	q.Active, q.Dead = len(b.queues[queue]), len(b.dead[queue])
	return q, b.err
}

// TestAccess does nothing.
func (b *Bus) TestAccess(context.Context, string, bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Fenced reports whether the session of a node was taken, so that its agent ends.
func (b *Bus) Fenced(session string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fenced[session]
}
