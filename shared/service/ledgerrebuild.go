package service

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

const (
	// rebuildFor bounds one call of RebuildSums, and what one run of RecordUsage does of it:
	// a day that was begun comes to its end.
	rebuildFor = 10 * time.Second
	// rebuildTries is how often the sums of a day are built because others add to them.
	rebuildTries = 5
	// holdFor is how long nothing is added to a pool's sums while they are built. What its
	// pool notes stays there meanwhile, and reports find it there.
	holdFor = time.Minute
)

// RebuildSums builds the sums of days again from the rows of the ledger, the latest day first,
// and goes on for some seconds. Zero times are no bounds. It may be called at any time, also
// while facts are added, and cut off anywhere: the sums of a pool and day are replaced by one
// transaction. Those of a pool and day that have no rows stay: the rows were let go.
func (l *Ledger) RebuildSums(ctx context.Context, q wire.SumsQuery) (wire.SumsRebuilt, error) {
	if err := l.beginSums(ctx); err != nil {
		return wire.SumsRebuilt{}, err
	}
	state, err := l.store.SumsState(ctx)
	if err != nil {
		return wire.SumsRebuilt{}, err
	}
	days, err := l.store.LedgerDays(ctx)
	if err != nil {
		return wire.SumsRebuilt{}, err
	}
	slices.Reverse(days)
	var done wire.SumsRebuilt
	until := time.Now().Add(rebuildFor)
	widen := true // all days from the last one that was built on are whole
	for _, day := range days {
		if day.Before(q.From.UTC().Truncate(oneDay)) {
			return done, nil
		}
		if !q.To.IsZero() && !day.Before(q.To) {
			widen = widen && state.IsWhole(day)
			continue
		}
		if done.Days > 0 && time.Now().After(until) {
			to := day.Add(oneDay)
			done.To = &to
			return done, nil
		}
		rows, err := l.rebuildDay(ctx, day)
		done.Days, done.Rows = done.Days+1, done.Rows+rows
		if err != nil {
			return done, err
		}
		if widen && !state.IsWhole(day) {
			state.WholeFrom = day
			if err := l.store.SetSumsState(ctx, state); err != nil {
				return done, err
			}
		}
	}
	if widen && q.From.IsZero() && !state.WholeFrom.IsZero() {
		state.WholeFrom = time.Time{}
		err = l.store.SetSumsState(ctx, state)
	}
	return done, err
}

// BuildMissingSums builds the sums of what a release has recorded that knew no sums, some days
// with each call. Reports read the rows of days until they are built. After that it compares the
// sums of each day that is over with the ledger: such a release may have come back for a while.
func (l *Ledger) BuildMissingSums(ctx context.Context) error {
	if next := l.nextCheck.Load(); next != nil && l.now().Before(*next) {
		return nil
	}
	return errors.Join(l.buildMissing(ctx), l.KeepMonths(ctx))
}

// monthRest is how long after its end a month is added up: its last day has been compared with the ledger twice.
const monthRest = 3 * oneDay

// KeepMonths adds the sums of days up to those of months that are over, once a day, where they are missing or were changed.
func (l *Ledger) KeepMonths(ctx context.Context) error {
	today := l.now().UTC().Truncate(oneDay)
	through, err := l.store.MonthsLookedFor(ctx)
	if err != nil || !through.Before(today) {
		return err
	}
	names, err := l.store.SummedPools(ctx)
	if err != nil {
		return err
	}
	until := time.Now().Add(rebuildFor)
	for _, name := range names {
		kept, err := l.store.KeepMonths(ctx, name, today.Add(-monthRest))
		if err != nil {
			return err
		}
		if kept > 0 {
			l.log.InfoContext(ctx, "added up months of the ledger", "pool", name, "months", kept)
		}
		if time.Now().After(until) {
			return nil // the next run begins again, and finds these
		}
	}
	return l.store.SetMonthsLookedFor(ctx, today)
}

func (l *Ledger) buildMissing(ctx context.Context) error {
	state, err := l.store.SumsState(ctx)
	if err != nil || state.Began.IsZero() || l.now().Before(state.Began.Add(overlap)) {
		return err
	}
	switch {
	case !state.WholeFrom.IsZero():
	case state.UsesFrom.IsZero() || state.UsesFrom.After(store.AllDays):
		return l.buildMissingUses(ctx, state)
	default:
		return l.checkDays(ctx, state)
	}
	done, err := l.RebuildSums(ctx, wire.SumsQuery{To: state.WholeFrom})
	l.log.InfoContext(ctx, "built sums of the ledger", "days", done.Days, "rows", done.Rows, "to", state.WholeFrom)
	return err
}

// buildMissingUses builds the sums of days again, from the latest on, that a release has written which knew no
// uses of jobs. Reports by job read the rows of these days until then.
func (l *Ledger) buildMissingUses(ctx context.Context, state store.SumsState) error {
	days, err := l.store.LedgerDays(ctx)
	if err != nil {
		return err
	}
	until := time.Now().Add(rebuildFor)
	for _, day := range slices.Backward(days) {
		if !state.UsesFrom.IsZero() && !day.Before(state.UsesFrom) {
			continue
		}
		if time.Now().After(until) {
			return nil
		}
		if err := l.checkDay(ctx, day); err != nil {
			return err
		}
		state.UsesFrom = day
		if err := l.store.SetSumsState(ctx, state); err != nil {
			return err
		}
	}
	state.UsesFrom = store.AllDays
	return l.store.SetSumsState(ctx, state)
}

// checkDays compares the sums of days that are over with the ledger, each day twice: soon after
// its end, and a day later, when rows that came late are there.
func (l *Ledger) checkDays(ctx context.Context, state store.SumsState) error {
	until := time.Now().Add(rebuildFor)
	for {
		day := state.CheckedTo
		if day.IsZero() {
			day = state.Began.UTC().Truncate(oneDay)
		}
		if next := day.Add(oneDay + overlap); l.now().Before(next) {
			l.nextCheck.Store(&next)
			return nil
		}
		for _, on := range []time.Time{day.Add(-oneDay), day} {
			if err := l.checkDay(ctx, on); err != nil {
				return err
			}
		}
		state.CheckedTo = day.Add(oneDay)
		if err := l.store.SetSumsState(ctx, state); err != nil || time.Now().After(until) {
			return err
		}
	}
}

// checkDay builds the sums of a day again that have fewer rows than the ledger, or no uses of jobs. If they have
// more, rows were let go, and the sums stay.
func (l *Ledger) checkDay(ctx context.Context, on time.Time) error {
	names, err := l.store.PoolsOfDay(ctx, on)
	if err != nil {
		return err
	}
	for _, name := range names {
		days, err := l.store.DaySums(ctx, name, on, on)
		if err != nil {
			return err
		}
		summed, whole := 0, true
		if len(days) > 0 {
			summed, whole = days[0].Rows, !days[0].LacksUses()
		}
		rows, err := l.store.CountUsage(ctx, on, name)
		if err != nil {
			return err
		}
		if rows < summed || rows == summed && whole {
			continue
		}
		if rows, err = l.rebuildUndisturbed(ctx, name, on); err != nil {
			return err
		}
		if rows != summed { // the others were not added yet
			l.log.WarnContext(ctx, "sums missed rows of the ledger", "pool", name, "day", on, "rows", rows, "summed", summed)
		}
	}
	return nil
}

// rebuildDay builds the sums of all pools that have rows on a day.
func (l *Ledger) rebuildDay(ctx context.Context, day time.Time) (rows int, err error) {
	names, err := l.store.PoolsOfDay(ctx, day)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := l.rebuildUndisturbed(ctx, name, day)
		if err != nil {
			return rows, err
		}
		rows += n
	}
	return rows, nil
}

// rebuildUndisturbed builds the sums of a pool and day, some times if others add to them.
func (l *Ledger) rebuildUndisturbed(ctx context.Context, name string, day time.Time) (rows int, err error) {
	for try := 1; ; try++ {
		rows, err = l.rebuildPoolDay(ctx, name, day, try > 1)
		if fault.CodeOf(err) != fault.Conflict || try == rebuildTries {
			return rows, err
		}
	}
}

// rebuildPoolDay builds the sums of a pool and day. Facts that are in the ledger and not in the
// sums yet, which their pool still has, are left out: they are added later.
func (l *Ledger) rebuildPoolDay(ctx context.Context, name string, day time.Time, hold bool) (int, error) {
	version, err := l.store.SumsVersion(ctx, name)
	if err == nil && hold {
		version, err = l.store.HoldSums(ctx, name, version, l.now().Add(holdFor))
	}
	if err != nil {
		return 0, err
	}
	sums, err := l.sumRows(ctx, name, day, version)
	if err != nil {
		return 0, err
	}
	return sums.Rows, l.store.ReplaceSums(ctx, name, version, day, sums)
}

// sumRows adds up the rows of a pool and day that are in a version of its sums.
func (l *Ledger) sumRows(ctx context.Context, name string, day time.Time, version store.SumsVersion) (*usage.Sums, error) {
	var sums usage.Sums
	var seen []uint64 // the rows' identities, as hashes
	err := l.store.UsageOfDay(ctx, day, name, time.Time{}, time.Time{}, true, func(e usage.Entry) error {
		sums.Add(&e)
		seen = append(seen, hashIdentity(&e))
		return nil
	})
	if err == nil {
		err = l.removePending(ctx, name, day, version, &sums, seen)
	}
	return &sums, err
}

// removePending removes from the sums what is not in a version of them, and was seen in the
// ledger all the same. The pool's facts are read after the rows.
func (l *Ledger) removePending(
	ctx context.Context, name string, day time.Time, v store.SumsVersion, sums *usage.Sums, seen []uint64,
) error {
	logs, err := l.store.Logs(ctx, name, 0)
	if err != nil {
		return err
	}
	slices.Sort(seen)
	for _, log := range logs {
		if v.Has(log) {
			continue
		}
		for i := range log.Entries {
			e := &log.Entries[i]
			if !e.To.UTC().Truncate(oneDay).Equal(day) {
				continue
			}
			if _, found := slices.BinarySearch(seen, hashIdentity(e)); found {
				sums.Remove(e)
			}
		}
	}
	return nil
}

func hashIdentity(e *usage.Entry) uint64 {
	sum := sha256.Sum256([]byte(e.Identity()))
	return binary.BigEndian.Uint64(sum[:8])
}
