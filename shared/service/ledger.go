package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
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

// Ledger copies what the pools note for the ledger into the usage table, adds it to the
// sums, and reports from both.
type Ledger struct {
	store  *store.Store
	driver *drive.Driver
	log    *slog.Logger
	now    func() time.Time
	begun  atomic.Bool // the state of the sums is written

	nextCheck atomic.Pointer[time.Time] // when the sums of another day are compared with its rows
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

// Record copies one pool's entries and has the pool forget them. Of a pool whose head is gone
// all rows are copied, and they stay: only a pool forgets.
func (l *Ledger) Record(ctx context.Context, name string) error {
	for most := logsAtOnce; ; {
		recorded, all, err := l.copyEntries(ctx, name, most)
		if err != nil {
			return err
		}
		if len(recorded.Seqs)+len(recorded.Pages) > 0 {
			switch _, err := l.driver.Drive(ctx, name, recorded); {
			case fault.CodeOf(err) == fault.NotFound:
				most += logsAtOnce // what was copied is read again, so that the next rows are behind it
			case err != nil:
				return err
			}
		}
		if all {
			return nil
		}
	}
}

// sumTries is how often sums are written again because others were first.
const sumTries = 10

// copyEntries copies what the first rows hold into the ledger and adds it to the sums, in this
// order. It returns what the pool may forget, and whether that is all.
func (l *Ledger) copyEntries(ctx context.Context, name string, rows int) (recorded pool.Recorded, all bool, err error) {
	most, noRoom := logsAtOnce, false
	for try := 1; ; try++ {
		version, err := l.store.SumsVersion(ctx, name)
		if err != nil {
			return recorded, false, err
		}
		if version.HeldUntil.After(l.now()) {
			return recorded, false, fault.New(fault.Throttled, "", "the sums of pool %q are being built again; its use is recorded after that", name)
		}
		logs, err := l.store.Logs(ctx, name, rows) // after the version was read
		if err != nil || len(logs) == 0 {
			return recorded, true, err
		}
		if err := l.beginSums(ctx); err != nil {
			return recorded, false, err
		}
		left := slices.DeleteFunc(slices.Clone(logs), version.Has)
		more, left := left[:min(len(left), most)], left[min(len(left), most):]
		var entries []usage.Entry
		for _, log := range more {
			entries = append(entries, log.Entries...)
		}
		if err := l.store.Record(ctx, entries); err != nil {
			return recorded, false, err
		}
		if len(more) > 0 {
			err = l.store.AddSums(ctx, name, version, logs, more, noRoom)
		}
		switch code := fault.CodeOf(err); {
		case err == nil:
			return recordedOf(logs, left), len(logs) < rows && len(left) == 0, nil
		case code == fault.Invalid && len(more) > 1:
			most = len(more) / 2 // too much for one transaction
		case code == fault.Invalid && !noRoom:
			noRoom = true
		case code == fault.Conflict && try < sumTries:
		default:
			return recorded, false, err
		}
	}
}

// recordedOf is what a pool may forget of its facts: all but those that are left, and the pages
// of which none is left.
func recordedOf(logs, left []*pool.Log) (r pool.Recorded) {
	for _, log := range logs {
		isLeft := slices.ContainsFunc(left, func(l *pool.Log) bool { return l == log || log.Page != 0 && l.Page == log.Page })
		switch {
		case isLeft:
		case log.Page == 0:
			r.Seqs = append(r.Seqs, log.Seq)
		case !slices.Contains(r.Pages, log.Page):
			r.Pages = append(r.Pages, log.Page)
		}
	}
	return r
}

// reportPeriod is what a report covers when no begin is given: a month, as bills do, near
// enough.
const reportPeriod = 30 * 24 * time.Hour

// Report reports on what has ended in a time, and on what still runs if that time has not
// passed. Without an end it is up to now, and without a begin it begins at midnight 30 days before. A pool that is not
// there and of which nothing is recorded is notFound. The same query with the same AsOf is
// the same report later, but for what nodes have reported late.
func (l *Ledger) Report(ctx context.Context, q usage.Query) (usage.Report, error) {
	now := l.now()
	if q.AsOf.IsZero() || q.AsOf.After(now) {
		q.AsOf = now
	}
	if q.To.IsZero() {
		q.To = q.AsOf
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-reportPeriod).UTC().Truncate(oneDay) // whole days are in the sums
	}
	if !q.From.Before(q.To) {
		return usage.Report{}, fault.New(fault.Invalid, "from", "from (%s) is not before to (%s)",
			q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	b, err := l.buildReport(ctx, q, now)
	if err != nil {
		return usage.Report{}, err
	}
	r := b.Report(q.AsOf)
	if r.Lines == 0 && q.Filter.Pool != "" {
		// A pool that was never there must not look like one without use.
		if _, err := l.driver.Spec(ctx, q.Filter.Pool); fault.CodeOf(err) == fault.NotFound {
			return usage.Report{}, noPool(ctx, l.store, q.Filter.Pool)
		}
	}
	return r, nil
}

// buildTries is how often a report is made because the uses of jobs were replaced meanwhile. The last
// time its rows are read.
const buildTries = 3

func (l *Ledger) buildReport(ctx context.Context, q usage.Query, now time.Time) (*usage.Builder, error) {
	for try := 1; ; try++ {
		b, err := usage.NewBuilder(q)
		if err != nil {
			return nil, fault.New(fault.Invalid, "by", "%v", err)
		}
		use, err := l.findUse(ctx, q, now, try == buildTries)
		if err == nil {
			err = l.addUse(ctx, q, now, use, b)
		}
		if fault.CodeOf(err) != fault.Conflict || try == buildTries {
			return b, err
		}
	}
}

// beginSums writes the state of the sums before the first one. A ledger that has rows already
// was written by a release that knew no sums. Functions of that release may go on for some
// minutes, so that the sums are whole only from the day after that on.
func (l *Ledger) beginSums(ctx context.Context) error {
	if l.begun.Load() {
		return nil
	}
	state, err := l.store.SumsState(ctx)
	if err != nil {
		return err
	}
	if state.Began.IsZero() {
		state.Began, state.UsesFrom = l.now(), store.AllDays
		before, err := l.store.HasUsage(ctx)
		if err != nil {
			return err
		}
		if before {
			state.WholeFrom = l.now().Add(overlap).UTC().Truncate(oneDay).Add(oneDay)
		}
		if err := l.store.BeginSums(ctx, state); err != nil {
			return err
		}
	}
	l.begun.Store(true)
	return nil
}

// overlap is longer than functions of an earlier release go on after a deployment.
const overlap = time.Hour

// clockSlack is more than the clock of a node is ahead.
const clockSlack = time.Minute

// addEnded adds what has ended to a report. If it ended after the time that the report is of,
// it still ran then.
func addEnded(b *usage.Builder, q *usage.Query, row *usage.Row) {
	if row.To.After(q.AsOf) || !row.To.Before(q.To) {
		addOpen(b, q, row.Entry)
		return
	}
	b.Add(row)
}

// addOpen adds what ran at the time that a report is of, up to then.
func addOpen(b *usage.Builder, q *usage.Query, e usage.Entry) {
	if e.From.Before(q.AsOf) {
		e.To = q.AsOf
		b.AddOpen(e)
	}
}
