package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store"
)

// Properties that this app puts on messages that it sends to itself.
const (
	PropTries   = "dsvmTries"   // how often the message was put back
	PropRevived = "dsvmRevived" // how often it was brought back from the dead-letter queue
	PropUnknown = "dsvmUnknown" // "true": its pool was looked up once and not found
	PropJobFile = "dsvmReader"  // "true": the job reads the file that holds a push's jobs
)

// Properties that a message has on the queue `rejected`, beside its sender's.
const (
	propReason     = "reason"
	propField      = "field"
	propSource     = "source"     // the queue that it was on
	propRejectedAt = "rejectedAt" // RFC 3339
)

// cutAtFirst is how many bytes a rejected message that is too large loses at first: mostly
// far more than what is said of it has.
const cutAtFirst = 16 << 10

// Rejections moves messages that nobody can take to the queue `rejected`, and brings
// dead messages back.
type Rejections struct {
	store       *store.Store
	bus         Bus
	ids         *registry
	reviveAfter []time.Duration
	log         *slog.Logger
	now         func() time.Time
}

// Reject moves a message that cannot be taken to the queue `rejected`, with the
// reason, its body and its sender's properties, and remembers the refusal under the
// job's id where there is one. The message itself may then be completed.
func (r *Rejections) Reject(ctx context.Context, queue string, m bus.Message, of RefusedJob, cause *fault.Error) error {
	props := make(map[string]any, len(m.Properties)+4)
	for k, v := range m.Properties {
		if k != PropTries && k != PropUnknown && k != PropRevived {
			props[k] = v
		}
	}
	now := r.now()
	props[propReason], props[propField] = cause.Message, cause.Field
	props[propSource], props[propRejectedAt] = queue, now.Format(time.RFC3339Nano)
	if of.ID != "" {
		if err := r.ids.forsakeDead(ctx, of.ID, cause.Message); err != nil {
			return err
		}
		err := r.store.Reject(ctx, store.ID{ID: of.ID, Pool: of.Pool, Reason: cause.Message, Field: cause.Field, At: now})
		if err != nil {
			return err
		}
	}
	r.log.InfoContext(ctx, "message rejected", "queue", queue, "message", m.ID, "job", of.ID, "field", cause.Field, "reason", cause.Message)
	rejected := bus.Message{ID: m.ID, Body: m.Body, ContentType: m.ContentType, Labels: m.Labels, Properties: props}
	err := r.bus.Send(ctx, r.bus.Queues().Rejected, rejected)
	if bus.IsTooLarge(err) {
		return r.rejectCut(ctx, rejected)
	}
	return err
}

// rejectCut sends the begin of a message to the queue `rejected`: what is said of the message
// has made it too large for a queue. Left where it is, it would come again and again, and
// take those beside it along.
func (r *Rejections) rejectCut(ctx context.Context, m bus.Message) error {
	body, reason := m.Body, m.Properties[propReason]
	for keep := len(body) - cutAtFirst; keep > 0; keep /= 2 {
		m.Body = body[:keep]
		m.Properties[propReason] = fmt.Sprintf("%v; only the first %d of its %d bytes are kept here, since no message on a queue is longer",
			reason, keep, len(body))
		if err := r.bus.Send(ctx, r.bus.Queues().Rejected, m); !bus.IsTooLarge(err) {
			return err
		}
	}
	// Its properties are what is large.
	m.Body, m.Labels = body[:min(len(body), cutAtFirst)], bus.Labels{}
	m.Properties[propReason] = fmt.Sprintf("%v; its properties are not kept here, since no message on a queue is longer", reason)
	maps.DeleteFunc(m.Properties, func(name string, _ any) bool {
		return !slices.Contains([]string{propReason, propField, propSource, propRejectedAt}, name)
	})
	return r.bus.Send(ctx, r.bus.Queues().Rejected, m)
}

// NoteConflict notes at the job that has an id that another document came to the queue under
// the same id. The document itself goes to the queue `rejected`.
func (r *Rejections) NoteConflict(ctx context.Context, id string) error {
	return r.store.NoteConflict(ctx, id, r.now())
}

// RefusedJob is what a refused message is remembered by; without an id it is not.
type RefusedJob struct {
	ID   string
	Pool string // as the document names it, whether there is one or not; "" = it names none
}

// NewRefusedJob is what a refused document is remembered by: the job's own id, else the
// MessageId, when it has the form of an id.
func NewRefusedJob(spec job.Spec, messageID string) RefusedJob {
	of := RefusedJob{Pool: spec.Pool}
	if job.CheckPool("pool", spec.Pool) != nil {
		of.Pool = ""
	}
	for _, id := range []string{spec.ID, messageID} {
		if id != "" && job.CheckID(id) == nil {
			of.ID = id
			break
		}
	}
	return of
}

// AsFault returns err as one of the project's errors.
func AsFault(err error) *fault.Error {
	var e *fault.Error
	if errors.As(err, &e) {
		return e
	}
	return &fault.Error{Code: fault.Internal, Message: "something went wrong inside", Err: err}
}

// Resend is the message as it came, to arrive at a time, with one more property.
func Resend(m bus.Message, at time.Time, property string, value any) bus.Message {
	props := make(map[string]any, len(m.Properties)+1)
	for k, v := range m.Properties {
		props[k] = v
	}
	props[property] = value
	return bus.Message{ID: m.ID, Body: m.Body, ContentType: m.ContentType, Labels: m.Labels, Properties: props, At: at}
}

// Number reads a numeric property, whatever type it came back as; anything else is 0.
func Number(v any) int64 {
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
