// Package handlers holds the functions of the app: what wakes on a message, a
// timer or a request. Each decodes what came, drives the pools concerned, and
// answers. No rule about jobs or pools lives here.
package handlers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/store"
)

// Functions are the functions of the app and what they stand on.
type Functions struct {
	store        *store.Store
	bus          *bus.Bus
	driver       *drive.Driver
	unknownAgain time.Duration
	reviveAfter  []time.Duration
	keep         Keep
	files        *files
	setting      func(name string) string // of the app; rules name some
	sizes        func(ctx context.Context, region string) ([]string, error)
	region       string       // of pools that name none
	hosts        *http.Client // for the addresses that rules name
	log          *slog.Logger
	now          func() time.Time
}

// Register makes the functions known to the custom-handler layer, under the
// names of their folders in functions/. What anybody may send comes as text, what
// this app itself and its agents send as bytes.
func (f *Functions) Register(app *invoke.App) {
	app.TextBatch("SubmitJob", f.SubmitJob)
	app.TextBatch("ApplyPool", f.ApplyPool)
	app.Batch("NodeReport", f.NodeReport)
	app.Batch("DrivePool", f.DrivePool)
	app.Timer("Reconcile", f.Reconcile)
	app.Timer("NightlyScaleDown", f.NightlyScaleDown)
	app.Timer("RecordUsage", f.RecordUsage)
	app.Timer("CommitStatus", f.CommitStatus)
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
		if err := f.forsakeDead(ctx, id, cause.Message); err != nil {
			return err
		}
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
