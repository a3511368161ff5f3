package service

import (
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// costs finds what jobs and sessions cost.
type costs struct {
	store  *store.Store
	driver *drive.Driver
}

// costOf adds up what entries cost, as a report on usage does; nil = there are none.
func costOf(entries []usage.Entry) *wire.Cost {
	if len(entries) == 0 {
		return nil
	}
	sum := new(big.Rat)
	for i := range entries {
		cost, ok := entries[i].Cost()
		if !ok || entries[i].Currency != entries[0].Currency {
			return &wire.Cost{Amount: usage.UnknownPrice}
		}
		sum.Add(sum, cost)
	}
	return &wire.Cost{Amount: usage.Amount(sum), Currency: entries[0].Currency}
}

// lasting is what entries would cost if each was of a length.
func lasting(entries []usage.Entry, length time.Duration) []usage.Entry {
	out := make([]usage.Entry, len(entries))
	for i, e := range entries {
		e.To = e.From.Add(length)
		out[i] = e
	}
	return out
}

// open are the attempts of a pool that run, up to now, by the order of their job.
func (c costs) open(ctx context.Context, name string, now time.Time) (map[string][]usage.Entry, error) {
	open, err := c.driver.OpenEntries(ctx, name, now)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return nil, err
	}
	byOrder := map[string][]usage.Entry{}
	for _, e := range open {
		if order, _, _ := strings.Cut(e.Key, "!"); e.Kind == usage.KindAttempt {
			byOrder[order] = append(byOrder[order], e)
		}
	}
	return byOrder, nil
}

// openCosts are what the sessions of a pool that are open have cost until now, by order.
func (c costs) openCosts(ctx context.Context, name string, now time.Time) (map[string]*wire.Cost, error) {
	open, err := c.open(ctx, name, now)
	byOrder := map[string]*wire.Cost{}
	for order, entries := range open {
		byOrder[order] = costOf(entries)
	}
	return byOrder, err
}

// ended are the attempts of a job that have ended. Their facts are in the ledger, or wait in the pool to
// be recorded; they may go from there to the ledger between two looks. NotFound: some are not kept.
func (c costs) ended(ctx context.Context, j *pool.Job) (entries []usage.Entry, err error) {
	for i := range j.Attempts {
		for _, want := range endedParts(j, &j.Attempts[i]) {
			e, err := c.store.UsageEntry(ctx, want)
			if fault.CodeOf(err) == fault.NotFound {
				if e, err = c.unrecorded(ctx, want); fault.CodeOf(err) == fault.NotFound {
					e, err = c.store.UsageEntry(ctx, want)
				}
			}
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// withoutEnded are the open facts that have not ended between two looks.
func withoutEnded(open, ended []usage.Entry) []usage.Entry {
	return slices.DeleteFunc(open, func(o usage.Entry) bool {
		return slices.ContainsFunc(ended, func(e usage.Entry) bool { return e.Identity() == o.Identity() })
	})
}

// endedParts name the facts of an attempt that has started and ended: one, or one for each node of a gang.
func endedParts(j *pool.Job, a *job.Attempt) (parts []usage.Entry) {
	part := func(key string, started, ended time.Time) {
		if !started.IsZero() && !ended.IsZero() {
			parts = append(parts, usage.Entry{Kind: usage.KindAttempt, Pool: j.Spec.Pool, Key: key, To: ended})
		}
	}
	if len(a.Ranks) == 0 {
		part(usage.AttemptKey(j.Order, a.Number), a.StartedAt, a.EndedAt)
	}
	for i := range a.Ranks {
		r := &a.Ranks[i]
		part(usage.RankKey(j.Order, a.Number, r.Rank), r.StartedAt, r.EndedAt)
	}
	return parts
}

// endedCost is what a session or job that has ended has cost; nil = it never began, or its use is not kept any more.
func (c costs) endedCost(ctx context.Context, j *pool.Job) (*wire.Cost, error) {
	entries, err := c.ended(ctx, j)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, nil
	}
	return costOf(entries), err
}

// unrecorded finds a fact that waits in its pool to be recorded.
func (c costs) unrecorded(ctx context.Context, want usage.Entry) (usage.Entry, error) {
	logs, err := c.store.Logs(ctx, want.Pool, 0)
	if err != nil {
		return usage.Entry{}, err
	}
	for _, log := range logs {
		for _, e := range log.Entries {
			if e.Identity() == want.Identity() {
				return e, nil
			}
		}
	}
	return usage.Entry{}, fault.New(fault.NotFound, "", "the use is not kept")
}

// JobCost is what a job has cost, in all its attempts, and what it costs while it runs. Of a sweep it is that of its members.
func (l *Ledger) JobCost(ctx context.Context, j *pool.Job) (wire.JobCost, error) {
	if j.Spec.Sweep != nil {
		return l.sweepCost(ctx, j)
	}
	now := l.now()
	c := costs{l.store, l.driver}
	out := wire.JobCost{AsOf: now.UTC()}
	var open []usage.Entry
	if !j.State.Final() {
		byOrder, err := c.open(ctx, j.Spec.Pool, now)
		if err != nil {
			return out, err
		}
		// What has ended since is in the job as it is now, and not counted twice.
		switch later, err := l.store.Job(ctx, j.Spec.Pool, j.Order); {
		case err == nil:
			j = later
		case fault.CodeOf(err) != fault.NotFound:
			return out, err
		}
		open = byOrder[j.Order]
	}
	ended, err := c.ended(ctx, j)
	if fault.CodeOf(err) == fault.NotFound {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	open = withoutEnded(open, ended)
	out.Cost = costOf(append(ended, open...))
	if len(open) > 0 {
		out.PerHour = costOf(lasting(open, time.Hour))
		if limit := time.Duration(j.Spec.Timeout); limit > 0 {
			out.AtMost = costOf(append(ended[:len(ended):len(ended)], lasting(open, limit)...))
		}
	}
	return out, nil
}

// sweepCost is what the members of a sweep have cost.
func (l *Ledger) sweepCost(ctx context.Context, j *pool.Job) (wire.JobCost, error) {
	q := usage.Query{By: usage.BySweep, From: j.SubmittedAt.UTC().Truncate(oneDay), Filter: usage.Filter{Pool: j.Spec.Pool}}
	r, err := l.Report(ctx, q)
	if err != nil {
		return wire.JobCost{}, err
	}
	out := wire.JobCost{AsOf: r.AsOf.UTC()}
	for _, g := range r.Groups {
		switch {
		case g.Key != j.Spec.ID:
		case out.Cost != nil, g.Cost == usage.UnknownPrice:
			out.Cost = &wire.Cost{Amount: usage.UnknownPrice} // in two currencies, or partly unknown
		default:
			out.Cost = &wire.Cost{Amount: g.Cost, Currency: g.Currency}
		}
	}
	return out, nil
}
