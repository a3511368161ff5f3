package scheduler_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// The state that a process keeps from step to step must be the state that another one
// loads from the rows.

// load is the state that the rows of a bench make.
func (b *bench) load() *scheduler.State {
	b.t.Helper()
	var nodes []*pool.Node
	var jobs []*pool.Job
	for _, n := range b.s.Nodes {
		row, into := mustJSON(b.t, n), &pool.Node{}
		read(b.t, row, into)
		nodes = append(nodes, into)
	}
	for j := range b.s.Jobs.All() {
		row, into := mustJSON(b.t, j), &pool.Job{}
		read(b.t, row, into)
		jobs = append(jobs, into)
	}
	var head pool.Head
	read(b.t, mustJSON(b.t, b.s.Head), &head)
	return scheduler.NewState(head, nodes, jobs, b.now)
}

func mustJSON(t *testing.T, row any) []byte {
	t.Helper()
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// isAsLoaded fails if the state that is kept is another than the one that is loaded.
func (b *bench) isAsLoaded(when string) {
	b.t.Helper()
	if got, want := scheduler.Dump(b.s, b.now), scheduler.Dump(b.load(), b.now); got != want {
		b.t.Errorf("%s, the state in memory is not that of the rows: %s", when, difference(got, want))
	}
}

// A sweep runs as many members as may at once, and the rest of it is cancelled: none
// of it is in line any more.
func TestFullSweepWhoseRestIsCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.settle(submission(order(1), sweepOf(4, 2)))
	if live, running := b.members(); live != 2 || running != 2 {
		t.Fatalf("%d members live and %d running, want 2", live, running)
	}
	for i := 2; i < 4; i++ {
		b.settle(pool.Cancel{Order: job.MemberOrder(order(1), i), Reason: "not this one"})
		b.isAsLoaded(fmt.Sprintf("with member %d cancelled", i))
	}
	for i := range 2 {
		b.over(job.MemberOrder(order(1), i), "succeeded", 0)
		b.isAsLoaded(fmt.Sprintf("with member %d ended", i))
	}
	if b.s.Jobs.Len() != 0 {
		t.Errorf("%d jobs are left", b.s.Jobs.Len())
	}
}

// A sweep that comes after another job is cancelled in a full step, and the process is
// killed. The one that loads the pool ends the sweep, whatever becomes of the other job.
func TestCancelledSweepWaitsForNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.settle(submission("first", nil))
	var cancels []pool.Event
	for i := range 46 { // each takes two rows
		b.settle(submission(fmt.Sprint("later", i), func(s *job.Spec) { s.NotBefore = b.now.Add(time.Hour) }))
		cancels = append(cancels, pool.Cancel{Order: fmt.Sprint("later", i), Reason: "not wanted"})
	}
	b.settle(submission(order(1), func(s *job.Spec) {
		sweepOf(4, 2)(s)
		s.After = []string{"first"}
	}))
	r := scheduler.Step(b.s, append([]pool.Event{pool.Cancel{Order: order(1), Reason: "not wanted"}}, cancels...), b.now, b.timing)
	if j := b.s.Jobs.Get(order(1)); !r.More || j == nil || j.Cancel == "" {
		t.Fatal("the step is not full; the test shows nothing")
	}
	b.isAsLoaded("in the middle of a cancel")
	b.s = b.load()
	b.over("first", "failed", 1)
	if j := b.s.Jobs.Get(order(1)); j != nil {
		t.Errorf("the sweep is still %s: %s", j.State, j.Reason)
	}
}

// A pool goes down with more waiting jobs than fit into a step, and the process that
// took it down is killed. A process that catches up marks the others.
func TestOthersMarkWhatIsHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) {
		s.Schedule = &pool.Schedule{DownAt: "20:00", UpAt: "07:00", TimeZone: "UTC", OnRunning: "wait"}
	})
	const waiting = 150
	for i := range waiting {
		b.settle(submission(fmt.Sprint("job", i), nil))
	}
	other := &bench{t: t, s: b.load(), now: monday.Add(11*time.Hour + time.Minute), timing: b.timing}
	b.now = other.now
	r := scheduler.Step(other.s, []pool.Event{pool.Tick{}}, other.now, other.timing)
	if !r.More || !other.s.Head.Down {
		t.Fatal("the step is not full; the test shows nothing")
	}
	var head pool.Head
	read(t, mustJSON(t, other.s.Head), &head)
	var changed []*pool.Job
	for _, c := range r.Changes {
		if j, ok := c.Value.(*pool.Job); ok {
			into := &pool.Job{}
			read(t, mustJSON(t, j), into)
			changed = append(changed, into)
		}
	}
	b.s.CatchUp(head, nil, changed, nil, b.now)
	b.isAsLoaded("caught up")
	b.settle(pool.Tick{})
	for j := range b.s.Jobs.All() {
		if j.State != job.Held {
			t.Fatalf("job %s is %s while the pool is down", j.ID, j.State)
		}
	}
}

// A job that comes back into line while the pool is down is held, and one that was held
// beside the line is queued when it comes into line.
func TestComesIntoLineAsThePoolIs(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) {
		s.Schedule = &pool.Schedule{DownAt: "20:00", UpAt: "07:00", TimeZone: "UTC", OnRunning: "wait"}
		s.Nodes.Max = 1
	})
	b.now = monday.Add(10*time.Hour + 58*time.Minute) // 19:58
	b.node("n1")
	b.settle(submission(order(1), func(s *job.Spec) {
		sweepOf(2, 1)(s)
		s.Resources.CPUs, s.Retry = 2, job.Retry{Max: 1, Backoff: job.Duration(time.Minute)}
	}))
	b.settle(submission(order(2), func(s *job.Spec) { s.Resources.CPUs, s.Retry = 2, job.Retry{Max: 1} }))
	first := b.s.Jobs.Get(job.MemberOrder(order(1), 0))
	b.over(first.Order, "failed", 1)
	if second := b.s.Jobs.Get(job.MemberOrder(order(1), 1)); second == nil || second.VMID == "" || first.State != job.Held {
		t.Fatal("the second member does not run, or the first does not wait to be tried again")
	}
	b.now = monday.Add(11*time.Hour + time.Minute) // 20:01
	b.settle(pool.Tick{})
	b.isAsLoaded("with the pool down")
	b.over(order(2), "failed", 1)
	b.isAsLoaded("with a job back in line of a pool that is down")
	if j := b.s.Jobs.Get(order(2)); j.State != job.Held {
		t.Errorf("it is %s while the pool is down", j.State)
	}
	b.now = monday.Add(22*time.Hour + time.Minute) // 07:01
	b.settle(pool.Cancel{Order: order(2), Reason: "not wanted"}, submission(order(3), func(s *job.Spec) {
		s.Resources.CPUs, s.Priority = 4, job.High
	}))
	b.isAsLoaded("with the pool up")
	b.over(job.MemberOrder(order(1), 1), "succeeded", 0)
	b.isAsLoaded("with the sweep in line")
	b.settle(pool.Tick{})
	if b.s.Jobs.Get(order(3)).VMID == "" || first.VMID != "" {
		t.Fatal("the first member has a place; the test shows nothing")
	}
	if first.State != job.Queued {
		t.Errorf("the first member is in line of a pool that is up, and %s: %s", first.State, first.Reason)
	}
}
