package scheduler_test

import (
	"reflect"
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// entered are the requests to open a door that a step sends to a node.
func entered(r scheduler.Result, vmid string) (all []protocol.Enter) {
	for _, item := range r.Effects.Work[vmid] {
		if item.Enter != nil {
			all = append(all, *item.Enter)
		}
	}
	return all
}

// A node opens its door for its own running attempt, if its agent can; it gets one place at the
// relay for that, and no row but its own is written.
func TestPeopleAreAnnouncedToNodes(t *testing.T) {
	t.Parallel()
	for name, features := range map[string][]string{"an older agent": nil, "one that can": {protocol.FeatureExec}} {
		b := newBench(t, nil)
		b.ready("vm", "1", features...)
		b.list()
		b.step(submission("01", nil))
		j := b.s.Jobs.Get("01")
		b.reports("vm", protocol.ReportItem{Started: &protocol.Started{N: j.N, At: b.now}})
		for _, e := range []pool.Enter{{Order: "02", N: j.N}, {Order: "01", N: j.N + 1}} {
			if got := entered(b.step(e), "vm"); len(got) > 0 {
				t.Errorf("%s: %+v opens %+v", name, e, got)
			}
		}
		want := 0
		if features != nil {
			want = 1
		}
		for range 2 { // it comes twice
			got := entered(b.step(pool.Enter{Order: "01", N: j.N, For: 5 * time.Minute}), "vm")
			if len(got) != want || b.s.Nodes["vm"].Slot != want {
				t.Fatalf("%s: got %+v and the slot %d", name, got, b.s.Nodes["vm"].Slot)
			}
			if want == 1 && (got[0].ID != protocol.EntryOfAttempt(j.ID, j.N) || got[0].Target != j.N || got[0].For != 300 || got[0].Door != nil) {
				t.Errorf("%s: got %+v", name, got[0])
			}
		}
	}
}

// A node opens its door for operators, with or without work, if its agent can: for itself alone.
func TestOperatorsAreAnnouncedToNodes(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.ready("new", "1", protocol.FeatureExec, protocol.FeatureShell)
	b.ready("old", "2", protocol.FeatureExec)
	b.list()
	for _, vmid := range []string{"old", "nobody", ""} {
		r := b.step(pool.Enter{VMID: vmid, For: 5 * time.Minute})
		if got := append(entered(r, vmid), entered(r, "new")...); len(got) > 0 {
			t.Errorf("%q opens %+v", vmid, got)
		}
	}
	for range 2 { // it comes twice
		r := b.step(pool.Enter{VMID: "new", For: 5 * time.Minute})
		want := protocol.Enter{ID: "node:new", For: 300}
		if got := entered(r, "new"); len(got) != 1 || !reflect.DeepEqual(got[0], want) || b.s.Nodes["new"].Slot != 1 {
			t.Errorf("got %+v and the slot %d, want %+v", got, b.s.Nodes["new"].Slot, want)
		}
		if got := entered(r, "old"); len(got) > 0 {
			t.Errorf("another node opens %+v", got)
		}
	}
}
