package service_test

import (
	"testing"
	"time"

	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Reports of months and years are those from all facts, to the last digit, from the sums of months, too: when facts
// came late into a month that is over, when prices of it were corrected, and when its sums were cut off and written twice.
func TestMonthsEqualTheRows(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 21)
	now := h.app.Clock.Now() // in March
	for days := 100; days > 0; days -= 16 {
		h.app.Clock.Set(now.AddDate(0, 0, -days))
		h.note("cpu")
		h.note("gpu")
		h.record()
	}
	h.app.Clock.Set(now.AddDate(0, 0, 4))
	checkAll := func() {
		t.Helper()
		for i, by := range []usage.Grouping{usage.ByPool, usage.ByMonth, "month,team", "year,user", "label:x", usage.BySweep, usage.ByDay} {
			q := usage.Query{By: by, From: time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)}
			if i%2 == 1 {
				q.From, q.To = q.From.Add(13*time.Hour), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) // December is not whole
			}
			if i == 3 {
				q.Filter.Team = "team-1"
			}
			h.check(q)
		}
	}
	keep := func(want bool) {
		t.Helper()
		for _, name := range h.pools {
			if n, err := h.app.Store.KeepMonths(t.Context(), name, h.app.Clock.Now()); err != nil || want != (n > 0) {
				t.Errorf("pool %s: %d months were added up, %v", name, n, err)
			}
		}
	}
	checkAll()
	keep(true)
	checkAll()
	keep(false)
	h.app.Clock.Set(now.AddDate(0, 0, -20)) // facts that come late
	h.note("cpu")
	h.app.Clock.Set(now.AddDate(0, 0, 4))
	h.record()
	checkAll()
	for _, name := range h.pools {
		if _, err := h.app.Store.KeepMonths(t.Context(), name, h.app.Clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	checkAll()
	corrected := 0 // no day comes, and none goes
	for id, e := range h.facts {
		if e.To.Month() != time.February {
			continue
		}
		e.Price, corrected = "7.77", corrected+1
		h.facts[id] = e
		if err := h.app.Store.Record(t.Context(), []usage.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if corrected == 0 {
		t.Fatal("no fact of February")
	}
	h.rebuild(wire.SumsQuery{From: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)})
	checkAll()
	keep(true)
	checkAll()
}

// The months that are over are added up once a day, some days after their end, and a report of them reads no day.
func TestMonthsAreKept(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 22)
	now := h.app.Clock.Now()
	h.app.Clock.Set(time.Date(2026, 2, 10, 12, 0, 0, 0, time.UTC))
	h.noteSome("cpu", 20)
	h.record()
	february := func() (months, days int) {
		t.Helper()
		sums, err := h.app.Store.MonthSums(t.Context(), "cpu", time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC), func(*store.DaySums) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sums {
			if s.Month {
				months++
			} else {
				days++
			}
		}
		return months, days
	}
	h.app.Clock.Set(now) // the second of March
	if err := h.app.Ledger.KeepMonths(t.Context()); err != nil {
		t.Fatal(err)
	}
	if months, days := february(); months != 0 || days == 0 {
		t.Errorf("soon after its end: %d months and %d days", months, days)
	}
	h.app.Clock.Set(now.AddDate(0, 0, 3))
	if err := h.app.Ledger.KeepMonths(t.Context()); err != nil {
		t.Fatal(err)
	}
	if months, days := february(); months != 1 || days != 0 {
		t.Errorf("three days after its end: %d months and %d days", months, days)
	}
	before := h.app.Tables.Stats().Requests
	if err := h.app.Ledger.KeepMonths(t.Context()); err != nil || h.app.Tables.Stats().Requests-before > 1 {
		t.Errorf("looking again on the same day costs more than a request (%v)", err)
	}
	h.app.Clock.Set(time.Date(2026, 2, 11, 12, 0, 0, 0, time.UTC))
	h.noteSome("cpu", 3)
	h.record()
	if months, days := february(); months != 0 || days == 0 {
		t.Errorf("when a day has changed: %d months and %d days", months, days)
	}
	h.app.Clock.Set(now.AddDate(0, 0, 4))
	if err := h.app.Ledger.KeepMonths(t.Context()); err != nil {
		t.Fatal(err)
	}
	if months, days := february(); months != 1 || days != 0 {
		t.Errorf("a day later: %d months and %d days", months, days)
	}
}
