package handlers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/service"
)

// What becomes of messages that could not be processed. A service that is away
// brings its messages back for as long as it takes. A message that makes the
// handler panic, or that died on its queue, comes back later each time, and is
// rejected in the end.

// poolDeadline bounds the work on one pool within a batch. A part that panics is done
// once more, message by message; even then a pool that hangs gets its events back while
// the lock of the messages holds, which is five minutes (one, on queues that somebody made
// without the template).
const poolDeadline = 40 * time.Second

// Pauses before events that failed come back.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// panicsInARow is how often a message may make the handler panic, at the pace of
// whatever else comes back, before it counts as dead.
const panicsInARow = 5

// byPool runs fn for each pool's part of a batch, side by side, each with its
// own deadline. The messages of a part that failed are put back on the queue,
// to come again later, so that the batch succeeds; only when they cannot be put
// back does the batch fail. A part that panics is done once more, message by
// message, so that the others do not suffer from one.
func byPool[T any](
	ctx context.Context,
	f *Functions,
	queue string,
	parts map[string][]T,
	source func(T) invoke.Message,
	fn func(ctx context.Context, pool string, part []T) error,
) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	for pool, part := range parts {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, poolDeadline)
			defer cancel()
			err := f.contain(ctx, pool, func() error { return fn(ctx, pool, part) })
			if err == nil {
				return
			}
			again := func(part []T, cause error) {
				back := make([]invoke.Message, len(part))
				for i := range part {
					back[i] = source(part[i])
				}
				if err := f.putBack(context.WithoutCancel(ctx), pool, queue, back, cause); err != nil {
					mu.Lock()
					all = append(all, err)
					mu.Unlock()
				}
			}
			if !errors.Is(err, errPanic) || len(part) == 1 {
				again(part, err)
				return
			}
			for i := range part {
				one := part[i : i+1]
				if err := f.contain(ctx, pool, func() error { return fn(ctx, pool, one) }); err != nil {
					again(one, err)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(all...)
}

// errPanic is what a panic is turned into.
var errPanic = errors.New("the handler panicked")

// contain turns a panic into an error: one pool must not take down the batch.
func (f *Functions) contain(ctx context.Context, pool string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.ErrorContext(ctx, "handler panicked", "pool", pool, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// putBack sends messages to their queue again, later each time. Those that have
// made the handler panic often enough are dead.
func (f *Functions) putBack(ctx context.Context, pool, queue string, messages []invoke.Message, cause error) error {
	f.log.WarnContext(ctx, "putting messages back", "pool", pool, "queue", queue, "messages", len(messages), "error", cause)
	var out []bus.Message
	for _, m := range messages {
		tries := service.Number(m.Properties[service.PropTries])
		if errors.Is(cause, errPanic) && tries >= panicsInARow {
			if err := f.service.Rejections.Revive(ctx, queue, busMessage(m), cause.Error()); err != nil {
				return err
			}
			continue
		}
		out = append(
			out,
			service.Resend(busMessage(m), f.now().Add(backoff.After(int(tries)+1, firstRetry, lastRetry)), service.PropTries, tries+1),
		)
	}
	if len(out) == 0 {
		return nil
	}
	return f.bus.Send(ctx, queue, out...)
}

// reject moves a message that cannot be taken to the queue `rejected`, and remembers
// the refusal under the job's id, if the message brings a job.
func (f *Functions) reject(ctx context.Context, queue string, m invoke.Message, of service.RefusedJob, cause error) error {
	return f.service.Rejections.Reject(ctx, queue, busMessage(m), of, service.AsFault(cause))
}
