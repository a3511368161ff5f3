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
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
)

// What becomes of messages that could not be processed. A service that is away
// brings its messages back for as long as it takes. A message that makes the
// handler panic, or that died on its queue, comes back later each time, and is
// rejected in the end.

// poolDeadline bounds the work on one pool within a batch: well inside the
// message lock of a minute, so that a pool that hangs gets its events back
// while the lock still holds.
const poolDeadline = 40 * time.Second

// Pauses before events that failed come back.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// panicsInARow is how often a message may make the handler panic, at the pace of
// whatever else comes back, before it counts as dead.
const panicsInARow = 5

// reviveAfter is, unless DSVM_REVIVE_AFTER says otherwise, how long a dead message
// waits before each time it is brought back. What killed it was mostly a service or
// a release of the handler that did not work, and somebody has mended that by then.
var reviveAfter = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// Properties that this app puts on messages it sends to itself again.
const (
	propTries   = "dsvmTries"   // how often the message has been put back
	propRevived = "dsvmRevived" // how often it has been brought back from the dead-letter queue
	propUnknown = "dsvmUnknown" // "true": its pool was looked up once and not found
	propReader  = "dsvmReader"  // "true": the job reads the file that holds a push's jobs
)

// byPool runs fn for each pool's part of a batch, side by side, each with its
// own deadline. The messages of a part that failed are put back on the queue,
// to come again later, so that the batch succeeds; only when they cannot be put
// back does the batch fail. A part that panics is done once more, message by
// message, so that the others do not suffer from one.
func byPool[T any](ctx context.Context, f *Functions, queue string, parts map[string][]T, source func(T) invoke.Message, fn func(ctx context.Context, pool string, part []T) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	for pool, part := range parts {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, poolDeadline)
			defer cancel()
			err := f.contain(pool, func() error { return fn(ctx, pool, part) })
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
				if err := f.contain(pool, func() error { return fn(ctx, pool, one) }); err != nil {
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
func (f *Functions) contain(pool string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("the handler panicked", "pool", pool, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// putBack sends messages to their queue again, later each time. Those that have
// made the handler panic often enough are dead.
func (f *Functions) putBack(ctx context.Context, pool, queue string, messages []invoke.Message, cause error) error {
	f.log.Warn("messages are put back", "pool", pool, "queue", queue, "messages", len(messages), "error", cause)
	var out []bus.Message
	for _, m := range messages {
		tries := number(m.Properties[propTries])
		if errors.Is(cause, errPanic) && tries >= panicsInARow {
			if err := f.revive(ctx, queue, m, cause.Error()); err != nil {
				return err
			}
			continue
		}
		out = append(out, again(m, f.now().Add(backoff.After(int(tries)+1, firstRetry, lastRetry)), propTries, tries+1))
	}
	if len(out) == 0 {
		return nil
	}
	return f.bus.Send(ctx, queue, out...)
}

// revive brings a dead message back, later each time, and rejects it in the end.
func (f *Functions) revive(ctx context.Context, queue string, m invoke.Message, reason string) error {
	back, err := f.revived(ctx, queue, m, reason, false)
	if back == nil {
		return err
	}
	return f.bus.Send(ctx, queue, *back)
}

// revived is a dead message as it is to be sent again. nil: it has been brought back
// often enough, and is rejected, or could not be. A death by another message is not
// counted.
func (f *Functions) revived(ctx context.Context, queue string, m invoke.Message, reason string, byAnother bool) (*bus.Message, error) {
	n, count := number(m.Properties[propRevived]), int64(1)
	after := n
	if byAnother {
		after, count = 0, 0
	}
	if after >= int64(len(f.reviveAfter)) {
		cause := fault.New(fault.Internal, "", "the message could not be processed (%s); send it again when the cause is mended", reason)
		return nil, f.reject(ctx, queue, m, f.jobIn(queue, m), cause)
	}
	f.log.Warn("a message could not be processed and comes back",
		"queue", queue, "message", m.ID, "reason", reason, "after", f.reviveAfter[after])
	back := again(m, f.now().Add(f.reviveAfter[after]), propRevived, n+count)
	delete(back.Properties, propTries)
	return &back, nil
}

// jobIn is the id of the job that a message brings; "" = none that can be told.
func (f *Functions) jobIn(queue string, m invoke.Message) string {
	if queue != f.bus.Queues().Jobs {
		return ""
	}
	spec, _ := job.Parse(m.Body, m.ContentType)
	return f.nameOf(spec, m)
}

// again is the message as it came, to arrive at a time, with one more property.
func again(m invoke.Message, at time.Time, property string, value any) bus.Message {
	props := make(map[string]any, len(m.Properties)+1)
	for k, v := range m.Properties {
		props[k] = v
	}
	props[property] = value
	return bus.Message{ID: m.ID, Body: m.Body, ContentType: m.ContentType, Properties: props, At: at}
}

// number reads a numeric property, whatever type it came back as.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case int32:
		return int64(v)
	case int:
		return int64(v)
	case float64:
		return int64(v)
	}
	return 0
}
