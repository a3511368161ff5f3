package service

import (
	"context"
	"errors"
	"slices"
	"strings"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

const (
	// deadLettersAtOnce bounds what one run moves out of a dead-letter queue. One
	// message whose body the host cannot hand over kills the batch that it is in, so
	// good ones lie there in hundreds.
	deadLettersAtOnce = 1000
	// expired is the service's reason for a message that nobody took in time: its
	// sender wanted it to end.
	expired = "TTLExpiredException"
)

// ReviveDeadLetters brings back what died on the queues, later each time, and rejects
// it in the end.
func (r *Rejections) ReviveDeadLetters(ctx context.Context) error {
	q := r.bus.Queues()
	var errs []error
	for _, queue := range []string{q.Jobs, q.Pools, q.PoolEvents, q.NodeEvents} {
		revive := func(ctx context.Context, dead []bus.Dead) map[int]error { return r.reviveAll(ctx, queue, dead) }
		errs = append(errs, r.bus.DeadLetters(ctx, queue, deadLettersAtOnce, revive))
	}
	return errors.Join(errs...)
}

// reviveAll rejects the dead messages that nobody can take, and sends the others to
// their queue again, in their order. It returns the errors by place: such a message
// is still dead.
func (r *Rejections) reviveAll(ctx context.Context, queue string, dead []bus.Dead) map[int]error {
	failed := map[int]error{}
	var back []bus.Message
	var places []int
	// One that cannot be handed over takes those beside it along.
	byAnother := slices.ContainsFunc(dead, func(d bus.Dead) bool { return d.Unreadable != "" })
	for i, d := range dead {
		m := bus.Message{ID: d.ID, Body: d.Body, ContentType: d.ContentType, Labels: d.Labels, Properties: d.Properties}
		switch {
		case d.Unreadable != "" && r.isDocument(queue, m):
			back, places = append(back, r.readByOwner(ctx, queue, m)), append(places, i)
		case d.Unreadable != "":
			failed[i] = r.Reject(ctx, queue, m, r.messageIDAsJob(queue, m), fault.New(fault.Invalid, "", "%s", d.Unreadable))
		case strings.HasPrefix(d.Reason, expired):
			cause := fault.New(fault.Internal, "", "nobody took the message within its time to live; send it again")
			failed[i] = r.Reject(ctx, queue, m, r.jobOf(queue, m), cause)
		default:
			again, err := r.revived(ctx, queue, m, d.Reason, byAnother)
			if failed[i] = err; again != nil {
				back, places = append(back, *again), append(places, i)
			}
		}
	}
	if len(back) == 0 {
		return failed
	}
	if err := r.bus.Send(ctx, queue, back...); err != nil {
		if !bus.IsTooLarge(err) {
			for _, i := range places {
				failed[i] = err
			}
			return failed
		}
		// One that the queue does not take must not stop the others. Those that have arrived
		// already come twice, which their ids bear.
		for k, i := range places {
			failed[i] = r.sendOrReject(ctx, queue, back[k])
		}
	}
	return failed
}

// sendOrReject sends a message to its queue again, and rejects one that the queue does not take.
func (r *Rejections) sendOrReject(ctx context.Context, queue string, m bus.Message) error {
	err := r.bus.Send(ctx, queue, m)
	if bus.IsTooLarge(err) {
		return r.Reject(ctx, queue, m, r.jobOf(queue, m), AsFault(err))
	}
	return err
}

// isDocument reports whether a message that no function can have is a document of its queue
// all the same, and what it asks for can be tried.
func (r *Rejections) isDocument(queue string, m bus.Message) bool {
	var err error
	switch q := r.bus.Queues(); queue {
	case q.Jobs:
		var spec job.Spec
		spec, err = job.Parse(m.Body, m.ContentType)
		if err == nil && spec.ID == "" {
			err = job.CheckNewID(m.ID)
		}
	case q.Pools:
		_, err = pool.Parse(m.Body, m.ContentType)
	default:
		return false
	}
	return err == nil
}

// readByOwner is a document that no function could have, as bytes that each can. It comes
// together with those that died beside it, so that all keep their order.
func (r *Rejections) readByOwner(ctx context.Context, queue string, m bus.Message) bus.Message {
	r.log.InfoContext(ctx, "document that no function can read comes back as bytes", "queue", queue, "message", m.ID)
	if len(r.reviveAfter) > 0 {
		m.At = r.now().Add(r.reviveAfter[0])
	}
	return m
}

// Revive brings a dead message back, later each time, and rejects it in the end.
func (r *Rejections) Revive(ctx context.Context, queue string, m bus.Message, reason string) error {
	back, err := r.revived(ctx, queue, m, reason, false)
	if back == nil {
		return err
	}
	return r.bus.Send(ctx, queue, *back)
}

// revived returns a dead message as it is sent again. nil: it was brought back often
// enough, and is rejected, or could not be. A death by another message is not counted.
func (r *Rejections) revived(ctx context.Context, queue string, m bus.Message, reason string, byAnother bool) (*bus.Message, error) {
	n, count := Number(m.Properties[PropRevived]), int64(1)
	after := n
	if byAnother {
		after, count = 0, 0
	}
	if after >= int64(len(r.reviveAfter)) {
		cause := fault.New(fault.Internal, "",
			"the message could not be processed (%s); send it again when the cause is mended", reason)
		return nil, r.Reject(ctx, queue, m, r.jobOf(queue, m), cause)
	}
	r.log.WarnContext(ctx, "message died and comes back",
		"queue", queue, "message", m.ID, "reason", reason, "after", r.reviveAfter[after])
	back := Resend(m, r.now().Add(r.reviveAfter[after]), PropRevived, n+count)
	delete(back.Properties, PropTries)
	return &back, nil
}

// jobOf is the job that a message brings, or nothing.
func (r *Rejections) jobOf(queue string, m bus.Message) RefusedJob {
	if queue != r.bus.Queues().Jobs {
		return RefusedJob{}
	}
	spec, _ := job.Parse(m.Body, m.ContentType)
	return NewRefusedJob(spec, m.ID)
}

// messageIDAsJob is what a message without a document is remembered by.
func (r *Rejections) messageIDAsJob(queue string, m bus.Message) RefusedJob {
	if queue != r.bus.Queues().Jobs {
		return RefusedJob{}
	}
	return NewRefusedJob(job.Spec{}, m.ID)
}
