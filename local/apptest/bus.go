package apptest

import (
	"context"
	"slices"
	"sync"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/protocol"
)

// Bus is a service.Bus in memory. It keeps what was sent until a test takes it.
type Bus struct {
	mu     sync.Mutex
	queues map[string][]bus.Message
	dead   map[string][]bus.Dead
	work   map[string][]protocol.WorkItem
	fenced map[string]bool
	err    error
}

// NewBus returns a bus with empty queues.
func NewBus() *Bus {
	return &Bus{
		queues: map[string][]bus.Message{},
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
	b.queues[queue] = append(b.queues[queue], messages...)
	return nil
}

// Take returns the messages of a queue in the order in which they were sent, and
// empties it.
func (b *Bus) Take(queue string) []bus.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.queues[queue]
	delete(b.queues, queue)
	return all
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
