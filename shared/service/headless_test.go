package service_test

import (
	"testing"

	"github.com/google/uuid"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// The use of a pool whose head is gone is recorded whole, and recording it ends: nobody is there
// who forgets the rows.
func TestRecordWithoutAHead(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 1)
	app, ctx := h.app, t.Context()
	const rows = 125
	part, version, err := app.Store.Load(ctx, "cpu")
	if err != nil {
		t.Fatal(err)
	}
	head := part.Head
	for range rows {
		head.Seq, head.Nonce = head.Seq+1, uuid.NewString()
		var entries []usage.Entry
		for range 12 { // too many for the head to carry
			entries = append(entries, h.fact("cpu"))
		}
		log := &pool.Log{Seq: head.Seq, Entries: entries}
		if version, err = app.Store.Commit(ctx, "cpu", version, head, []pool.Change{{Key: pool.LogKey(head.Seq), Value: log}}); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			h.facts[e.Identity()] = e
		}
	}
	tables, err := table.Open(table.Config{ConnectionString: app.Tables.ConnectionString(), Transport: app.Tables})
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	if err := tables.Table("pools").Delete(ctx, "lose the head", "cpu", pool.HeadKey, table.Any); err != nil {
		t.Fatal(err)
	}
	left, err := app.Store.Logs(ctx, "cpu", 0)
	if err != nil || len(left) <= 100 {
		t.Fatalf("%d rows are left, %v", len(left), err)
	}
	if err := app.Ledger.Record(ctx, "cpu"); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, log := range left {
		for _, e := range log.Entries {
			want[e.Identity()] = true
		}
	}
	err = app.Store.Usage(ctx, apptest.Noon.AddDate(0, 0, -400), apptest.Noon.AddDate(0, 0, 400), func(r usage.Row) error {
		delete(want, r.Identity())
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("%d facts are not recorded, %v", len(want), err)
	}
}
