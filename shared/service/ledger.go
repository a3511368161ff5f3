package service

import (
	"context"
	"errors"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
)

// logsAtOnce bounds the ledger rows that are copied in one go. A copy again changes
// nothing, so a run that is cut short costs nothing but time.
const logsAtOnce = 100

// Ledger copies what the pools note for the ledger into the usage table, and reports
// from that table.
type Ledger struct {
	store  *store.Store
	driver *drive.Driver
}

// RecordAll copies the entries of all pools. A pool that fails does not stop the others.
func (l *Ledger) RecordAll(ctx context.Context) error {
	names, err := l.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, l.Record(ctx, name))
	}
	return errors.Join(errs...)
}

// Record copies one pool's entries and has the pool forget them.
func (l *Ledger) Record(ctx context.Context, name string) error {
	for {
		seqs, err := l.copyEntries(ctx, name)
		if err != nil || len(seqs) == 0 {
			return err
		}
		if err := driveIfThere(ctx, l.driver, name, pool.Recorded{Seqs: seqs}); err != nil {
			return err
		}
		if len(seqs) < logsAtOnce {
			return nil
		}
	}
}

// copyEntries copies up to logsAtOnce rows and returns their numbers.
func (l *Ledger) copyEntries(ctx context.Context, name string) ([]int64, error) {
	logs, err := l.store.Logs(ctx, name, logsAtOnce)
	if err != nil {
		return nil, err
	}
	var seqs []int64
	for _, entry := range logs {
		if err := l.store.Record(ctx, entry.Entries); err != nil {
			return nil, err
		}
		seqs = append(seqs, entry.Seq)
	}
	return seqs, nil
}

// Usage reports on what ended in from <= t < to.
func (l *Ledger) Usage(ctx context.Context, from, to time.Time, by string) ([]usage.Group, error) {
	sum, err := usage.NewSum(usage.Grouping(by))
	if err != nil {
		return nil, fault.New(fault.Invalid, "by", "%v", err)
	}
	err = l.store.Usage(ctx, from, to, func(row usage.Row) error {
		sum.Add(&row)
		return nil
	})
	return sum.Groups(), err
}
