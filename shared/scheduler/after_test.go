package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

func after(ids ...string) func(*job.Spec) {
	return func(s *job.Spec) { s.After = ids }
}

func TestAfterSuccess(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	r := b.step(submission("1", nil), submission("2", nil), submission("3", after("1", "2", "1")))
	if len(r.Effects.LookUp) != 0 {
		t.Errorf("asked for %v, which are live", r.Effects.LookUp)
	}
	j := b.s.Jobs.Get("3")
	if j.State != job.Held || j.VMID != "" || !strings.Contains(b.explain("3").Reason, "it comes after job 1 and 1 more") {
		t.Errorf("got %s, %+v", j.State, b.explain("3"))
	}
	b.finish("1")
	if j.State != job.Held || b.s.Head.Queued != 1 {
		t.Errorf("after one of two: got %s, %d in line", j.State, b.s.Head.Queued)
	}
	b.finish("2")
	if j.State != job.Assigned {
		t.Errorf("after both: got %s: %s", j.State, j.Reason)
	}
}

// What a job comes after may have ended long ago; the answer says so, and an answer
// for another or a second one changes nothing.
func TestAfterWhatHasEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("3", after("old", "older")))
	b.step(
		pool.JobEnd{ID: "stranger", State: job.Failed},
		pool.JobEnd{ID: "old", State: job.Succeeded},
		pool.JobEnd{ID: "old", State: job.Succeeded},
	)
	if got := b.s.Jobs.Get("3").State; got != job.Held {
		t.Errorf("got %s", got)
	}
	if r := b.step(pool.Tick{}); !slices.Equal(r.Effects.LookUp, []string{"older"}) {
		t.Errorf("the tick asks for %v", r.Effects.LookUp)
	}
	b.step(pool.JobEnd{ID: "older", State: job.Succeeded})
	if got := b.s.Jobs.Get("3").State; got != job.Assigned {
		t.Errorf("got %s", got)
	}
}

// When one of them does not succeed, all that come after it are cancelled, however
// far.
func TestAfterFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(
		submission("1", nil), submission("2", after("1")), submission("3", after("2")), submission("4", after("1", "5")),
		submission("6", nil),
	)
	j2 := b.s.Jobs.Get("2")
	n := b.s.Jobs.Get("1")
	f := &protocol.Finished{N: n.N, State: "failed", ExitCode: 7, EndedAt: b.now}
	r := scheduler.Step(
		b.s,
		[]pool.Event{
			pool.Reported{
				At:     b.now,
				Report: protocol.Report{Pool: "p", VMID: n.VMID, Seen: n.N, Items: []protocol.ReportItem{{Finished: f}}},
			},
		},
		b.now,
		b.timing,
	)
	for r.More {
		r = scheduler.Step(b.s, r.Rest, b.now, b.timing)
	}
	if j2.State != job.Cancelled || j2.Reason != "it comes after job 1, which ended as failed" {
		t.Errorf("got %s: %s", j2.State, j2.Reason)
	}
	if b.s.Jobs.Len() != 1 || b.s.Jobs.Get("6") == nil {
		t.Errorf("left: %v", b.s.Jobs)
	}
	if got := b.s.Head.Queued; got != 0 {
		t.Errorf("in line: %d", got)
	}
}

// More wait for one job than a transaction has room for.
func TestManyAfterOne(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("first", func(s *job.Spec) { s.Resources.CPUs = 4 }))
	const n = 300
	var events []pool.Event
	for i := range n {
		events = append(events, submission(fmt.Sprintf("%03d", i), after("first")))
	}
	for len(events) > 0 {
		events = scheduler.Step(b.s, events, b.now, b.timing).Rest
	}
	j, steps := b.s.Jobs.Get("first"), 0
	f := &protocol.Finished{N: j.N, State: "failed", ExitCode: 1, EndedAt: b.now}
	r := scheduler.Step(
		b.s,
		[]pool.Event{
			pool.Reported{
				At:     b.now,
				Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: f}}},
			},
		},
		b.now,
		b.timing,
	)
	for ; r.More; steps++ {
		if len(r.Changes) > 99 {
			t.Fatalf("a transaction of %d rows", len(r.Changes))
		}
		r = scheduler.Step(b.s, r.Rest, b.now, b.timing)
	}
	if b.s.Jobs.Len() != 0 || steps < 3 {
		t.Errorf("%d jobs are left after %d steps", b.s.Jobs.Len(), steps)
	}
}

// A process that takes the pool up asks for everything that is waited for.
func TestAfterALoad(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("3", after("1")))
	b.s = scheduler.NewState(b.s.Head, nil, []*pool.Job{b.s.Jobs.Get("3").Job}, b.now)
	if r := b.step(pool.Loaded{}); !slices.Equal(r.Effects.LookUp, []string{"1"}) {
		t.Errorf("asked for %v", r.Effects.LookUp)
	}
	b.step(pool.Cancel{Order: "3", Reason: "enough"})
	if r := b.step(pool.Tick{}); len(r.Effects.LookUp) != 0 || b.s.Jobs.Len() != 0 {
		t.Errorf("after its cancel: asked for %v, left %v", r.Effects.LookUp, b.s.Jobs)
	}
}

// 500 jobs that come after two live jobs each ask for nothing, and hear of every end all
// the same: from the step that sees it, or, when the process is killed in between, from
// the one that takes the pool up.
func TestLiveJobsAreNotLookedUp(t *testing.T) {
	t.Parallel()
	const n = 500
	b := newBench(t, nil)
	b.node("n1")
	b.settle(submission("first", nil), submission("second", nil), submission(order(1), sweepOf(4, 1)))
	asked := 0
	step := func(events ...pool.Event) {
		t.Helper()
		for more := true; more; {
			r := scheduler.Step(b.s, events, b.now, b.timing)
			asked += len(r.Effects.LookUp)
			events, more = r.Rest, r.More
		}
	}
	var events []pool.Event
	for i := range n {
		events = append(events, submission(fmt.Sprintf("%03d", i), after("first", "second")))
	}
	member, unstarted := job.MemberID(b.s.Jobs.Get(order(1)).ID, 0), job.MemberID(b.s.Jobs.Get(order(1)).ID, 3)
	events = append(events, submission("m", after(member, b.s.Jobs.Get(order(1)).ID)))
	step(events...)
	step(pool.Tick{})
	step(pool.Loaded{})
	if asked != 0 {
		t.Errorf("%d look-ups of jobs that are live", asked)
	}
	if r := b.step(submission("u", after(unstarted))); !slices.Equal(r.Effects.LookUp, []string{unstarted}) {
		t.Errorf("asked for %v, want the member that has not begun", r.Effects.LookUp)
	}
	j := b.s.Jobs.Get("first")
	f := &protocol.Finished{N: j.N, State: "succeeded", StartedAt: b.now, EndedAt: b.now}
	r := scheduler.Step(b.s, []pool.Event{pool.Reported{
		At:     b.now,
		Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: f}}},
	}}, b.now, b.timing)
	if !r.More {
		t.Fatal("the step is not full; the test shows nothing")
	}
	b.s = b.load() // by another process: the first one was killed
	if r = scheduler.Step(b.s, []pool.Event{pool.Loaded{}}, b.now, b.timing); !slices.Equal(r.Effects.LookUp, []string{unstarted, "first"}) {
		t.Errorf("asked for %v, want the job that has ended", r.Effects.LookUp)
	}
	step(pool.JobEnd{ID: "first", State: job.Succeeded})
	for i := range n {
		if j := b.s.Jobs.Get(fmt.Sprintf("%03d", i)); !slices.Equal(j.Waits, []string{"second"}) {
			t.Fatalf("job %s waits for %v, want the second alone", j.ID, j.Waits)
		}
	}
}
