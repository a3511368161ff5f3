package service

import (
	"context"
	"math/big"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

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

// liveCosts are what the sessions of a pool that are open have cost until now, by order.
func (s *Sessions) liveCosts(ctx context.Context, name string, now time.Time) (map[string]*wire.Cost, error) {
	open, err := s.driver.OpenEntries(ctx, name, now)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return nil, err
	}
	byOrder := map[string][]usage.Entry{}
	for _, e := range open {
		if order, _, _ := strings.Cut(e.Key, "!"); e.Kind == usage.KindAttempt {
			byOrder[order] = append(byOrder[order], e)
		}
	}
	costs := map[string]*wire.Cost{}
	for order, entries := range byOrder {
		costs[order] = costOf(entries)
	}
	return costs, nil
}

// endedCost is what a session that has ended has cost. Its facts are in the ledger, or wait in
// the pool to be recorded; they may go from there to the ledger between two looks.
func (s *Sessions) endedCost(ctx context.Context, j *pool.Job) (*wire.Cost, error) {
	var entries []usage.Entry
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.StartedAt.IsZero() {
			continue
		}
		want := usage.Entry{Kind: usage.KindAttempt, Pool: j.Spec.Pool, Key: usage.AttemptKey(j.Order, a.Number), To: a.EndedAt}
		e, err := s.store.UsageEntry(ctx, want)
		if fault.CodeOf(err) == fault.NotFound {
			if e, err = s.unrecorded(ctx, want); fault.CodeOf(err) == fault.NotFound {
				e, err = s.store.UsageEntry(ctx, want)
			}
		}
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			return nil, nil
		case err != nil:
			return nil, err
		}
		entries = append(entries, e)
	}
	return costOf(entries), nil
}

// unrecorded finds a fact that waits in its pool to be recorded.
func (s *Sessions) unrecorded(ctx context.Context, want usage.Entry) (usage.Entry, error) {
	logs, err := s.store.Logs(ctx, want.Pool, 0)
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
	return usage.Entry{}, fault.New(fault.NotFound, "", "the use of the session is not kept")
}
