package handlers

import (
	"context"
	"errors"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/pool"
)

// logsAtOnce bounds the ledger rows that are copied in one go; the copies are
// idempotent, so a run that is cut short costs nothing but time.
const logsAtOnce = 100

// expired is the service's reason for a message that nobody took in time: its
// sender wanted it to end.
const expired = "TTLExpiredException"

// Reconcile is the backstop of every message that was lost: each minute it has
// each pool looked at that has something alive, waiting or to be followed, and
// it brings back what is in the dead-letter queues, later each time, and in the end
// moves it to `rejected`.
func (f *Functions) Reconcile(ctx context.Context, _ invoke.Tick) error {
	names, err := f.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		part, err := f.store.Overview(ctx, name)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			continue
		case err != nil:
			errs = append(errs, err)
		case part.Head.NeedsLook(part.Nodes):
			errs = append(errs, wake(ctx, f.bus, name, drive.WakeTick, time.Time{}))
		}
	}
	return errors.Join(append(errs, f.deadLetters(ctx))...)
}

// NightlyScaleDown wakes every pool, so that those with a schedule go down on
// time and every scale set is looked at once a night, whatever its rows say. It also forgets deliveries that
// nobody sends again.
func (f *Functions) NightlyScaleDown(ctx context.Context, _ invoke.Tick) error {
	names, err := f.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	errs := []error{f.forgetPushes(ctx)}
	for _, name := range names {
		errs = append(errs, wake(ctx, f.bus, name, drive.WakeTick, time.Time{}))
	}
	return errors.Join(errs...)
}

// RecordUsage copies what the pools have noted for the ledger into the usage
// table. The pools ask for it soon after they noted something; this timer takes
// up what such a request, when it is lost, leaves behind. Behind it, what has been
// kept for long enough goes.
func (f *Functions) RecordUsage(ctx context.Context, _ invoke.Tick) error {
	names, err := f.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, f.record(ctx, name))
	}
	return errors.Join(append(errs, f.retain(ctx))...)
}

// record copies one pool's ledger entries and has the pool forget them.
func (f *Functions) record(ctx context.Context, name string) error {
	for {
		seqs, err := f.copyEntries(ctx, name)
		if err != nil || len(seqs) == 0 {
			return err
		}
		if err := f.drive(ctx, name, pool.Recorded{Seqs: seqs}); err != nil {
			return err
		}
		if len(seqs) < logsAtOnce {
			return nil
		}
	}
}

// copyEntries copies up to logsAtOnce rows and returns their numbers.
func (f *Functions) copyEntries(ctx context.Context, name string) ([]int64, error) {
	logs, err := f.store.Logs(ctx, name, logsAtOnce)
	if err != nil {
		return nil, err
	}
	var seqs []int64
	for _, l := range logs {
		if err := f.store.Record(ctx, l.Entries); err != nil {
			return nil, err
		}
		seqs = append(seqs, l.Seq)
	}
	return seqs, nil
}
