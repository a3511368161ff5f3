package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// models lists the pool's nodes of one model, while the deployment wants another. outdated
// are the nodes that were made before the set was written last.
func (b *bench) models(has, wanted string, outdated ...string) scheduler.Result {
	b.t.Helper()
	l := pool.Listed{Exists: true, Model: has, Wanted: wanted}
	for vmid, n := range b.s.Nodes {
		if n.State != pool.NodeGone {
			l.Capacity++
			l.Instances = append(l.Instances, pool.Instance{VMID: vmid, ID: "id-" + vmid, Name: vmid,
				Provisioning: "Succeeded", Power: "running", Outdated: slices.Contains(outdated, vmid)})
		}
	}
	return b.step(l)
}

// writesModel reports whether a step has the model of the set written.
func writesModel(r scheduler.Result) bool {
	return calls(r, func(c *pool.SetCalls) bool { return c.Model })
}

// leaving lists the nodes that drain or are deleted.
func (b *bench) leaving() (list []string) {
	for vmid, n := range b.s.Nodes {
		if n.State == pool.NodeDraining || n.State == pool.NodeDeleting {
			list = append(list, vmid)
		}
	}
	slices.Sort(list)
	return list
}

func TestModelIsWrittenWithPauses(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.IdleTimeout = job.Duration(24 * time.Hour) })
	b.node("a")
	if r := b.models("old", "old"); writesModel(r) {
		t.Error("written although it is as wanted")
	}
	if r := b.models("old", ""); writesModel(r) {
		t.Error("written although nobody knows what is wanted")
	}
	if r := b.models("old", "new"); !writesModel(r) {
		t.Error("not written")
	}
	if r := b.step(pool.Tick{At: b.now}); writesModel(r) {
		t.Error("written twice while the first call is under way")
	}
	b.step(pool.Answered{Kind: pool.OpModel, Err: fault.New(fault.Invalid, "", "the image is gone")})
	if e := scheduler.ExplainPool(b.s, b.now, b.timing); !strings.Contains(e.Reason, "the image is gone") {
		t.Errorf("explain does not say why: %s", e.Reason)
	}
	tries := 0
	for range 60 {
		b.now = b.now.Add(time.Minute)
		if r := b.models("old", "new"); writesModel(r) {
			tries++
			b.step(pool.Answered{Kind: pool.OpModel, Err: fault.New(fault.Invalid, "", "the image is gone")})
		}
	}
	if tries < 3 || tries > 7 {
		t.Errorf("tried %d times within an hour", tries)
	}
}

func TestOutdatedNodesLeave(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(submission("1", func(s *job.Spec) { s.Resources.CPUs = 3 }))
	b.node("b")
	r := b.models("new", "new", "a", "b")
	if got := b.leaving(); !slices.Equal(got, []string{"a", "b"}) || len(r.Effects.Remove) != 1 || r.Effects.Remove[0].VMID != "b" {
		t.Errorf("leaving %v, deleted %v; want the busy one draining and the idle one deleted", got, r.Effects.Remove)
	}
	if n := b.s.Nodes["a"]; n.State != pool.NodeDraining || n.Reason != "outdated: leaves when its jobs end" || n.JobCount() != 1 {
		t.Errorf("got %s: %s, with %d jobs", n.State, n.Reason, n.JobCount())
	}
	// What comes meanwhile goes to a new node, although the old one has room.
	r = b.step(submission("2", nil))
	if len(assigned(r)) > 0 || grown(r) == 0 {
		t.Errorf("assigned %v, grown to %d", assigned(r), grown(r))
	}
}

// Of a full pool a part leaves at a time, and no more before others have come.
func TestAFullPoolIsReplacedInParts(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 8 })
	var all []string
	for i := range 8 {
		all = append(all, fmt.Sprint("n", i))
		b.node(all[i])
		b.step(wide(fmt.Sprint(i)))
	}
	for i := range 4 {
		b.step(wide(fmt.Sprint("w", i)))
	}
	b.models("new", "new", all...)
	if got := b.leaving(); len(got) != 2 {
		t.Errorf("leaving at once: %v, want a quarter of 8", got)
	}
	b.models("new", "new", all...)
	if got := b.leaving(); len(got) != 2 {
		t.Errorf("one step later: %v", got)
	}
}

// Nodes whose place nobody could take stay.
func TestOutdatedNodesStayWhileOthersDoNotComeUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(wide("1"))
	b.s.Head.Sets[0].Breaker = pool.Breaker{Bad: 3, OpenedAt: b.now, ProbeAt: b.now.Add(time.Hour)}
	if b.models("new", "new", "a"); len(b.leaving()) > 0 {
		t.Errorf("leaving %v", b.leaving())
	}
}

// `nodes.min` is kept while nodes are replaced, as far as `nodes.max` allows.
func TestMinIsKeptWhileNodesAreReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Min = 1 })
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.node("a")
	r := b.models("new", "new", "a")
	if len(b.leaving()) > 0 || grown(r) != 2 {
		t.Errorf("leaving %v, grown to %d; want another beside it first", b.leaving(), grown(r))
	}
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.node("b")
	if b.models("new", "new", "a"); !slices.Equal(b.leaving(), []string{"a"}) {
		t.Errorf("leaving %v, want the old one", b.leaving())
	}
}

// A set that cannot be changed gives no more nodes, and is made again when it is empty.
func TestASetIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(wide("1"))
	b.models("old", "new")
	b.step(pool.Answered{Kind: pool.OpModel, Err: fault.New(fault.Immutable, "", "no")})
	b.s.Nodes["a"].OutdatedAt = b.now.Add(-2 * time.Hour)
	r := b.step(wide("2"))
	if grown(r) > 0 {
		t.Error("it is asked for nodes")
	}
	b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: "a", Seen: 9, Items: []protocol.ReportItem{
		{Finished: &protocol.Finished{N: 1, State: "succeeded", StartedAt: b.now, EndedAt: b.now}}}}})
	b.now = b.now.Add(time.Minute)
	r = b.step(pool.Listed{Exists: true, Model: "old", Wanted: "new"})
	if !calls(r, func(c *pool.SetCalls) bool { return c.Drop }) {
		t.Fatalf("it is not deleted when it is empty: %+v", b.s.Head.Sets)
	}
	if r = b.step(pool.Answered{Kind: pool.OpDrop}); grown(r) != 1 {
		t.Errorf("it is not made again: %+v", b.s.Head.Sets)
	}
}

func TestOverdueJobsGoBackInLineOnlyIfTheDeploymentSaysSo(t *testing.T) {
	t.Parallel()
	for _, within := range []time.Duration{0, time.Hour} {
		b := newBench(t, nil)
		b.timing.RollWithin = within
		b.node("a")
		b.step(wide("1"))
		b.models("new", "new", "a")
		b.now = b.now.Add(2 * time.Hour)
		r := b.models("new", "new", "a")
		ended := 0
		for _, i := range r.Effects.Work["a"] {
			if i.Cancel != nil {
				ended++
			}
		}
		if want := int(within / time.Hour); ended != want {
			t.Errorf("within %s: %d attempts are ended, want %d", within, ended, want)
		}
	}
}

// A time that is over wakes nobody: the node's jobs are asked to end, and may need a while.
func TestAnOverdueNodeDoesNotKeepThePoolAwake(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.timing.RollWithin = time.Hour
	b.node("a")
	b.step(wide("1"))
	b.models("new", "new", "a")
	for range 3 {
		b.now = b.now.Add(time.Hour)
		r := b.models("new", "new", "a")
		if at := r.Effects.WakeAt; !at.IsZero() && !at.After(b.now) {
			t.Errorf("the next step is at once (%s), and so is the one after it", at)
		}
	}
}

// Jobs are not ended for nodes that nobody could replace.
func TestOverdueJobsRunOnWhileOthersDoNotComeUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.timing.RollWithin = time.Hour
	b.node("a")
	b.step(wide("1"))
	b.s.Head.Sets[0].Breaker = pool.Breaker{Bad: 3, OpenedAt: b.now, ProbeAt: b.now.Add(24 * time.Hour)}
	b.models("new", "new", "a")
	b.now = b.now.Add(2 * time.Hour)
	if r := b.models("new", "new", "a"); len(r.Effects.Work["a"]) > 0 || len(b.leaving()) > 0 {
		t.Errorf("sent %+v, leaving %v", r.Effects.Work["a"], b.leaving())
	}
}

// The limit of writes is one for models and nodes: what refuses one keeps the other back.
func TestThrottledModelsAndRequestsShareTheirPause(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("a")
	b.step(wide("1"))
	if r := b.models("old", "new"); !writesModel(r) {
		t.Fatal("the model is not written")
	}
	throttled := fault.New(fault.Throttled, "", "slow down")
	throttled.RetryAfter = 5 * time.Minute
	b.step(pool.Answered{Kind: pool.OpModel, Err: throttled})
	b.now = b.now.Add(2 * time.Minute)
	if r := b.step(wide("2")); grown(r) > 0 {
		t.Error("nodes are asked for while the set is throttled")
	}
	if r := b.models("old", "new"); writesModel(r) {
		t.Error("the model is written while the set is throttled")
	}
	b.now = b.now.Add(4 * time.Minute)
	if r := b.step(pool.Tick{At: b.now}); grown(r) == 0 {
		t.Error("no nodes are asked for after the pause")
	}
}

// What an operator drains leaves, also if it left before for its model and need not any more.
func TestADrainByRequestOutlastsTheModel(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(wide("1"))
	b.node("b")
	b.models("new", "new", "a")
	if n := b.s.Nodes["a"]; n.State != pool.NodeDraining {
		t.Fatalf("it is %s", n.State)
	}
	b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDrain})
	b.models("new", "new")
	if n := b.s.Nodes["a"]; n.State != pool.NodeDraining {
		t.Errorf("it is %s, want it to leave", n.State)
	}
}

// A set to be made again goes only when a list of now shows that it is empty.
func TestASetIsMadeAgainOnlyAfterAList(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	b.models("old", "new")
	b.s.Head.Sets[0].Used, b.s.Head.Sets[0].Capacity, b.s.Head.Sets[0].Op, b.s.Head.Sets[0].Requests = true, 0, pool.Op{}, nil
	b.s.Head.Sets[0].Model.Fixed = true
	b.now = b.now.Add(time.Minute)
	drops := func(r scheduler.Result) bool { return calls(r, func(c *pool.SetCalls) bool { return c.Drop }) }
	if r := b.step(submission("2", nil)); drops(r) || !r.Effects.List {
		t.Errorf("dropped: %v, listed: %v; want a list first", drops(r), r.Effects.List)
	}
	if r := b.models("old", "new"); !drops(r) {
		t.Error("not dropped although a list shows that it is empty")
	}
}
