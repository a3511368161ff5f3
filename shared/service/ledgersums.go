package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
)

// Most reports are made from sums: a row for each pool and day, see usage.Sums. What these do
// not have is read from the rows of the ledger: the first day of a report that does not begin
// at midnight, and days from before there were sums.
// A fact is in one of four places at any time, and goes from each to the next: it runs, it is
// noted by its pool, it is in the ledger and in the sums too, and its pool has forgotten it.

const (
	// snapshotTries is how often the use of a pool is read because facts are added to its sums
	// meanwhile. After that its rows are read.
	snapshotTries = 6
	// reportWorkers bounds the pools and days that a report reads side by side.
	reportWorkers = 8
)

// use is what a report is made of.
type use struct {
	// open and ended are what is not in the ledger or not in the sums, by identity: what runs,
	// and what its pool has noted. What is found among rows is taken out.
	open, ended map[string]usage.Entry
	sums        []poolSums
	rowDays     []poolDay // whose rows are read
	rowsUntil   time.Time // before this time all rows are read, of all pools
}

type poolSums struct {
	pool string
	day  *store.DaySums
}

type poolDay struct {
	pool string
	day  time.Time
}

// findUse finds what a report is made of, and reads all of it but rows of the ledger and uses of jobs.
func (l *Ledger) findUse(ctx context.Context, q usage.Query, now time.Time, byRows bool) (*use, error) {
	u := &use{open: map[string]usage.Entry{}, ended: map[string]usage.Entry{}, rowsUntil: latest(q, now)}
	byRows = byRows || q.NeedsRows()
	if !byRows {
		state, err := l.store.SumsState(ctx)
		if err != nil {
			return nil, err
		}
		switch whole := state.WholeFrom; {
		case state.Began.IsZero(): // there are no sums
			byRows = true
		case whole.Before(q.From):
			u.rowsUntil = q.From
		case whole.Before(u.rowsUntil):
			u.rowsUntil = whole
		default:
			byRows = true
		}
	}
	names, err := l.reportedPools(ctx, q.Filter.Pool, !byRows)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(reportWorkers)
	for _, name := range names {
		group.Go(func() error {
			p, err := l.findPoolUse(ctx, name, q, now, u.rowsUntil, byRows)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			u.add(p)
			return nil
		})
	}
	return u, group.Wait()
}

// add adds the use of a pool.
func (u *use) add(p *use) {
	for id, e := range p.open {
		u.open[id] = e
	}
	for id, e := range p.ended {
		u.ended[id] = e
	}
	u.sums, u.rowDays = append(u.sums, p.sums...), append(u.rowDays, p.rowDays...)
}

// latest is after the end of all entries of a report.
func latest(q usage.Query, now time.Time) time.Time {
	if !q.To.Before(q.AsOf) && q.To.Before(now.Add(clockSlack)) {
		return now.Add(clockSlack) // what ran at AsOf may have ended since
	}
	return q.To
}

// reportedPools lists the pools of a report, also those that are gone if there are sums.
func (l *Ledger) reportedPools(ctx context.Context, only string, withSums bool) ([]string, error) {
	if only != "" {
		return []string{only}, nil
	}
	names, err := l.store.PoolNames(ctx)
	if err != nil || !withSums {
		return names, err
	}
	summed, err := l.store.SummedPools(ctx)
	names = append(names, summed...)
	slices.Sort(names)
	return slices.Compact(names), err
}

// findPoolUse finds what is open and what is noted in a pool, and its sums of the days from
// `from` on. They belong together if nothing was added to the sums meanwhile.
func (l *Ledger) findPoolUse(ctx context.Context, name string, q usage.Query, now, from time.Time, byRows bool) (*use, error) {
	for try := 1; ; try++ {
		u := &use{open: map[string]usage.Entry{}, ended: map[string]usage.Entry{}}
		if byRows {
			_, err := l.findUnrecorded(ctx, name, now, u)
			return u, err
		}
		before, err := l.store.SumsVersion(ctx, name)
		if err != nil {
			return nil, err
		}
		logs, err := l.findUnrecorded(ctx, name, now, u)
		if err != nil {
			return nil, err
		}
		last := latest(q, now).Add(-usage.Tick)
		if try > snapshotTries {
			for day := from.UTC().Truncate(oneDay); !day.After(last); day = day.Add(oneDay) {
				u.rowDays = append(u.rowDays, poolDay{name, day})
			}
			return u, nil
		}
		days, err := l.readSums(ctx, name, &q, from, last)
		if err != nil {
			return nil, err
		}
		after, err := l.store.SumsVersion(ctx, name)
		if err != nil {
			return nil, err
		}
		if after.Same(before) {
			u.takeDays(name, &q, days)
			u.dropSummed(logs, before)
			return u, nil
		}
	}
}

const oneDay = 24 * time.Hour

// readSums reads the sums of a pool's days, and of months that are in a report as a whole.
func (l *Ledger) readSums(ctx context.Context, name string, q *usage.Query, from, last time.Time) ([]*store.DaySums, error) {
	if q.By.NeedsDays() || last.Sub(from) < 28*oneDay {
		return l.store.DaySums(ctx, name, from, last)
	}
	return l.store.MonthSums(ctx, name, from, last, func(m *store.DaySums) bool {
		end := m.Day.AddDate(0, 1, 0)
		return !m.Day.Before(q.From) && !end.After(q.To) && !end.After(q.AsOf) && (!m.NoLabels || !q.NeedsLabelSums())
	})
}

// takeDays takes the sums of days that are in a report as a whole, and the rows of others.
func (u *use) takeDays(name string, q *usage.Query, days []*store.DaySums) {
	for _, day := range days {
		switch {
		case day.Rows == 0 || day.Last.Before(q.From):
		case q.By == usage.ByJob && !day.HasUses():
			u.rowDays = append(u.rowDays, poolDay{name, day.Day})
		case day.Overflow || day.NoLabels && q.NeedsLabelSums() || day.First.Before(q.From) || !day.Last.Before(q.To) || day.Last.After(q.AsOf):
			u.rowDays = append(u.rowDays, poolDay{name, day.Day})
		default:
			u.sums = append(u.sums, poolSums{name, day})
		}
	}
}

// dropSummed drops what is noted and in the sums.
func (u *use) dropSummed(logs []*pool.Log, version store.SumsVersion) {
	for _, log := range logs {
		if !version.Has(log) {
			continue
		}
		for i := range log.Entries {
			e := &log.Entries[i]
			day := e.To.UTC().Truncate(oneDay)
			if slices.ContainsFunc(u.sums, func(s poolSums) bool { return s.day.Covers(day) }) {
				delete(u.ended, e.Identity())
			}
		}
	}
}

// findUnrecorded finds what runs in a pool now, and what has ended and is noted by it. An
// interval goes from the first to the second. They are read in this order, so that each is found
// at least once.
func (l *Ledger) findUnrecorded(ctx context.Context, name string, now time.Time, u *use) ([]*pool.Log, error) {
	entries, err := l.driver.OpenEntries(ctx, name, now)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, nil // the pool has gone, and its intervals have ended
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		u.open[e.Identity()] = e
	}
	logs, err := l.store.Logs(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	for _, log := range logs {
		for _, e := range log.Entries {
			u.ended[e.Identity()] = e
			delete(u.open, e.Identity())
		}
	}
	return logs, nil
}

// addUse adds to a report what findUse has found, and the rows that it has named.
func (l *Ledger) addUse(ctx context.Context, q usage.Query, now time.Time, u *use, b *usage.Builder) error {
	until := latest(q, now)
	var mu sync.Mutex
	addRow := func(row usage.Row) error {
		mu.Lock()
		defer mu.Unlock()
		id := row.Identity()
		delete(u.open, id)
		delete(u.ended, id)
		addEnded(b, &q, &row)
		return nil
	}
	if err := l.store.UsageForReport(ctx, q.Filter.Pool, q.From, u.rowsUntil, q.NeedsLabels(), addRow); err != nil {
		return err
	}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(reportWorkers)
	for _, of := range u.rowDays {
		group.Go(func() error {
			return l.store.UsageOfDay(grouped, of.day, of.pool, q.From, until, q.NeedsLabels(), func(e usage.Entry) error {
				return addRow(usage.NewUncostedRow(e))
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.addSums(ctx, q, u.sums, b); err != nil {
		return err
	}
	for _, e := range u.ended {
		row := usage.NewRow(e)
		addEnded(b, &q, &row)
	}
	for _, e := range u.open {
		addOpen(b, &q, e)
	}
	return nil
}

// addSums adds sums to a report, and in one by job the uses of their jobs.
func (l *Ledger) addSums(ctx context.Context, q usage.Query, sums []poolSums, b *usage.Builder) error {
	for _, s := range sums {
		b.AddSums(s.pool, s.day.Day, &s.day.Sums)
	}
	if q.By != usage.ByJob {
		return nil
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(reportWorkers)
	for _, s := range sums {
		group.Go(func() error {
			return l.store.JobUses(ctx, s.pool, s.day, func(uses usage.JobUses) error {
				mu.Lock()
				defer mu.Unlock()
				b.AddUses(s.pool, &s.day.Sums, uses)
				return nil
			})
		})
	}
	return group.Wait()
}
