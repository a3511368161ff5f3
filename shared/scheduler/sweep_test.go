package scheduler_test

import (
	"fmt"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

func sweepOf(n, parallel int) func(*job.Spec) {
	return func(s *job.Spec) { s.Sweep = &job.Sweep{Count: n, Parallel: parallel} }
}

// order is a ULID that ends in a number.
func order(n int) string { return fmt.Sprintf("01%024d", n) }

// over lets the attempt of a live job end.
func (b *bench) over(order, state string, code int) {
	b.t.Helper()
	j := b.s.Jobs.Get(order)
	if j == nil || j.VMID == "" {
		b.t.Fatalf("job %s is on no node", order)
	}
	f := &protocol.Finished{N: j.N, State: state, ExitCode: code, StartedAt: b.now, EndedAt: b.now}
	b.settle(
		pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: f}}}},
	)
}

// settle steps until there is nothing left to do.
func (b *bench) settle(events ...pool.Event) {
	for r := scheduler.Step(b.s, events, b.now, b.timing); ; r = scheduler.Step(b.s, r.Rest, b.now, b.timing) {
		if len(r.Changes) > 99 {
			b.t.Fatalf("%d rows in a transaction", len(r.Changes)+1)
		}
		if !r.More {
			return
		}
	}
}

// members counts the live members of all sweeps, and those on nodes.
func (b *bench) members() (live, running int) {
	for j := range b.s.Jobs.All() {
		if j.Spec.Index != nil {
			live++
			if j.VMID != "" {
				running++
			}
		}
	}
	return live, running
}

func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil) // nodes of 4 cpus
	b.node("n1")
	sweep := order(1)
	r := b.step(submission(sweep, sweepOf(6, 3)))
	j := b.s.Jobs.Get(sweep)
	if live, running := b.members(); live != 3 || running != 3 || b.s.Head.Running != 3 || b.s.Head.Queued != 3 {
		t.Fatalf(
			"got %d members, %d on nodes, head says %d and %d in line; want its `parallel` of 3, and 3 in line", live, running,
			b.s.Head.Running, b.s.Head.Queued,
		)
	}
	if grown(r) != 0 {
		t.Errorf("asks for %d nodes although `parallel` is reached", grown(r))
	}
	for i, item := range r.Effects.Work["n1"] {
		if a := item.Assign; a.Job != fmt.Sprintf("%s.%d", j.ID, i) || *a.Index != i {
			t.Errorf("assignment %d: got job %s with index %d", i, a.Job, *a.Index)
		}
	}
	if j.State != job.Running || b.explain(sweep).Reason != "0 of its 6 members have ended, and 3 run at once, which is its `parallel`" {
		t.Errorf("got %s: %+v", j.State, b.explain(sweep))
	}
	b.over(job.MemberOrder(sweep, 1), "failed", 7)
	b.over(job.MemberOrder(sweep, 0), "succeeded", 0)
	if _, running := b.members(); running != 3 || j.Progress.Ended() != 2 {
		t.Errorf("after two ends %d run and %d have ended", running, j.Progress.Ended())
	}
	for i := 2; i < 6; i++ {
		b.over(job.MemberOrder(sweep, i), "succeeded", 0)
	}
	want := "1 of its 6 members failed, the first of them " + j.ID + ".1"
	if j.State != job.Failed || j.ExitCode != 7 || j.Reason != want || b.s.Jobs.Len() != 0 || b.s.Head.Queued != 0 {
		t.Errorf("got %s, exit code %d: %s; want failed with 7: %s; %d jobs left", j.State, j.ExitCode, j.Reason, want, b.s.Jobs.Len())
	}
}

// A member that is to be tried again goes before those that have not begun, and
// counts for `parallel` while it runs.
func TestSweepRetriesFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	sweep := order(1)
	b.step(submission(sweep, func(s *job.Spec) {
		s.Sweep = &job.Sweep{Count: 4, Parallel: 1}
		s.Retry.Max = 1
	}))
	b.over(job.MemberOrder(sweep, 0), "failed", 1)
	first := b.s.Jobs.Get(job.MemberOrder(sweep, 0))
	if first.VMID == "" || len(first.Attempts) != 2 {
		t.Fatalf("the second attempt does not come next: %+v", first)
	}
	if live, running := b.members(); live != 1 || running != 1 {
		t.Errorf("%d members live and %d run, want 1", live, running)
	}
	b.over(job.MemberOrder(sweep, 0), "succeeded", 0)
	if b.s.Jobs.Get(job.MemberOrder(sweep, 1)) == nil {
		t.Error("the next member does not begin")
	}
}

func TestCancelSweep(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 300 })
	for i := range 50 {
		b.node(fmt.Sprintf("n%03d", i))
	}
	sweep := order(1)
	b.settle(submission(sweep, sweepOf(100_000, 0)))
	j := b.s.Jobs.Get(sweep)
	if _, running := b.members(); running != 200 {
		t.Fatalf("%d members run on 50 nodes of 4 cpus, want 200", running)
	}
	b.settle(pool.Cancel{Order: job.MemberOrder(sweep, 300), Reason: "one"}, pool.Cancel{Order: job.MemberOrder(sweep, 300), Reason: "one"})
	if j.Progress.Cancelled != 1 || b.s.Head.Queued != 100_000-201 {
		t.Errorf("one member that has not begun: %d cancelled and %d in line", j.Progress.Cancelled, b.s.Head.Queued)
	}
	b.settle(pool.Cancel{Order: sweep, Reason: "enough"})
	if live, _ := b.members(); live != 200 || b.s.Head.Queued != 0 || j.State.Final() {
		t.Fatalf("%d members live, %d in line, sweep is %s; the running ones end when their nodes say so", live, b.s.Head.Queued, j.State)
	}
	for i := range 200 {
		if m := b.s.Jobs.Get(job.MemberOrder(sweep, i)); m.Cancel != "enough" {
			t.Fatalf("member %d was not asked to end", i)
		}
		b.over(job.MemberOrder(sweep, i), "cancelled", job.ExitCancelled)
	}
	if j.State != job.Cancelled || j.Progress.Cancelled != 100_000 || b.s.Jobs.Len() != 0 {
		t.Errorf("got %s with %d cancelled; %d jobs left", j.State, j.Progress.Cancelled, b.s.Jobs.Len())
	}
}

// A process that loads a sweep half-way goes on where the last one was.
func TestSweepLoaded(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	sweep := order(1)
	b.step(submission(sweep, sweepOf(10, 2)))
	b.step(pool.Cancel{Order: job.MemberOrder(sweep, 2), Reason: "not this one"})
	var jobs []*pool.Job
	for j := range b.s.Jobs.All() {
		jobs = append(jobs, j.Job)
	}
	b.s = scheduler.NewState(b.s.Head, []*pool.Node{b.s.Nodes["n1"].Node}, jobs, b.now)
	b.step(pool.Tick{})
	if live, running := b.members(); live != 2 || running != 2 || b.s.Head.Running != 2 || b.s.Head.Queued != 7 {
		t.Fatalf("%d members live, %d run, %d in line", live, running, b.s.Head.Queued)
	}
	b.over(job.MemberOrder(sweep, 0), "succeeded", 0)
	if b.s.Jobs.Get(job.MemberOrder(sweep, 2)) != nil || b.s.Jobs.Get(job.MemberOrder(sweep, 3)) == nil {
		t.Error("the next member is not the one after the cancelled one")
	}
}

func TestAfterSweepsAndFailures(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	sweep := order(1)
	b.step(submission(sweep, sweepOf(2, 0)))
	id := b.s.Jobs.Get(sweep).ID
	b.step(
		submission(order(2), after(id)), submission(order(3), after(id+":failure")), submission(order(4), after(id+":any")),
		submission(order(5), after(id+".0:any")),
	)
	b.over(job.MemberOrder(sweep, 0), "succeeded", 0)
	if j := b.s.Jobs.Get(order(5)); j.VMID == "" {
		t.Errorf("the job after a member is %s", j.State)
	}
	success := b.s.Jobs.Get(order(2))
	b.over(job.MemberOrder(sweep, 1), "failed", 2)
	if success.State != job.Cancelled {
		t.Errorf("after success: got %s", success.State)
	}
	for _, o := range []string{order(3), order(4)} {
		if j := b.s.Jobs.Get(o); j == nil || j.VMID == "" {
			t.Errorf("%s does not run: %+v", o, j)
		}
	}
}

func TestCancelAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	of := func(user string) func(*job.Spec) { return func(s *job.Spec) { s.User = user } }
	events := []pool.Event{submission(order(0), of("ann")), submission(order(1), of("bob"))}
	for i := 2; i < 300; i++ {
		events = append(events, submission(order(i), of("ann")))
	}
	b.settle(events...)
	b.now = b.now.Add(time.Second)
	b.settle(pool.CancelAll{User: "ann", Reason: "gone home"}, pool.CancelAll{User: "ann", Reason: "gone home"})
	for j := range b.s.Jobs.All() {
		o := j.Order
		if j.Spec.User == "ann" && (j.VMID == "" || j.Cancel == "") {
			t.Errorf("job %s of ann is %s", o, j.State)
		}
	}
	if b.s.Jobs.Get(order(1)).Cancel != "" {
		t.Error("bob's job is cancelled")
	}
}

// A hundred thousand members cost a few rows until they start.
func BenchmarkSubmitSweep(b *testing.B) {
	w := newBench(&testing.T{}, nil)
	for i := range b.N {
		r := scheduler.Step(w.s, []pool.Event{submission(order(i), sweepOf(100_000, 0))}, w.now, w.timing)
		if len(r.Changes) != 1 {
			b.Fatalf("%d rows", len(r.Changes))
		}
	}
}
