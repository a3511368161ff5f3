package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/go-amqp"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/bus/link"
	"dsvmpools/shared/fault"
)

// Times and limits of removing one message.
const (
	// openTimeout bounds the opening of a connection.
	openTimeout = 20 * time.Second
	// firstWait is how long one waits for messages that are there.
	firstWait = 2 * time.Second
	// removeTimeout bounds the search for a message, far inside its lock.
	removeTimeout = 25 * time.Second
	// maxPassed bounds how many messages before the right one are locked for a moment.
	maxPassed = 20_000
	// releases is how many messages are given back side by side.
	releases = 64
)

// Waiting is a message that waits on a queue, as a look shows it.
type Waiting struct {
	Dead
	Sequence   int64 // its number in the queue, which no other message of it ever has
	EnqueuedAt time.Time
}

// Peek shows up to n messages of a queue, from a sequence number on, in their order. It locks
// none of them. fault.NotFound: there is no such queue.
func (b *Bus) Peek(ctx context.Context, queue string, from int64, n int) ([]Waiting, error) {
	c, err := b.open(ctx, queue)
	if err != nil {
		return nil, b.toFault(queue, err)
	}
	defer c.Close()
	seen, err := c.Peek(ctx, from, n)
	if err != nil {
		return nil, b.toFault(queue, err)
	}
	out := make([]Waiting, len(seen))
	for i, m := range seen {
		out[i] = Waiting{Dead: newDead(m), Sequence: numberIn(m, sequenceNumber)}
		out[i].EnqueuedAt, _ = m.Annotations["x-opt-enqueued-time"].(time.Time)
	}
	return out, nil
}

// Remove removes the message with a sequence number from a queue without sessions. Service Bus
// hands out messages in their order alone, so those before it are locked for a moment, and
// given back without counting a delivery. fault.NotFound: the message is not there.
// fault.Throttled: another receiver has it, or too many are before it.
func (b *Bus) Remove(ctx context.Context, queue string, sequence int64) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	c, err := b.open(ctx, queue)
	if err != nil {
		return b.toFault(queue, err)
	}
	defer c.Close()
	seen, err := c.Peek(ctx, sequence, 1)
	switch {
	case err != nil:
		return b.toFault(queue, err)
	case len(seen) == 0 || numberIn(seen[0], sequenceNumber) != sequence:
		return fault.New(fault.NotFound, "", "queue %q has no message %d", queue, sequence)
	}
	receiver, err := c.Receiver(ctx)
	if err != nil {
		return b.toFault(queue, err)
	}
	defer closeLink(ctx, receiver)
	var passed []*amqp.Message
	defer func() { releaseAll(ctx, receiver, passed) }()
	for len(passed) < maxPassed {
		got, err := receiver.Receive(ctx, atOnce, firstWait)
		var right *amqp.Message
		isPast := false
		for _, m := range got {
			n := numberIn(m, sequenceNumber)
			if n == sequence {
				right = m.Message
				continue
			}
			isPast = isPast || n > sequence
			m.Data, m.Value, m.Sequence = nil, nil, nil // only its lock is needed
			passed = append(passed, m.Message)
		}
		switch {
		case right != nil:
			return b.toFault(queue, receiver.Complete(ctx, right))
		case err != nil:
			return b.toFault(queue, err)
		case isPast || len(got) == 0:
			return &fault.Error{Code: fault.Throttled, RetryAfter: time.Second, Message: fmt.Sprintf(
				"message %d of queue %q is held by another receiver; try again when it has given the message back", sequence, queue)}
		}
	}
	return &fault.Error{Code: fault.Throttled, RetryAfter: time.Minute,
		Message: fmt.Sprintf("more than %d messages are before message %d of queue %q; remove those first", maxPassed, sequence, queue)}
}

// releaseAll gives messages back. Those that it cannot give back come again when their locks
// end.
func releaseAll(ctx context.Context, receiver *link.Receiver, messages []*amqp.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(releases)
	for _, m := range messages {
		group.Go(func() error { return receiver.Release(ctx, m) })
	}
	_ = group.Wait()
}

// open connects to a queue, or a dead-letter queue, over a connection of its own.
func (b *Bus) open(ctx context.Context, entity string) (*link.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	a := link.ParseAddress(b.cfg.ConnectionString)
	a.Host, a.Credential = cmp.Or(a.Host, b.cfg.Namespace), b.cfg.Credential
	if a.Host == "" {
		return nil, errors.New("the connection string names no endpoint")
	}
	return link.Open(ctx, a, entity)
}

func closeLink(ctx context.Context, receiver *link.Receiver) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	receiver.Close(ctx)
}
