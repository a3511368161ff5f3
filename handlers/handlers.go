// Package handlers holds the functions of the app: what wakes on a message, a
// timer or a request. Each decodes what came, drives the pools concerned, and
// answers. No rule about jobs or pools lives here.
package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/store"
)

// poolDeadline bounds the work on one pool within a batch: well inside the
// message lock of a minute, so that a pool that hangs gets its events back
// while the lock still holds.
const poolDeadline = 40 * time.Second

// Properties that this app puts on messages it sends to itself again.
const (
	propTries   = "dsvmTries"   // how often the message has been put back
	propRevived = "dsvmRevived" // how often it has been brought back from the dead-letter queue
	propUnknown = "dsvmUnknown" // "true": its pool was looked up once and not found
	propReader  = "dsvmReader"  // "true": the job reads the file that holds a push's jobs
)

// Functions are the functions of the app and what they stand on.
type Functions struct {
	store        *store.Store
	bus          *bus.Bus
	driver       *drive.Driver
	unknownAgain time.Duration
	reviveAfter  []time.Duration
	setting      func(name string) string // of the app; rules name some
	log          *slog.Logger
	now          func() time.Time
}

// Register makes the functions known to the custom-handler layer, under the
// names of their folders in functions/.
func (f *Functions) Register(app *invoke.App) {
	app.Batch("SubmitJob", f.SubmitJob)
	app.Batch("ApplyPool", f.ApplyPool)
	app.Batch("NodeReport", f.NodeReport)
	app.Batch("DrivePool", f.DrivePool)
	app.Timer("Reconcile", f.Reconcile)
	app.Timer("NightlyScaleDown", f.NightlyScaleDown)
	app.Timer("RecordUsage", f.RecordUsage)
	app.Timer("CommitStatus", f.CommitStatus)
}

// byPool runs fn for each pool's part of a batch, side by side, each with its
// own deadline. The messages of a part that failed are put back on the queue,
// to come again later, so that the batch succeeds; only when they cannot be put
// back does the batch fail.
func byPool[T any](ctx context.Context, f *Functions, queue string, parts map[string][]T, source func(T) invoke.Message, fn func(ctx context.Context, pool string, part []T) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	for pool, part := range parts {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, poolDeadline)
			defer cancel()
			err := contain(func() error { return fn(ctx, pool, part) })
			if err == nil {
				return
			}
			f.log.Warn("a pool's part of a batch is put back", "pool", pool, "queue", queue, "messages", len(part), "error", err)
			back := make([]invoke.Message, len(part))
			for i := range part {
				back[i] = source(part[i])
			}
			if err := f.putBack(context.WithoutCancel(ctx), queue, back); err != nil {
				mu.Lock()
				all = append(all, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(all...)
}

// contain turns a panic into an error: one pool must not take down the batch.
func contain(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}

// putBack sends messages to their queue again, later each time.
func (f *Functions) putBack(ctx context.Context, queue string, messages []invoke.Message) error {
	out := make([]bus.Message, len(messages))
	for i, m := range messages {
		tries := number(m.Properties[propTries])
		out[i] = again(m, f.now().Add(backoff(tries)), propTries, tries+1)
	}
	return f.bus.Send(ctx, queue, out...)
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

// backoff is one second doubling to a minute.
func backoff(tries int64) time.Duration {
	return min(time.Second<<min(max(tries, 0), 6), time.Minute)
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

// reject moves a message that cannot be taken to the `rejected` queue, with the
// reason, its body and its sender's properties, and remembers the refusal under
// the job's id where there is one. The message itself may then be completed.
func (f *Functions) reject(ctx context.Context, queue string, m invoke.Message, id string, cause *fault.Error) error {
	props := make(map[string]any, len(m.Properties)+4)
	for k, v := range m.Properties {
		if k != propTries && k != propUnknown && k != propRevived {
			props[k] = v
		}
	}
	now := f.now()
	props["reason"], props["field"] = cause.Message, cause.Field
	props["source"], props["rejectedAt"] = queue, now.Format(time.RFC3339Nano)
	if id != "" {
		err := f.store.Reject(ctx, store.ID{ID: id, Reason: cause.Message, Field: cause.Field, At: now})
		if err != nil {
			return err
		}
	}
	f.log.Info("a message was rejected", "queue", queue, "message", m.ID, "field", cause.Field, "reason", cause.Message)
	return f.bus.Send(ctx, f.bus.Queues().Rejected, bus.Message{ID: m.ID, Body: m.Body, ContentType: m.ContentType, Properties: props})
}

// asFault is err as one of the project's errors.
func asFault(err error) *fault.Error {
	var e *fault.Error
	if errors.As(err, &e) {
		return e
	}
	return &fault.Error{Code: fault.Internal, Message: "something went wrong inside", Err: err}
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.Conflict, fault.NotFound:
		return true
	}
	return false
}
