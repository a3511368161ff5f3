package handlers

import (
	"context"
	"errors"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/service"
)

// DrivePool takes wake-ups from the queue `pool-events`.
func (f *Functions) DrivePool(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().PoolEvents
	type wake struct {
		message invoke.Message
		kind    string
		event   pool.Event // nil = it only wakes the pool
	}
	var errs []error
	parts := map[string][]wake{}
	for _, m := range messages {
		w, err := service.ParseWake(m.Body)
		if err != nil {
			errs = append(errs, f.reject(ctx, queue, m, service.RefusedJob{}, err))
			continue
		}
		parts[w.Pool] = append(parts[w.Pool], wake{m, w.Kind, w.Event()})
	}
	err := byPool(ctx, f, queue, parts, func(w wake) invoke.Message { return w.message },
		func(ctx context.Context, name string, part []wake) error {
			var newest time.Time // ticks that waited together say no more than the last
			ticked, record, prices := false, false, false
			var events []pool.Event
			for _, w := range part {
				record = record || w.kind == drive.WakeRecord
				prices = prices || w.kind == service.WakePrices
				if w.event != nil {
					events = append(events, w.event)
				}
				if w.kind == drive.WakeTick {
					ticked = true
					if w.message.EnqueuedAt.After(newest) {
						newest = w.message.EnqueuedAt
					}
				}
			}
			if len(events) > 0 {
				if err := f.service.Pools.Notify(ctx, name, events...); err != nil {
					return err
				}
			}
			if ticked {
				if err := f.service.Pools.Tick(ctx, name, newest); err != nil {
					return err
				}
			}
			if prices && f.service.Prices != nil {
				if err := f.service.Prices.RefreshPool(ctx, name); err != nil {
					return err
				}
			}
			if record {
				return f.service.Ledger.Record(ctx, name)
			}
			return nil
		})
	return errors.Join(append(errs, err)...)
}
