package service

import (
	"context"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// checkTries is how often a day is compared again because its sums have changed meanwhile.
const checkTries = 20

// CheckSums compares the sums of days with the rows of the ledger, the latest day first, for some seconds. Zero times are no
// bounds. It writes nothing. Both are of the same moment: what is recorded meanwhile makes no difference.
func (l *Ledger) CheckSums(ctx context.Context, q wire.SumsQuery) (wire.SumsChecked, error) {
	done := wire.SumsChecked{Differences: []wire.SumsDifference{}}
	days, err := l.store.LedgerDays(ctx)
	if err != nil {
		return done, err
	}
	until := time.Now().Add(rebuildFor)
	for _, day := range slices.Backward(days) {
		switch {
		case day.Before(q.From.UTC().Truncate(oneDay)):
			return done, nil
		case !q.To.IsZero() && !day.Before(q.To):
			continue
		case done.Days > 0 && time.Now().After(until):
			to := day.Add(oneDay)
			done.To = &to
			return done, nil
		}
		names, err := l.store.PoolsOfDay(ctx, day)
		if err != nil {
			return done, err
		}
		for _, name := range names {
			if err := l.compareDay(ctx, name, day, &done); err != nil {
				return done, err
			}
		}
		done.Days++
	}
	return done, nil
}

// compareDay compares the sums of a pool and day with its rows. Days that have no sums are read from the rows anyway.
func (l *Ledger) compareDay(ctx context.Context, name string, day time.Time, done *wire.SumsChecked) error {
	for range checkTries {
		before, err := l.store.SumsVersion(ctx, name)
		if err != nil {
			return err
		}
		kept, err := l.store.DaySums(ctx, name, day, day)
		if err != nil {
			return err
		}
		rows, err := l.sumRows(ctx, name, day, before)
		if err != nil {
			return err
		}
		after, err := l.store.SumsVersion(ctx, name)
		if err != nil {
			return err
		}
		if !after.Same(before) {
			continue
		}
		summed := &usage.Sums{}
		if len(kept) > 0 {
			if kept[0].Overflow {
				return nil
			}
			summed = &kept[0].Sums
		}
		done.Rows += rows.Rows
		of, in := rows.Differences(summed)
		for i := range of {
			done.Differences = append(done.Differences, wire.NewSumsDifference(name, day, &of[i], &in[i]))
		}
		return nil
	}
	return fault.New(fault.Throttled, "", "the sums of pool %q change too often to be compared; try again", name)
}
