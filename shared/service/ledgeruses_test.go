package service_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// A release that knows sums but no uses of jobs leaves them out of the rows that it writes. Reports by job read the
// rows of these days then, until the recorder has built them.
func TestUsesOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 13)
	byJob := usage.Query{By: usage.ByJob, From: apptest.Noon.AddDate(0, 0, -10).Truncate(24 * time.Hour), Order: usage.OrderCost}
	check := func(when string, want bool) {
		t.Helper()
		h.check(byJob)
		for _, name := range h.pools {
			days, err := h.app.Store.DaySums(t.Context(), name, byJob.From, h.app.Clock.Now())
			if err != nil || len(days) == 0 {
				t.Fatalf("got %d days, %v", len(days), err)
			}
			for _, day := range days {
				if day.HasUses() != want && day.Attempts() > 0 {
					t.Errorf("%s: day %s of pool %s has uses of jobs: %t", when, day.Day, name, !want)
				}
			}
		}
	}
	for range 4 {
		h.note("cpu")
		h.noteSome("gpu", 90)
		h.record()
	}
	h.app.Clock.Set(h.app.Clock.Now().Add(2 * time.Hour)) // after the last end
	check("recorded", true)
	h.forgetUses()
	check("the earlier release has written", false)
	h.note("cpu")
	h.record()
	h.app.Clock.Set(h.app.Clock.Now().Add(2 * time.Hour))
	check("recorded after that", false)
	if err := h.app.Ledger.BuildMissingSums(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("built", true)
	if state, err := h.app.Store.SumsState(t.Context()); err != nil || state.UsesFrom.IsZero() {
		t.Errorf("got %+v, %v; want uses of all days", state, err)
	}
	h.note("cpu")
	h.record()
	check("and recorded", true)
}

// forgetUses writes the sums as a release does that knows no uses.
func (h *history) forgetUses() {
	h.t.Helper()
	for key, raw := range h.sumsRows() {
		var row map[string]any
		if err := json.Unmarshal(raw, &row); err != nil {
			h.t.Fatal(err)
		}
		delete(row, "odata.etag")
		for _, name := range []string{"UseRows", "UseFull", "UseSet", "UseTail", "UsesFrom"} {
			delete(row, name)
			delete(row, name+"@odata.type")
		}
		text, err := json.Marshal(row)
		if err != nil {
			h.t.Fatal(err)
		}
		if strings.HasPrefix(key, "uses!") {
			continue // it stays, and nobody names it
		}
		if err := h.sumsTable().Put(h.t.Context(), "write as an earlier release", text); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *history) sumsTable() *table.Table {
	h.t.Helper()
	tables, err := table.Open(table.Config{ConnectionString: h.app.Tables.ConnectionString(), Transport: h.app.Tables})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(tables.Close)
	return tables.Table("rollups")
}

// sumsRows are the rows of the sums of all pools, by key and pool.
func (h *history) sumsRows() map[string][]byte {
	h.t.Helper()
	all := map[string][]byte{}
	_, err := h.sumsTable().Scan(h.t.Context(), "read sums", table.Query{}, func(raw []byte) error {
		var row struct{ PartitionKey, RowKey string }
		err := table.Decode(raw, &row)
		all[row.RowKey+" "+row.PartitionKey] = raw
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// Sums that are built again have a new set of uses; the one before goes. A reader who has the sums
// of before learns that theirs are gone.
func TestUsesThatAreReplaced(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 14)
	for range 4 {
		h.noteSome("cpu", 90)
		h.record()
	}
	rows := func() (n int) {
		for key := range h.sumsRows() {
			if strings.HasPrefix(key, "uses!") {
				n++
			}
		}
		return n
	}
	before, err := h.app.Store.DaySums(t.Context(), "cpu", apptest.Noon, apptest.Noon)
	if err != nil || len(before) != 1 {
		t.Fatal(len(before), err)
	}
	if n := rows(); n == 0 {
		t.Fatal("there are no rows with uses")
	}
	for range 3 {
		h.rebuild(wire.SumsQuery{})
	}
	if n := rows(); n == 0 || n > 2 { // of two days
		t.Errorf("there are %d rows with uses", n)
	}
	err = h.app.Store.JobUses(t.Context(), "cpu", before[0], func(usage.JobUses) error { return nil })
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("uses of sums that were replaced: got %v", err)
	}
}
