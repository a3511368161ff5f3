package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// budgetsOf reads documents of budgets.
func budgetsOf(t *testing.T, text string) []budget.Budget {
	t.Helper()
	all, err := budget.ParseAll([]byte(text), "application/yaml")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A budget is held over what runs, over what is noted and over what is recorded, in all pools; it
// says so, and lets go when it is raised.
func TestBudgetHoldsAcrossPools(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, func(c *service.Config) { c.Fleet = priced{c.Fleet.(*apptest.Fleet)} })
	for _, name := range []string{"one", "two"} {
		if err := app.Apply(t.Context(), fmt.Sprintf(`{"name":%q,"sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`, name)); err != nil {
			t.Fatal(err)
		}
	}
	submit := func(id, name string) {
		t.Helper()
		text := fmt.Sprintf(`{"id":%q,"pool":%q,"team":"vision","user":"ann","command":["x"],"resources":{"cpus":2}}`, id, name)
		if err := app.Submit(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	submit("first", "one")
	ready := &protocol.Ready{Name: "dsvm-one-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1", Features: protocol.Features()}
	if err := app.Report(t.Context(), "one", "one-0", protocol.ReportItem{Ready: ready}); err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, item := range app.Bus.TakeWork(protocol.SessionID("one", "one-0")) {
		if item.Assign != nil {
			n = item.N
		}
	}
	if err := app.Report(t.Context(), "one", "one-0", protocol.ReportItem{Started: &protocol.Started{N: n, At: app.Clock.Now()}}); err != nil {
		t.Fatal(err)
	}
	applied, err := app.Budgets.ApplyBudgets(t.Context(), budgetsOf(t, "budgets:\n- {name: vision, scope: {team: vision}, amount: 0.12}\n"+
		"- {name: big, scope: {user: ann}, amount: 100}\n- {name: later, scope: {pool: two}, amount: 1, period: 2030-01-01..2030-02-01}"))
	if err != nil || len(applied) != 3 || applied[0].Level != wire.BudgetOK || applied[1].Level != wire.BudgetEnded || applied[2].Level != wire.BudgetOK {
		t.Fatalf("got %+v, %v", applied, err)
	}
	look := func(name, level, spent string) wire.Budget {
		t.Helper()
		if err := app.Budgets.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := app.Budgets.Budget(t.Context(), name)
		if err != nil || b.Level != level || b.Spent != spent {
			t.Fatalf("got %+v, %v; want %s and %s", b, err, level, spent)
		}
		return b
	}
	app.Clock.Set(app.Clock.Now().Add(50 * time.Minute)) // 0.12 an hour
	look("vision", budget.Notify, "0.10")
	submit("second", "two")
	if e, err := app.Jobs.Explain(t.Context(), "second"); err != nil || strings.Contains(e.Reason, "budget") {
		t.Fatalf("got %+v, %v", e, err)
	}
	app.Clock.Set(app.Clock.Now().Add(10 * time.Minute))
	since := look("vision", budget.Hold, "0.12").Since
	look("big", wire.BudgetOK, "0.12")
	isHeld := func(want bool) {
		t.Helper()
		e, err := app.Jobs.Explain(t.Context(), "second")
		if err != nil || strings.Contains(e.Reason, `team "vision" has spent 0.12 of its 0.12 USD for March 2026, by budget "vision"`) != want {
			t.Errorf("held is %v; got %+v, %v", want, e, err)
		}
	}
	isHeld(true)
	spec, err := job.Parse([]byte(`{"pool":"two","team":"vision","command":["x"]}`), "application/json")
	if err != nil {
		t.Fatal(err)
	}
	if dry, err := app.Jobs.DryRun(t.Context(), spec); err != nil || !strings.Contains(dry.Reason, `by budget "vision"`) {
		t.Errorf("a dry run says %+v, %v", dry, err)
	}

	finished := &protocol.Finished{N: n, State: "succeeded", StartedAt: apptest.Noon, EndedAt: app.Clock.Now()}
	if err := app.Report(t.Context(), "one", "one-0", protocol.ReportItem{Finished: finished}); err != nil {
		t.Fatal(err)
	}
	look("vision", budget.Hold, "0.12")
	if err := app.Ledger.Record(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Minute))
	if again := look("vision", budget.Hold, "0.12"); !again.Since.Equal(*since) {
		t.Errorf("it holds since %s, and not since %s", again.Since, since)
	}

	if _, err := app.Budgets.RaiseBudget(t.Context(), "vision", wire.BudgetRaise{To: "0.1"}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
	if b, err := app.Budgets.RaiseBudget(t.Context(), "vision", wire.BudgetRaise{By: "0.08"}); err != nil || b.Amount != "0.20" || b.Level != wire.BudgetOK {
		t.Errorf("got %+v, %v", b, err)
	}
	isHeld(false)
	if _, err := app.Budgets.ApplyBudgets(t.Context(), budgetsOf(t, "{name: vision, scope: {team: vision}, amount: 0.01}")); err != nil {
		t.Fatal(err)
	}
	if e, _ := app.Jobs.Explain(t.Context(), "second"); !strings.Contains(e.Reason, "of its 0.01 USD") {
		t.Errorf("got %+v", e)
	}
	for _, name := range []string{"vision", "big", "later"} {
		if err := app.Budgets.DeleteBudget(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if e, _ := app.Jobs.Explain(t.Context(), "second"); strings.Contains(e.Reason, "budget") {
		t.Errorf("got %+v", e)
	}
	if err := app.Budgets.DeleteBudget(t.Context(), "vision"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
}

// What has no known price makes a sum a least one, and holds where the budget says so. A document that
// cannot be read does nothing, and says why.
func TestBudgetOfUnknownPrices(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	if err := app.Apply(t.Context(), `{"name":"odd","sizes":["Standard_Unheard_Of"],"nodes":{"min":1,"max":2}}`); err != nil {
		t.Fatal(err)
	}
	ready := &protocol.Ready{Name: "dsvm-odd_0", Size: "Standard_Unheard_Of", CPUs: 2, Boot: "1", Features: protocol.Features()}
	if err := app.Report(t.Context(), "odd", "odd-0", protocol.ReportItem{Ready: ready}); err != nil {
		t.Fatal(err)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Hour))
	if err := app.Store.PutBudget(t.Context(), store.BudgetRow{Name: "bad", Document: `{"name":"bad"}`, ChangedAt: app.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
	applied, err := app.Budgets.ApplyBudgets(t.Context(), budgetsOf(t, "budgets:\n- {name: least, scope: {pool: odd}, amount: 5}\n"+
		"- {name: strict, scope: {pool: odd}, amount: 5, unknown: hold}\n"))
	if err != nil || len(applied) != 2 || !applied[0].AtLeast || applied[0].Level != wire.BudgetOK || applied[1].Level != budget.Hold {
		t.Fatalf("got %+v, %v", applied, err)
	}
	if bad, err := app.Budgets.Budget(t.Context(), "bad"); err != nil || !strings.Contains(bad.Problem, "apply it again") {
		t.Errorf("got %+v, %v", bad, err)
	}
	if err := app.Submit(t.Context(), `{"id":"a","pool":"odd","command":["x"]}`); err != nil {
		t.Fatal(err)
	}
	if e, err := app.Jobs.Explain(t.Context(), "a"); err != nil || !strings.Contains(e.Reason, "nobody knows the price of something that pool") {
		t.Errorf("got %+v, %v", e, err)
	}
}

// A process that was killed between deleting a budget and telling the pools holds no work for long: another
// one, which knew of no budgets, tells them with the next look.
func TestDeletedBudgetLetsGoLater(t *testing.T) {
	t.Parallel()
	var config service.Config
	app := apptest.New(t, func(c *service.Config) { config = *c })
	if err := app.Apply(t.Context(), `{"name":"odd","sizes":["Standard_Unheard_Of"],"nodes":{"min":1,"max":2}}`); err != nil {
		t.Fatal(err)
	}
	ready := &protocol.Ready{Name: "dsvm-odd_0", Size: "Standard_Unheard_Of", CPUs: 2, Boot: "1", Features: protocol.Features()}
	if err := app.Report(t.Context(), "odd", "odd-0", protocol.ReportItem{Ready: ready}); err != nil {
		t.Fatal(err)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Hour))
	if err := app.Budgets.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := service.New(config)
	if _, err := second.Budgets.ApplyBudgets(t.Context(), budgetsOf(t, "{name: strict, scope: {pool: odd}, amount: 5, unknown: hold}")); err != nil {
		t.Fatal(err)
	}
	if err := app.Store.DeleteBudget(t.Context(), "strict"); err != nil {
		t.Fatal(err)
	}
	if err := app.Submit(t.Context(), `{"id":"a","pool":"odd","command":["x"]}`); err != nil {
		t.Fatal(err)
	}
	isHeld := func(want bool) {
		t.Helper()
		e, err := app.Jobs.Explain(t.Context(), "a")
		if err != nil || strings.Contains(e.Reason, `budget "strict"`) != want {
			t.Errorf("held is %v; got %+v, %v", want, e, err)
		}
	}
	isHeld(true)
	if err := app.Budgets.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	isHeld(false)
	rests := func(want bool) {
		t.Helper()
		if got, err := app.Store.Rests(t.Context()); err != nil || got != want {
			t.Errorf("the looks rest: got %v, %v; want %v", got, err, want)
		}
	}
	rests(true)
	if seq, err := app.Store.NextLook(t.Context()); err != nil || seq != 3 {
		t.Errorf("got the number %d, %v; want 3", seq, err)
	}
	if err := app.Store.Rest(t.Context(), 2); err != nil { // of the look before
		t.Fatal(err)
	}
	rests(false)
}
