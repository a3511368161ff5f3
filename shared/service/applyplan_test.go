package service_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/wire"
)

// planApp has pool cpu with a busy node, a waiting job of two cpus, and a model that
// follows from image, setup, shares and labels. It goes down from 20:00 to 07:00.
func planApp(t *testing.T) *apptest.Instance {
	t.Helper()
	app := apptest.New(t)
	app.Fleet.UseModels(func(spec pool.Spec, _ pool.Set) string { return fmt.Sprint(spec.Image, spec.Setup, spec.Labels) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(app.Apply(t.Context(), planDocument))
	must(app.Submit(t.Context(), `{"id":"runs","pool":"cpu","team":"vision","command":["true"],"resources":{"cpus":2}}`))
	must(app.Report(t.Context(), "cpu", "cpu-0", protocol.ReportItem{Ready: &protocol.Ready{Name: "dsvm-cpu-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}}))
	must(app.Pools.Tick(t.Context(), "cpu", app.Clock.Now()))
	must(app.Submit(t.Context(), `{"id":"waits","pool":"cpu","team":"vision","command":["true"],"resources":{"cpus":2}}`))
	return app
}

const planDocument = `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":4},"limits":{"team":{"vision":{"jobs":1}}},
	"schedule":{"downAt":"20:00","upAt":"07:00","timeZone":"UTC","onRunning":"kill"}}`

// TestPlanApply: the plan names each field that changes, and all that follows at once;
// nothing is written.
func TestPlanApply(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		from, to string // replaced in the document
		changes  string
		effects  []string // kind, count, names: part of the sentence
	}{
		"nothing":  {"", "", "", nil},
		"the most": {`"max":4`, `"max":3`, "nodes.max 4 3", nil},
		"too few":  {`"max":4`, `"max":0`, "", nil},
		"another size": {`Standard_D2s_v5`, `Standard_D4s_v5`, "sizes [Standard_D2s_v5] [Standard_D4s_v5]", []string{
			"nodesLeave 1 [dsvm-cpu-d2s-v5_0]: 1 node leaves, since the pool's `sizes` or `capacity` do not have them any more; that is when the jobs there have ended"}},
		"a smaller size": {`Standard_D2s_v5`, `Standard_B1ms`, "sizes [Standard_D2s_v5] [Standard_B1ms]", []string{
			"nodesLeave 1", `jobsNeverRun 1 [waits]: 1 waiting job could never run then, and would wait until somebody cancels them; of job "waits": the job asks for 2 cpus`}},
		"another setup": {`"nodes"`, `"setup":"apt-get update","nodes"`, "setup <nil> apt-get update", []string{
			"nodesReplaced 1 [dsvm-cpu-d2s-v5_0]: 1 node is replaced, a part at a time"}},
		"more at least": {`"max":4`, `"max":4,"min":3`, "nodes.min 0 3", []string{"nodesAdded 2 []: 2 nodes asked for at once"}},
		"lower limits": {`"jobs":1`, `"jobs":0`, "limits.team.vision.jobs 1 0", []string{
			"jobsNeverRun 1 [waits]", "limitsLowered 1 [vision]: the limits are lower for vision"}},
		"a limit for all": {`"limits":{`, `"limits":{"default":{"gpus":8},`, "limits.default.gpus <nil> 8", []string{
			"limitsLowered 1 [default]"}},
		"down at once": {`20:00`, `11:00`, "schedule.downAt 20:00 11:00, schedule.upAt 07:00 15:00", []string{
			"poolGoesDown 0 []: the pool goes down at once by its schedule until 2026-03-02T15:00:00Z",
			"jobsEnd 1 [runs]: 1 running job is cancelled, since `schedule.onRunning` is kill"}},
		"idle time": {`"nodes"`, `"idleTimeout":"1h","nodes"`, "idleTimeout 5m 1h", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := planApp(t)
			document := strings.Replace(planDocument, test.from, test.to, 1)
			if name == "down at once" {
				document = strings.Replace(document, "07:00", "15:00", 1)
			}
			spec, err := pool.Parse([]byte(document), "application/json")
			if name == "too few" {
				if err == nil {
					t.Error("a pool without nodes is taken")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			before, version, err := app.Store.Load(t.Context(), "cpu")
			if err != nil {
				t.Fatal(err)
			}
			plan, err := app.Pools.PlanApply(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			var changes []string
			for _, c := range plan.Changes {
				changes = append(changes, fmt.Sprint(c.Field, " ", c.From, " ", c.To))
			}
			if got := strings.Join(changes, ", "); got != test.changes || (plan.Action == wire.PlanNothing) != (got == "") {
				t.Errorf("action %s, changes %s, want %s", plan.Action, got, test.changes)
			}
			if len(plan.Effects) != len(test.effects) {
				t.Errorf("got %d effects, want %d: %+v", len(plan.Effects), len(test.effects), plan.Effects)
			}
			for i, e := range plan.Effects[:min(len(plan.Effects), len(test.effects))] {
				if got := fmt.Sprintf("%s %d %v: %s", e.Kind, e.Count, e.Names, e.Detail); !strings.HasPrefix(got, test.effects[i]) {
					t.Errorf("got effect\n%s\nwant\n%s", got, test.effects[i])
				}
			}
			after, now, err := app.Store.Load(t.Context(), "cpu")
			if err != nil || now != version || !reflect.DeepEqual(before, after) {
				t.Errorf("a plan has changed the pool: version %+v, was %+v (%v)", now, version, err)
			}
			if test.changes == "" {
				return
			}
			// What the plan says is what applying it does.
			if err := app.Apply(t.Context(), document); err != nil {
				t.Fatal(err)
			}
			if again, err := app.Pools.PlanApply(t.Context(), spec); err != nil || again.Action != wire.PlanNothing {
				t.Errorf("after it was applied: got %+v, %v", again, err)
			}
		})
	}
}

// TestPlanApplyOfOthers: of a new pool, one that is being deleted, and where Azure does not
// answer.
func TestPlanApplyOfOthers(t *testing.T) {
	t.Parallel()
	app := planApp(t)
	spec := func(document string) pool.Spec {
		t.Helper()
		s, err := pool.Parse([]byte(document), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plan, err := app.Pools.PlanApply(t.Context(), spec(`{"name":"gpu","sizes":["Standard_NC4as_T4_v3"],"nodes":{"min":1,"max":2}}`))
	if err != nil || plan.Action != wire.PlanCreate || len(plan.Changes) < 5 || len(plan.Effects) != 1 || plan.Effects[0].Count != 1 {
		t.Errorf("a new pool: got %+v, %v", plan, err)
	}
	if _, _, err := app.Store.Load(t.Context(), "gpu"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a plan has made the pool: %v", err)
	}
	app.Fleet.Fail(errors.New("no route"))
	plan, err = app.Pools.PlanApply(t.Context(), spec(strings.Replace(planDocument, `"max":4`, `"max":3`, 1)))
	if err != nil || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "not known") {
		t.Errorf("without Azure: got %+v, %v", plan, err)
	}
	app.Fleet.Fail(nil)
	if err := app.Pools.Delete(t.Context(), "cpu"); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Pools.PlanApply(t.Context(), spec(planDocument)); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a pool that is being deleted: got %v", err)
	}
}

// A pool whose schedule goes down at once ends the jobs that the plan names.
func TestPlanApplyIsKept(t *testing.T) {
	t.Parallel()
	app := planApp(t)
	document := strings.NewReplacer("20:00", "11:00", "07:00", "15:00").Replace(planDocument)
	if err := app.Apply(t.Context(), document); err != nil {
		t.Fatal(err)
	}
	j, err := app.Jobs.Job(t.Context(), "runs")
	if err != nil || j.Cancel == "" {
		t.Errorf("the job that the plan says is cancelled is %+v, %v", j, err)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Minute))
}
