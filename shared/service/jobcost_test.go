package service_test

import (
	"context"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// priced is a fleet whose nodes have a price.
type priced struct{ *apptest.Fleet }

func (f priced) List(ctx context.Context, name string, spec pool.Spec, set pool.Set) (pool.Listed, error) {
	l, err := f.Fleet.List(ctx, name, spec, set)
	l.Tariffs = []pool.Tariff{{PerHour: "0.12", Currency: "USD"}}
	return l, err
}

// A session costs what `dsvm usage` says: while it is open, after its end, and when its use has
// been recorded. A waiting one knows how long nodes usually boot, also in a pool without nodes.
func TestCostAndUsualWait(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, apptest.WithDoors(t), func(c *service.Config) { c.Fleet = priced{c.Fleet.(*apptest.Fleet)} })
	if err := app.Apply(t.Context(), labPool); err != nil {
		t.Fatal(err)
	}
	pass := func(d time.Duration) {
		t.Helper()
		app.Clock.Set(app.Clock.Now().Add(d))
		if err := app.Pools.Tick(t.Context(), "lab", app.Clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	s, _, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil || s.Cost != nil || s.UsualWait != 0 {
		t.Fatalf("got %+v, %v", s, err)
	}
	look := func(when string, cost *wire.Cost) wire.Session {
		t.Helper()
		got, err := app.Sessions.Session(t.Context(), s.ID)
		if err != nil || (got.Cost == nil) != (cost == nil) || cost != nil && *got.Cost != *cost {
			t.Fatalf("%s: it costs %+v, want %+v; %v", when, got.Cost, cost, err)
		}
		if cost == nil {
			return got
		}
		r, err := app.Ledger.Report(t.Context(), usage.Query{By: usage.ByUser, Filter: usage.Filter{Pool: "lab", User: "ann"}})
		if err != nil || len(r.Totals) != 1 || r.Totals[0].Cost != cost.Amount || r.Totals[0].Currency != cost.Currency {
			t.Errorf("%s: usage says %+v, %v; the session %+v", when, r.Totals, err, cost)
		}
		return got
	}
	pass(100 * time.Second)
	if got := look("while it waits", nil); got.Reason != "no node has room for it, and node dsvm-lab-d2s-v5_0 is booting (1m40s)" {
		t.Errorf("while it waits: %q", got.Reason)
	}
	pass(2 * time.Minute)
	items := boot(t, app, "lab-0")
	begin(t, app, "lab-0", items)
	pass(45 * time.Minute)
	open := &wire.Cost{Amount: "0.09", Currency: "USD"}
	look("while it is open", open)
	if all, err := app.Sessions.List(t.Context(), "lab", ""); err != nil || len(all) != 1 || all[0].Cost == nil || *all[0].Cost != *open {
		t.Errorf("the list has %+v, %v", all, err)
	}
	ended := &wire.Cost{Amount: "0.12", Currency: "USD"}
	var n int64
	for _, item := range items {
		if item.Assign != nil {
			n = item.N
		}
	}
	pass(15 * time.Minute)
	if _, err := app.Sessions.Stop(as(t, ann), s.ID); err != nil {
		t.Fatal(err)
	}
	finished := &protocol.Finished{N: n, State: "cancelled", StartedAt: apptest.Noon.Add(220 * time.Second), EndedAt: app.Clock.Now()}
	if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Finished: finished}); err != nil {
		t.Fatal(err)
	}
	look("after its end", ended)
	if err := app.Ledger.Record(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	pass(time.Hour)
	look("when it is recorded", ended)

	// The node has left, and with it all that is known of it.
	for range 6 {
		pass(10 * time.Minute)
	}
	head, err := app.Pools.Pools(t.Context(), "lab")
	if err != nil || len(head[0].Nodes) != 0 {
		t.Fatalf("the pool has %+v, %v", head[0].Nodes, err)
	}
	next, _, err := app.Sessions.Open(as(t, ann), "lab", "")
	if err != nil || next.UsualWait != 220 || next.Reason != "no node has room for it, and node dsvm-lab-d2s-v5_1 is booting (0s; usually 3m40s)" {
		t.Errorf("the next one: %+v, %v", next, err)
	}
}

// A job costs what reports say: with the attempts that were lost, while it runs, before and after its use is recorded.
func TestJobCost(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t) // job first was lost once and has failed, second runs, third waits
	check := func(when string) {
		t.Helper()
		r, err := app.Ledger.Report(t.Context(), usage.Query{By: usage.ByJob})
		if err != nil {
			t.Fatal(err)
		}
		byJob := map[string]usage.Group{}
		for _, g := range r.Groups {
			byJob[g.Key] = g
		}
		for _, id := range []string{"first", "second"} {
			j, err := app.Jobs.Job(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := app.Ledger.JobCost(t.Context(), j)
			want := wire.Cost{Amount: byJob[id].Cost, Currency: byJob[id].Currency}
			if err != nil || got.Cost == nil || *got.Cost != want || want.Amount == "" {
				t.Errorf("%s: %s costs %+v (%v), and in the report %+v", when, id, got.Cost, err, want)
			}
			if runs := byJob[id].Open > 0; runs != (got.PerHour != nil) || runs && *got.PerHour != (wire.Cost{Amount: "0.096", Currency: "USD"}) {
				t.Errorf("%s: an hour of %s costs %+v", when, id, got.PerHour)
			}
		}
	}
	check("noted")
	app.Clock.Set(app.Clock.Now().Add(time.Hour))
	check("an hour later")
	if err := app.Ledger.RecordAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("recorded")
	third, err := app.Jobs.Job(t.Context(), "third")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := app.Ledger.JobCost(t.Context(), third); err != nil || got.Cost != nil || got.PerHour != nil {
		t.Errorf("one that waits costs %+v, %v", got, err)
	}
	first, _ := app.Jobs.Job(t.Context(), "first")
	first.Attempts[0].EndedAt = first.Attempts[0].EndedAt.Add(-24 * time.Hour) // a row that is not there any more
	if got, err := app.Ledger.JobCost(t.Context(), first); err != nil || got.Cost != nil {
		t.Errorf("one whose use is not kept costs %+v, %v", got, err)
	}
}
