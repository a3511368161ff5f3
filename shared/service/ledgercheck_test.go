package service_test

import (
	"testing"
	"time"

	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Sums that are those of the rows make no difference, also while facts are noted that are not added yet. A price that
// somebody has changed in the rows makes one, exactly, which building the sums again takes away. To compare writes nothing.
func TestCheckSums(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 31)
	h.noteSome("cpu", 20)
	h.noteSome("gpu", 20)
	h.record()
	h.note("cpu")
	check := func(when string, want int) wire.SumsChecked {
		t.Helper()
		before := h.app.Tables.Stats().EntitiesWritten
		got, err := h.app.Ledger.CheckSums(t.Context(), wire.SumsQuery{})
		if err != nil || len(got.Differences) != want || got.Days == 0 || got.Rows < 40 || got.To != nil {
			t.Fatalf("%s: got %+v, %v; want %d differences", when, got, err, want)
		}
		if n := h.app.Tables.Stats().EntitiesWritten - before; n != 0 {
			t.Errorf("%s: comparing has written %d times", when, n)
		}
		return got
	}
	check("as it is", 0)
	for _, e := range h.facts {
		if cost, known := e.Cost(); !known || cost.Sign() == 0 || e.Kind != usage.KindAttempt || e.Pool != "gpu" {
			continue
		}
		e.Price = "9.87"
		if err := h.app.Store.Record(t.Context(), []usage.Entry{e}); err != nil {
			t.Fatal(err)
		}
		d := check("with another price", 1).Differences[0]
		if d.Pool != "gpu" || d.Day != usage.Partition(e.To) || d.Currency != e.Currency || d.Rows[0] != d.Rows[1] || d.Cost[0] == d.Cost[1] || d.Paid[0] != d.Paid[1] {
			t.Errorf("got %+v", d)
		}
		day := e.To.UTC().Truncate(24 * time.Hour)
		h.rebuild(wire.SumsQuery{From: day, To: day.Add(24 * time.Hour)})
		check("built again", 0)
		return
	}
	t.Fatal("no fact to change")
}
