package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// is looks at a live job.
func (b *bench) is(order string, state job.State, reason string) {
	b.t.Helper()
	j := b.s.Jobs.Get(order)
	if j == nil || j.State != state || !strings.Contains(j.Reason, reason) {
		b.t.Errorf("job %s: got %+v, want %s: %s", order, j, state, reason)
	}
}

// A held job waits beside the line until somebody releases it, whatever else it waits for,
// and again in a process that loads it.
func TestHold(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	const held = "somebody holds it; `dsvm job release "
	soon := b.now.Add(time.Minute)
	b.step(
		submission("1", nil), submission("2", after("1")), submission("3", nil),
		submission("4", func(s *job.Spec) { s.NotBefore = soon }),
		pool.Hold{Order: "1"}, pool.Hold{Order: "2"}, pool.Hold{Order: "4"}, pool.Hold{Order: "nobody"},
	)
	b.node("n1")
	b.is("1", job.Held, held+"1`")
	b.is("3", job.Assigned, "")
	if e := b.explain("2"); !strings.Contains(e.Reason, held+"2` lets it go on; and it comes after job 1") || !strings.HasPrefix(e.Unblocks, "somebody who releases") {
		t.Errorf("the second is explained by %+v", e)
	}
	b.s = b.load()
	b.step(pool.Release{Order: "4"})
	b.is("4", job.Held, "not before")
	b.step(pool.Hold{Order: "3"}, pool.Release{Order: "1"})
	b.is("3", job.Assigned, "")
	b.is("1", job.Assigned, "")
	b.finish("1")
	b.is("2", job.Held, held+"2`")
	if e := b.explain("2"); !strings.Contains(e.Reason, held) || strings.Contains(e.Reason, "comes after") {
		t.Errorf("the second is explained by %+v", e)
	}
	b.step(pool.Release{Order: "2"})
	b.is("2", job.Assigned, "")
	b.now = soon
	b.step(pool.Tick{})
	b.is("4", job.Assigned, "")
	b.step(submission("5", after("far")), pool.Hold{Order: "5"}, pool.Release{Order: "5"})
	b.is("5", job.Held, "it comes after job far")
	b.step(pool.Hold{Order: "5"}, pool.Cancel{Order: "5", Reason: "enough"})
	if b.s.Jobs.Get("5") != nil {
		t.Error("a held job is not cancelled")
	}
}

// Of a held sweep no more members begin; those that run go on.
func TestHoldASweep(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	sweep := func(s *job.Spec) { s.Sweep = &job.Sweep{Count: 4, Parallel: 1} }
	b.step(submission(order(1), sweep), pool.Hold{Order: order(1)})
	b.node("n1")
	b.is(order(1), job.Held, "somebody holds it")
	w := b.s.Jobs.Get(order(1))
	b.step(pool.Release{Order: order(1)})
	b.is(order(1), job.Running, "")
	b.step(pool.Hold{Order: order(1)})
	b.is(job.MemberOrder(order(1), 0), job.Assigned, "")
	b.finish(job.MemberOrder(order(1), 0))
	b.is(order(1), job.Held, "somebody holds it")
	if w.Progress.Next != 1 {
		t.Errorf("%d members have begun", w.Progress.Next)
	}
	b.step(pool.Release{Order: order(1)})
	b.is(order(1), job.Running, "")
	b.is(job.MemberOrder(order(1), 1), job.Assigned, "")
}

// A job of a higher priority is placed before older ones; of a sweep, the members too.
func TestSetPriority(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	whole := func(s *job.Spec) { s.Resources.CPUs = 4 }
	b.step(submission(order(1), whole), submission(order(2), whole), submission(order(3), func(s *job.Spec) {
		whole(s)
		s.Sweep = &job.Sweep{Count: 2}
	}), submission(order(4), whole))
	set := func(order string, p job.Priority) pool.Event { return pool.SetPriority{Order: order, Priority: p} }
	b.step(set(order(4), job.High), set(order(1), job.Low), set("nobody", job.High), set(order(3), job.High))
	if r := b.step(set(order(4), job.High)); r.Changed {
		t.Error("the same priority again changes a row")
	}
	b.s = b.load()
	b.node("n1")
	m := func(i int) string { return job.MemberOrder(order(3), i) }
	for _, next := range []string{m(0), m(1), order(4), order(2), order(1)} {
		b.is(next, job.Assigned, "")
		if next == m(0) {
			b.step(set(order(3), job.Low), set(order(3), job.High)) // one of its members runs
		}
		b.finish(next)
	}
	if b.s.Jobs.Len() != 0 {
		t.Errorf("left: %v", b.s.Jobs)
	}
}
