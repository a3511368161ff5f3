package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// ApplyPool creates or changes pools from the queue `pools`.
func (f *Functions) ApplyPool(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().Pools
	type change struct {
		message invoke.Message
		spec    pool.Spec
	}
	var errs []error
	parts := map[string][]change{}
	for _, m := range messages {
		spec, err := pool.Parse(m.Body, m.ContentType)
		if err != nil {
			errs = append(errs, f.reject(ctx, queue, m, "", asFault(err)))
			continue
		}
		parts[spec.Name] = append(parts[spec.Name], change{m, spec})
	}
	err := byPool(ctx, f, queue, parts, func(c change) invoke.Message { return c.message },
		func(ctx context.Context, name string, part []change) error {
			for _, c := range part {
				warnings, err := f.checkSizes(ctx, c.spec)
				for _, w := range warnings {
					f.log.Warn("a pool was applied with a warning", "pool", c.spec.Name, "warning", w)
				}
				if err == nil {
					err = f.apply(ctx, c.spec)
				}
				if permanent(err) {
					err = f.reject(ctx, queue, c.message, "", asFault(err))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	return errors.Join(append(errs, err)...)
}

// apply creates or changes one pool.
func (f *Functions) apply(ctx context.Context, spec pool.Spec) error {
	out, err := f.driver.Drive(ctx, spec.Name, pool.Apply{Spec: spec})
	if err != nil {
		return err
	}
	if out.Head.Deleting {
		return fault.New(fault.Conflict, "name", "pool %q is being deleted; apply it again when `dsvm pool list` does not show it any more", spec.Name)
	}
	return nil
}

// NodeReport takes what agents report from the queue `node-events`.
func (f *Functions) NodeReport(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().NodeEvents
	type report struct {
		message invoke.Message
		report  protocol.Report
	}
	var errs []error
	parts := map[string][]report{}
	for _, m := range messages {
		r, err := protocol.DecodeReport(m.Body)
		if err != nil {
			cause := &fault.Error{Code: fault.Invalid, Message: err.Error(), Err: err}
			errs = append(errs, f.reject(ctx, queue, m, "", cause))
			continue
		}
		for _, item := range r.Items {
			if item.Ready != nil {
				f.log.Info("agent started", "pool", r.Pool, "node", item.Ready.Name, "vmid", r.VMID, "version", item.Ready.Version)
			}
		}
		parts[r.Pool] = append(parts[r.Pool], report{m, r})
	}
	err := byPool(ctx, f, queue, parts, func(r report) invoke.Message { return r.message },
		func(ctx context.Context, name string, part []report) error {
			events := make([]pool.Event, len(part))
			for i, r := range part {
				if err := f.readFiles(ctx, &r.report); err != nil {
					return err
				}
				events[i] = pool.Reported{Report: r.report, At: r.message.EnqueuedAt}
			}
			return f.drive(ctx, name, events...)
		})
	return errors.Join(append(errs, err)...)
}

// event is the body of a message on `pool-events`, which only this app sends.
type event struct {
	V    int    `json:"v"`
	Pool string `json:"pool"`
	Kind string `json:"kind"` // drive.WakeTick, drive.WakeRecord
}

const eventVersion = 1

// DrivePool takes wake-ups from the queue `pool-events`.
func (f *Functions) DrivePool(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().PoolEvents
	type wake struct {
		message invoke.Message
		event   event
	}
	var errs []error
	parts := map[string][]wake{}
	for _, m := range messages {
		var e event
		if err := json.Unmarshal(m.Body, &e); err != nil || e.V != eventVersion || e.Pool == "" {
			cause := fault.New(fault.Invalid, "", "this queue belongs to the app itself and takes no other messages; send jobs to `jobs` and pools to `pools`")
			errs = append(errs, f.reject(ctx, queue, m, "", cause))
			continue
		}
		parts[e.Pool] = append(parts[e.Pool], wake{m, e})
	}
	err := byPool(ctx, f, queue, parts, func(w wake) invoke.Message { return w.message },
		func(ctx context.Context, name string, part []wake) error {
			var newest time.Time // ticks that waited together say no more than the last
			ticked, record := false, false
			for _, w := range part {
				record = record || w.event.Kind == drive.WakeRecord
				if w.event.Kind == drive.WakeTick {
					ticked = true
					if w.message.EnqueuedAt.After(newest) {
						newest = w.message.EnqueuedAt
					}
				}
			}
			if ticked {
				if err := f.drive(ctx, name, pool.Tick{At: newest}); err != nil {
					return err
				}
			}
			if record {
				return f.record(ctx, name)
			}
			return nil
		})
	return errors.Join(append(errs, err)...)
}

// drive drives a pool; one that is gone needs nothing any more.
func (f *Functions) drive(ctx context.Context, name string, events ...pool.Event) error {
	_, err := f.driver.Drive(ctx, name, events...)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// wake has a pool driven through its queue, so that the tick has an enqueued
// time.
func wake(ctx context.Context, b *bus.Bus, name, kind string, at time.Time) error {
	body, err := json.Marshal(event{V: eventVersion, Pool: name, Kind: kind})
	if err != nil {
		return err
	}
	return b.Send(ctx, b.Queues().PoolEvents, bus.Message{Body: body, ContentType: "application/json", At: at})
}
