package handlers

import (
	"context"
	"errors"
	"slices"
	"strings"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
)

// deadLettersAtOnce bounds what one minute moves out of a dead-letter queue. One
// message whose body the host cannot hand over kills the batch that it is in, so
// that good ones lie there in hundreds.
const deadLettersAtOnce = 1000

// deadLetters brings back what died on the queues.
func (f *Functions) deadLetters(ctx context.Context) error {
	q := f.bus.Queues()
	var errs []error
	for _, queue := range []string{q.Jobs, q.Pools, q.PoolEvents, q.NodeEvents} {
		raise := func(ctx context.Context, dead []bus.Dead) map[int]error { return f.raise(ctx, queue, dead) }
		errs = append(errs, f.bus.DeadLetters(ctx, queue, deadLettersAtOnce, raise))
	}
	return errors.Join(errs...)
}

// raise rejects the dead messages that nobody can take, and sends the others to
// their queue again, in their order. It returns the errors by place: such a message
// is still dead.
func (f *Functions) raise(ctx context.Context, queue string, dead []bus.Dead) map[int]error {
	failed := map[int]error{}
	var back []bus.Message
	var places []int
	// One that cannot be handed over takes those beside it along.
	byAnother := slices.ContainsFunc(dead, func(d bus.Dead) bool { return d.Unreadable != "" })
	for i, d := range dead {
		m := invoke.Message{ID: d.ID, Body: d.Body, ContentType: d.ContentType, Properties: d.Properties}
		switch {
		case d.Unreadable != "":
			failed[i] = f.reject(ctx, queue, m, f.nameIn(queue, m), fault.New(fault.Invalid, "", "%s", d.Unreadable))
		case strings.HasPrefix(d.Reason, expired):
			cause := fault.New(fault.Internal, "", "nobody took the message within its time to live; send it again")
			failed[i] = f.reject(ctx, queue, m, f.jobIn(queue, m), cause)
		default:
			again, err := f.revived(ctx, queue, m, d.Reason, byAnother)
			if failed[i] = err; again != nil {
				back, places = append(back, *again), append(places, i)
			}
		}
	}
	if len(back) == 0 {
		return failed
	}
	if err := f.bus.Send(ctx, queue, back...); err != nil {
		for _, i := range places {
			failed[i] = err
		}
	}
	return failed
}

// nameIn is the id that a message without a document is remembered under.
func (f *Functions) nameIn(queue string, m invoke.Message) string {
	if queue != f.bus.Queues().Jobs {
		return ""
	}
	return f.nameOf(job.Spec{}, m)
}
