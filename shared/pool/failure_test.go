package pool_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// end ends the attempt of a job that is on a node, in some other way than well.
func (b *bench) end(order string, state job.AttemptState, code int) pool.Result {
	b.t.Helper()
	return b.endBy(order, state, code, "")
}

func (b *bench) endBy(order string, state job.AttemptState, code int, cause job.Cause) pool.Result {
	b.t.Helper()
	j := b.s.Jobs[order]
	if j == nil || j.VMID == "" {
		b.t.Fatalf("job %s is not on a node", order)
	}
	f := &protocol.Finished{N: j.N, State: string(state), ExitCode: code, Cause: cause, EndedAt: b.now, Reason: string(state)}
	return b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: f}}}})
}

// The loss of a node costs a job no retry, until its attempts have lost so many
// nodes in a row that it may be the job.
func TestLossesAreFreeAndBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("1", nil))
	for i := range 4 {
		if b.s.Jobs["1"] == nil {
			t.Fatalf("the job ended after %d losses", i)
		}
		vmid := fmt.Sprint("n", i)
		b.node(vmid)
		b.step(pool.Fenced{VMID: vmid, Taken: true})
		b.step(pool.Listed{Exists: true})
	}
	j := b.s.Jobs["1"]
	if j == nil || j.State != job.Held || !strings.Contains(j.Reason, "4 nodes in a row were lost under it, the last of them n3") {
		t.Fatalf("after four nodes lost in a row: %+v", j)
	}
	b.node("n5")
	if e := b.explain("1"); j.VMID != "" || e.Reason != j.Reason || b.s.Head.Wanted > 1 {
		t.Errorf("got %+v, %d nodes wanted", e, b.s.Head.Wanted)
	}
	b.step(pool.Release{Order: "1"}, pool.Release{Order: "1"})
	if j.VMID != "n5" {
		t.Errorf("released: got %s", j.State)
	}
}

// Nodes that never come up are deleted, and after some in a row no more are
// asked for, for longer each time; a change of the pool tries at once.
func TestNodesThatNeverComeUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.step(submission("1", nil))
	fail := func(i int) {
		t.Helper()
		b.step(pool.Answered{Kind: pool.OpGrow})
		inst := pool.Instance{VMID: fmt.Sprint("n", i), ID: fmt.Sprint(i), Name: fmt.Sprint("n", i), Provisioning: "Succeeded", Power: "running"}
		b.step(pool.Listed{Exists: true, Capacity: 1, Instances: []pool.Instance{inst}})
		b.now = b.now.Add(b.rules.BootDeadline + time.Minute)
		b.step(pool.Tick{})
		b.step(pool.Listed{Exists: true})
	}
	for i := range 3 {
		if b.s.Head.Sets[0].Op.Kind != pool.OpGrow {
			t.Fatalf("no node is asked for after %d failures: %+v", i, b.s.Head.Blocked)
		}
		fail(i)
	}
	e := b.explain("1")
	if b.s.Head.Sets[0].Op.Kind != "" || !strings.Contains(e.Reason, "3 nodes in a row did not come up") {
		t.Fatalf("got %+v, %s", b.s.Head.Sets[0].Op, e.Reason)
	}
	b.now = b.s.Head.Blocked.Until
	b.step(pool.Tick{})
	if b.s.Head.Sets[0].Op.Kind != pool.OpGrow {
		t.Fatalf("not tried again after the pause: %+v", b.s.Head)
	}
	fail(3)
	if got, want := b.s.Head.Blocked.Until.Sub(b.now), time.Hour; got != want {
		t.Errorf("the second pause: got %s, want %s", got, want)
	}
	changed := b.s.Head.Spec
	b.step(pool.Apply{Spec: changed})
	if b.s.Head.Sets[0].Op.Kind != pool.OpGrow {
		t.Error("a change of the pool does not try at once")
	}
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.node("good")
	if got := b.s.Head.BadBoots; got != 0 {
		t.Errorf("after a node that came up: got %d in a row", got)
	}
}
