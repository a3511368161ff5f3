package service

import (
	"context"
	"errors"
	"log/slog"
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
func (r *Rejections) Reject(ctx context.Context, queue string, m bus.Message, id string, cause *fault.Error) error {
	props := make(map[string]any, len(m.Properties)+4)
	for k, v := range m.Properties {
		if k != PropTries && k != PropUnknown && k != PropRevived {
			props[k] = v
		}
	}
	now := r.now()
	props["reason"], props["field"] = cause.Message, cause.Field
	props["source"], props["rejectedAt"] = queue, now.Format(time.RFC3339Nano)
	if id != "" {
		if err := r.ids.forsakeDead(ctx, id, cause.Message); err != nil {
			return err
		}
		err := r.store.Reject(ctx, store.ID{ID: id, Reason: cause.Message, Field: cause.Field, At: now})
		if err != nil {
			return err
		}
	}
	r.log.InfoContext(ctx, "message rejected", "queue", queue, "message", m.ID, "job", id, "field", cause.Field, "reason", cause.Message)
	return r.bus.Send(ctx, r.bus.Queues().Rejected, bus.Message{ID: m.ID, Body: m.Body, ContentType: m.ContentType, Properties: props})
}

// IDOfRejected is the id that a refused message is remembered under: the job's own,
// else the MessageId, when it has the form of an id; "" = neither has.
func IDOfRejected(spec job.Spec, messageID string) string {
	for _, id := range []string{spec.ID, messageID} {
		if id != "" && job.CheckID(id) == nil {
			return id
		}
	}
	return ""
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
	return bus.Message{ID: m.ID, Body: m.Body, ContentType: m.ContentType, Properties: props, At: at}
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
