package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// message is a message with a document.
func message(id, body string) invoke.Message {
	return invoke.Message{ID: id, Body: []byte(body), ContentType: "application/json", EnqueuedAt: apptest.Noon}
}

// applyPools applies pools of one size by their queue.
func applyPools(t *testing.T, f *Functions, names ...string) {
	t.Helper()
	for _, name := range names {
		doc := fmt.Sprintf(`{"name":%q,"sizes":["Standard_D2s_v5"],"nodes":{"max":4}}`, name)
		if err := f.ApplyPool(t.Context(), []invoke.Message{message("p-"+name, doc)}); err != nil {
			t.Fatal(err)
		}
	}
}

// rejections are the reasons of the rejected messages, by message.
func rejections(app *apptest.Instance) map[string]string {
	reasons := map[string]string{}
	for _, m := range app.Bus.Take("rejected") {
		reasons[m.ID] = fmt.Sprint(m.Properties["field"], ": ", m.Properties["reason"])
	}
	return reasons
}

// stateOf is a job's state; "" = it is not known.
func stateOf(t *testing.T, app *apptest.Instance, id string) job.State {
	t.Helper()
	j, err := app.Jobs.Job(t.Context(), id)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return ""
	case err != nil:
		t.Fatal(err)
	}
	return j.State
}

// One batch has good jobs of two pools and every kind of bad one. The good ones are
// taken, the others are rejected, each with its own reason.
func TestSubmitJob(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	f := newFunctions(app)
	applyPools(t, f, "cpu", "gpu")
	second := map[string]any{service.PropUnknown: "true"} // what is not known is looked up for the second time
	batch := []invoke.Message{
		message("m-1", `{"id":"one","pool":"cpu","command":["true"]}`),
		message("two", `{"pool":"gpu","command":["true"]}`),
		message("m-3", `{"id":"three","pool":"cpu","command":["true"],"after":["one"]}`),
		message("m-4", `{"id":"one","pool":"cpu","command":["false"]}`),
		message("m-5", `{"id":"five","pool":"cpu","comand":["true"]}`),
		message("not an id", `{"pool":"cpu","command":["true"]}`),
		{ID: "m-7", Body: []byte(`{"id":"seven","pool":"none","command":["true"]}`), Properties: second},
		{ID: "m-8", Body: []byte(`{"id":"eight","pool":"cpu","command":["true"],"after":["nobody"]}`), Properties: second},
	}
	for range 2 { // the same messages again change nothing
		if err := f.SubmitJob(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		reasons := rejections(app)
		for id, want := range map[string]string{
			"m-4": "belongs to another job", "m-5": "did you mean", "not an id": "the document names no id",
			"m-7": `there is no pool "none"`, "m-8": `names job "nobody", which is not known`,
		} {
			if !strings.Contains(reasons[id], want) {
				t.Errorf("%s: rejected with %q, want %q", id, reasons[id], want)
			}
			delete(reasons, id)
		}
		if len(reasons) > 0 {
			t.Errorf("also rejected: %v", reasons)
		}
		for id, want := range map[string]job.State{"one": job.Queued, "two": job.Queued, "three": job.Held, "five": job.Rejected, "seven": job.Rejected, "eight": job.Rejected} {
			if got := stateOf(t, app, id); got != want {
				t.Errorf("%s is %q, want %q", id, got, want)
			}
		}
		listed, err := app.Jobs.List(t.Context(), wire.JobQuery{
			JobFilter: wire.JobFilter{States: []job.State{job.Rejected}, Pool: "cpu"}, Limit: 10,
		})
		if err != nil || len(listed.Jobs) != 2 { // five and eight; seven is of another pool
			t.Errorf("%d rejected jobs of pool cpu (%v), want 2", len(listed.Jobs), err)
		}
		if again := app.Bus.Take("jobs"); len(again) > 0 {
			t.Errorf("put back: %+v", again)
		}
	}
}

// A job whose pool, or whose predecessor, is not there yet comes once more.
func TestSubmitJobLooksAgain(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	f := newFunctions(app)
	applyPools(t, f, "cpu")
	err := f.SubmitJob(t.Context(), []invoke.Message{
		message("m-1", `{"id":"early","pool":"late","command":["true"]}`),
		message("m-2", `{"id":"after","pool":"cpu","command":["true"],"after":["early"]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	back := app.Bus.Take("jobs")
	if len(back) != 2 || len(rejections(app)) > 0 {
		t.Fatalf("%d came back, want both and no rejection", len(back))
	}
	for _, m := range back {
		if m.At.Sub(apptest.Noon) != time.Minute || m.Properties[service.PropUnknown] != "true" {
			t.Errorf("%s comes at %s with %v", m.ID, m.At, m.Properties)
		}
	}
	applyPools(t, f, "late")
	i := slices.IndexFunc(back, func(m bus.Message) bool { return m.ID == "m-1" })
	again := invoke.Message{ID: back[i].ID, Body: back[i].Body, ContentType: back[i].ContentType, Properties: back[i].Properties}
	if err := f.SubmitJob(t.Context(), []invoke.Message{again}); err != nil {
		t.Fatal(err)
	}
	if got := stateOf(t, app, "early"); got != job.Queued {
		t.Errorf("it is %q when its pool is there", got)
	}
}

// A pool whose scale set or bus fails does not keep the other pools of its batch.
func TestFailingPoolBesideAGoodOne(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	f := newFunctions(app)
	parts := map[string][]invoke.Message{"bad": {message("b", "{}")}, "good": {message("g", "{}")}, "panics": {message("p", "{}")}}
	done := make(chan string, len(parts))
	err := byPool(t.Context(), f, "jobs", parts, func(m invoke.Message) invoke.Message { return m },
		func(_ context.Context, pool string, _ []invoke.Message) error {
			switch pool {
			case "bad":
				return errors.New("away")
			case "panics":
				panic("a mistake")
			}
			done <- pool
			return nil
		})
	if err != nil || len(done) != 1 || <-done != "good" {
		t.Fatalf("got %v", err)
	}
	var back []string
	for _, m := range app.Bus.Take("jobs") {
		back = append(back, m.ID)
	}
	slices.Sort(back)
	if !slices.Equal(back, []string{"b", "p"}) {
		t.Errorf("put back: %v", back)
	}
	// When nothing can be put back, the batch fails, and the host delivers it again.
	app.Bus.Fail(errors.New("the bus is away"))
	err = byPool(t.Context(), f, "jobs", parts, func(m invoke.Message) invoke.Message { return m },
		func(context.Context, string, []invoke.Message) error { return errors.New("away") })
	if err == nil {
		t.Error("messages that were neither taken nor put back are lost")
	}
}

func TestApplyPool(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	f := newFunctions(app)
	good := `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":4}}`
	larger := `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":9}}`
	err := f.ApplyPool(t.Context(), []invoke.Message{
		message(
			"good",
			good,
		), message("again", good), message("typo", `{"name":"gpu","size":["x"]}`), message("larger", larger), message("text", `no document`),
	})
	if err != nil {
		t.Fatal(err)
	}
	reasons := rejections(app)
	if len(reasons) != 2 || !strings.HasPrefix(reasons["typo"], "size: ") || reasons["text"] == "" {
		t.Errorf("rejected: %v", reasons)
	}
	pools, err := app.Pools.Pools(t.Context(), "")
	if err != nil || len(pools) != 1 || pools[0].Head.Spec.Nodes.Max != 9 {
		t.Errorf("the pools are %+v, %v", pools, err)
	}
	// A pool that is being deleted takes no other spec.
	if err := f.SubmitJob(t.Context(), []invoke.Message{message("j", `{"id":"j","pool":"cpu","command":["true"]}`)}); err != nil {
		t.Fatal(err)
	}
	startNode(t, f, app, "cpu", "vm-1")
	if err := app.Pools.Delete(t.Context(), "cpu"); err != nil {
		t.Fatal(err)
	}
	if err := f.ApplyPool(t.Context(), []invoke.Message{message("late", good)}); err != nil {
		t.Fatal(err)
	}
	if reasons := rejections(app); !strings.Contains(reasons["late"], "is being deleted") {
		t.Errorf("rejected: %v", reasons)
	}
}

// report is a message of an agent.
func report(t *testing.T, pool, vm string, items ...protocol.ReportItem) invoke.Message {
	t.Helper()
	body, err := json.Marshal(protocol.Report{V: protocol.Version, Pool: pool, VMID: vm, Items: items})
	if err != nil {
		t.Fatal(err)
	}
	return invoke.Message{ID: vm, Body: body, EnqueuedAt: apptest.Noon}
}

// startNode has a node of a pool report that it is ready.
func startNode(t *testing.T, f *Functions, app *apptest.Instance, pool, vm string) {
	t.Helper()
	ready := protocol.ReportItem{Ready: &protocol.Ready{Name: vm, Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}}
	if err := f.NodeReport(t.Context(), []invoke.Message{report(t, pool, vm, ready)}); err != nil {
		t.Fatal(err)
	}
	if reasons := rejections(app); len(reasons) > 0 {
		t.Fatalf("rejected: %v", reasons)
	}
}

// A node's reports place, start and end a job. One that comes twice or late changes
// nothing, and one that cannot be read, or is of a pool that is gone, holds up none.
func TestNodeReport(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	f := newFunctions(app)
	applyPools(t, f, "cpu")
	if err := f.SubmitJob(t.Context(), []invoke.Message{message("j", `{"id":"j","pool":"cpu","command":["true"]}`)}); err != nil {
		t.Fatal(err)
	}
	startNode(t, f, app, "cpu", "vm-1")
	j, err := app.Jobs.Job(t.Context(), "j")
	if err != nil || j.State != job.Assigned {
		t.Fatalf("the job is %+v, %v", j, err)
	}
	started := report(t, "cpu", "vm-1", protocol.ReportItem{Started: &protocol.Started{N: j.N, At: apptest.Noon}})
	finished := report(t, "cpu", "vm-1", protocol.ReportItem{Finished: &protocol.Finished{
		N: j.N, State: string(job.AttemptSucceeded), StartedAt: apptest.Noon, EndedAt: apptest.Noon.Add(time.Minute),
	}})
	for _, step := range []struct {
		name  string
		batch []invoke.Message
		want  job.State
	}{
		{"started", []invoke.Message{started}, job.Running},
		{"started again", []invoke.Message{started, started}, job.Running},
		{"not to be read, beside the end", []invoke.Message{message("bad", `{"v":99}`), finished}, job.Succeeded},
		{"the end again", []invoke.Message{finished}, job.Succeeded},
		{"a late start", []invoke.Message{started}, job.Succeeded},
		{"of a pool that is not there", []invoke.Message{report(t, "gone", "vm-9", protocol.ReportItem{Started: &protocol.Started{N: 1, At: apptest.Noon}})}, job.Succeeded},
	} {
		if err := f.NodeReport(t.Context(), step.batch); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := stateOf(t, app, "j"); got != step.want {
			t.Errorf("%s: the job is %s, want %s", step.name, got, step.want)
		}
	}
	if reasons := rejections(app); len(reasons) != 1 || reasons["bad"] == "" {
		t.Errorf("rejected: %v", reasons)
	}
	if j, err := app.Jobs.Job(t.Context(), "j"); err != nil || len(j.Attempts) != 1 {
		t.Errorf("the job has the attempts %+v, %v; want one", j.Attempts, err)
	}
	if back := app.Bus.Take("node-events"); len(back) > 0 {
		t.Errorf("put back: %+v", back)
	}
}

// Ticks that waited together count once, by the newest; a wake-up to record copies the
// ledger; what is no wake-up is rejected.
func TestDrivePool(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	f := newFunctions(app)
	applyPools(t, f, "cpu")
	runJob(t, f, app, "j")
	wake := func(pool, kind string) invoke.Message {
		return message(kind, fmt.Sprintf(`{"v":1,"pool":%q,"kind":%q}`, pool, kind))
	}
	logs := func() int {
		rows, err := app.Store.Logs(t.Context(), "cpu", 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	if logs() == 0 {
		t.Fatal("the pool has noted nothing for the ledger")
	}
	err := f.DrivePool(t.Context(), []invoke.Message{
		wake("cpu", drive.WakeTick), wake("cpu", drive.WakeTick), wake("cpu", drive.WakeRecord), wake("gone", drive.WakeTick),
		message("job", `{"id":"x","pool":"cpu","command":["true"]}`), message("text", `tick`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := logs(); n != 0 {
		t.Errorf("%d rows wait for the ledger still", n)
	}
	var recorded []string
	err = app.Store.Usage(t.Context(), apptest.Noon.Add(-24*time.Hour), apptest.Noon.Add(24*time.Hour), func(row usage.Row) error {
		recorded = append(recorded, row.Kind+" "+row.Job)
		return nil
	})
	if err != nil || !slices.Contains(recorded, "attempt j") {
		t.Errorf("the ledger has %q, %v", recorded, err)
	}
	reasons := rejections(app)
	if len(reasons) != 2 || !strings.Contains(reasons["job"], "send jobs to `jobs`") || reasons["text"] == "" {
		t.Errorf("rejected: %v", reasons)
	}
}

// runJob has a job of pool cpu run and succeed.
func runJob(t *testing.T, f *Functions, app *apptest.Instance, id string) {
	t.Helper()
	if err := f.SubmitJob(t.Context(), []invoke.Message{message(id, fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["true"]}`, id))}); err != nil {
		t.Fatal(err)
	}
	startNode(t, f, app, "cpu", "vm-1")
	j, err := app.Jobs.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	done := protocol.ReportItem{Finished: &protocol.Finished{
		N: j.N, State: string(job.AttemptSucceeded), StartedAt: apptest.Noon, EndedAt: apptest.Noon.Add(time.Minute),
	}}
	if err := f.NodeReport(t.Context(), []invoke.Message{report(t, "cpu", "vm-1", done)}); err != nil {
		t.Fatal(err)
	}
}

// Reconcile wakes the pools that have something to look at and no other, and brings
// back what died, until it has died often enough.
func TestReconcile(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, func(c *service.Config) { c.ReviveAfter = []time.Duration{time.Minute} })
	f := newFunctions(app)
	applyPools(t, f, "busy", "idle")
	if err := f.SubmitJob(t.Context(), []invoke.Message{message("j", `{"id":"j","pool":"busy","command":["true"]}`)}); err != nil {
		t.Fatal(err)
	}
	app.Bus.Take("pool-events")
	doc := []byte(`{"id":"dead","pool":"idle","command":["true"]}`)
	dead := bus.Dead{Message: bus.Message{ID: "m", Body: doc}, Reason: "MaxDeliveryCountExceeded"}
	app.Bus.Kill("jobs", dead)
	if err := f.Reconcile(t.Context(), invoke.Tick{}); err != nil {
		t.Fatal(err)
	}
	var woken []string
	for _, m := range app.Bus.Take("pool-events") {
		w, err := service.ParseWake(m.Body)
		if err != nil || w.Kind != drive.WakeTick {
			t.Errorf("got %s, %v", m.Body, err)
		}
		woken = append(woken, w.Pool)
	}
	if !slices.Equal(woken, []string{"busy"}) {
		t.Errorf("woken: %v", woken)
	}
	back := app.Bus.Take("jobs")
	if len(back) != 1 || back[0].ID != "m" || back[0].At.Sub(apptest.Noon) != time.Minute ||
		service.Number(back[0].Properties[service.PropRevived]) != 1 {
		t.Fatalf("came back: %+v", back)
	}
	dead.Properties = back[0].Properties
	app.Bus.Kill("jobs", dead)
	if err := f.Reconcile(t.Context(), invoke.Tick{}); err != nil {
		t.Fatal(err)
	}
	if reasons := rejections(app); !strings.Contains(reasons["m"], "could not be processed (MaxDeliveryCountExceeded)") ||
		stateOf(t, app, "dead") != job.Rejected {
		t.Errorf("rejected: %v; the job is %q", reasons, stateOf(t, app, "dead"))
	}
	if len(app.Bus.Dead("jobs")) > 0 {
		t.Error("it is dead still")
	}
	// What cannot be sent again stays dead.
	dead.Properties = nil
	app.Bus.Kill("jobs", dead)
	app.Bus.Fail(errors.New("away"))
	if err := f.Reconcile(t.Context(), invoke.Tick{}); err == nil || len(app.Bus.Dead("jobs")) != 1 {
		t.Errorf("%d are dead, %v; want the one, and an error", len(app.Bus.Dead("jobs")), err)
	}
}

// A late report of a node that has gone is answered: its agent, if it still runs, is
// stopped. The report brings the node back to no list.
func TestLateReportOfAGoneNode(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	f := newFunctions(app)
	if _, err := app.Nodes.CommandNode(t.Context(), "cpu", "cpu-2", pool.VerbDelete); err != nil {
		t.Fatal(err)
	}
	state := func() pool.NodeState {
		pools, err := app.Pools.Pools(t.Context(), "cpu")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range pools[0].Nodes {
			if n.VMID == "cpu-2" {
				return n.State
			}
		}
		return ""
	}
	for i := 1; i <= 3; i++ {
		app.Clock.Set(apptest.Noon.Add(time.Duration(i) * time.Minute))
		if err := app.Pools.Tick(t.Context(), "cpu", app.Clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if got := state(); got != pool.NodeGone {
		t.Fatalf("the node is %s, want gone", got)
	}
	session := protocol.SessionID("cpu", "cpu-2")
	app.Bus.TakeWork(session)
	ready := protocol.ReportItem{Ready: &protocol.Ready{Name: "late", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}}
	if err := f.NodeReport(t.Context(), []invoke.Message{report(t, "cpu", "cpu-2", ready)}); err != nil {
		t.Fatal(err)
	}
	if items := app.Bus.TakeWork(session); len(items) != 1 || items[0].Stop == "" {
		t.Errorf("the agent is sent %+v, want a stop", items)
	}
	if got := state(); got != pool.NodeGone {
		t.Errorf("the node is %s after its report", got)
	}
}
