package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// backlog is a pool of one node that runs 4 jobs and holds 16 more.
func backlog(t *testing.T) *bench {
	t.Helper()
	b := known(t, time.Millisecond, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.submits(10, 30, nil)
	if b.held() != 20 {
		t.Fatalf("%d are on the node, want 20", b.held())
	}
	return b
}

// begins reports that a job has begun.
func (b *bench) begins(order string) scheduler.Result {
	b.t.Helper()
	j := b.s.Jobs.Get(order)
	return b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{
		{Started: &protocol.Started{N: j.N, At: b.now}}}}})
}

// TestRecallThatIsNotCommitted: the next step recalls at once what a step has recalled that
// was not committed, or whose messages may be lost; and only that.
func TestRecallThatIsNotCommitted(t *testing.T) {
	t.Parallel()
	fails := func(b *bench, before pool.Head) scheduler.Result {
		b.s.CatchUp(before, nil, nil, nil, b.now)
		return b.step()
	}
	late, forRoom := orders(14, 30), orders(26, 30)
	for name, tt := range map[string]struct {
		isLate bool // otherwise another node has room
		then   func(b *bench, before pool.Head) scheduler.Result
		want   []string
	}{
		"late, not committed":     {true, fails, late},
		"for room, not committed": {false, fails, forRoom},
		"committed, and another process wrote": {true, func(b *bench, _ pool.Head) scheduler.Result {
			b.s.ConfirmStep()
			b.s.CatchUp(b.s.Head, nil, nil, nil, b.now)
			return b.step()
		}, nil},
		"committed, and perhaps not sent": {false, func(b *bench, _ pool.Head) scheduler.Result {
			b.s.ConfirmStep()
			return b.step(pool.Loaded{})
		}, forRoom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := backlog(t)
			before, first := b.s.Head, forRoom
			var r scheduler.Result
			if tt.isLate {
				b.now, first = b.now.Add(b.timing.AheadFor), late
				r = b.step(pool.Tick{})
			} else {
				r = b.knowing("b")
			}
			if got, _ := b.recalled(r); !slices.Equal(got, first) {
				t.Fatalf("recalled: got %v, want %v", got, first)
			}
			if got, _ := b.recalled(tt.then(b, before)); !slices.Equal(got, tt.want) {
				t.Errorf("recalled by the next step: got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestRecallAfterAStepThatWasNotCommitted: a step that was not committed took in that one has
// begun. What came before it waits as if nothing had been.
func TestRecallAfterAStepThatWasNotCommitted(t *testing.T) {
	t.Parallel()
	b := backlog(t)
	before, row := b.s.Head, *b.s.Jobs.Get("j025").Job
	row.Attempts = slices.Clone(row.Attempts)
	b.now = b.now.Add(b.timing.AheadFor)
	if got, _ := b.recalled(b.begins("j025")); !slices.Equal(got, orders(26, 30)) {
		t.Fatalf("recalled: %v", got)
	}
	b.s.CatchUp(before, nil, []*pool.Job{&row}, nil, b.now)
	if got, _ := b.recalled(b.step()); !slices.Equal(got, orders(14, 30)) {
		t.Errorf("recalled: %v", got)
	}
}

// TestNothingToRecallWakesNobody: a pool is not woken again and again for what waits on a node
// that cannot be asked, was asked, or holds nothing that could be given back.
func TestNothingToRecallWakesNobody(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(b *bench){
		"its node is lost":          func(b *bench) { b.step(pool.Fenced{VMID: "a", Taken: true}) },
		"its node drains":           func(b *bench) { b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDrain}) },
		"its node is to be deleted": func(b *bench) { b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDelete}) },
		"all has begun":             func(b *bench) { b.begins("j029") },
		"it is asked for":           func(*bench) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := backlog(t)
			happens(b)
			for range 3 {
				b.now = b.now.Add(b.timing.AheadFor)
				r := b.step(pool.Tick{})
				if wake := r.Effects.WakeAt; wake.Equal(b.now) {
					t.Errorf("the pool is woken again at once, at %s", wake)
				}
			}
		})
	}
}

// TestWaitingAgain: what came before one that has begun may wait when that one has ended, as
// far as the pool knows.
func TestWaitingAgain(t *testing.T) {
	t.Parallel()
	b := backlog(t)
	b.begins("j025")
	b.now = b.now.Add(b.timing.AheadFor)
	if got, _ := b.recalled(b.step(pool.Tick{})); !slices.Equal(got, orders(26, 30)) {
		t.Fatalf("recalled: %v", got)
	}
	if got, _ := b.recalled(b.ends(job.AttemptSucceeded, 0, "j025")); !slices.Equal(got, orders(14, 25)) {
		t.Errorf("recalled: %v", got)
	}
}

// jobsOn lists the jobs on a node, in order.
func (b *bench) jobsOn(vmid string) (list []string) {
	for j := range b.s.Jobs.All() {
		order := j.Order
		if j.VMID == vmid {
			list = append(list, order)
		}
	}
	slices.Sort(list)
	return list
}

// TestRecallAfterABurst: after a burst both nodes hold more than they run. Each time one has
// room while the other holds what waits, as much as has room is recalled in that step, and
// the end of all takes as many steps as one node needs for its half.
func TestRecallAfterABurst(t *testing.T) {
	t.Parallel()
	b := known(t, time.Millisecond, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.knowing("b")
	b.submits(100, 140, nil)
	if x, y := len(b.jobsOn("a")), len(b.jobsOn("b")); x != 20 || y != 20 {
		t.Fatalf("the nodes hold %d and %d", x, y)
	}
	for len(b.jobsOn("b")) > 4 { // b is fast, and a stands still
		r := b.ends(job.AttemptSucceeded, time.Millisecond, b.jobsOn("b")[:4]...)
		if got, _ := b.recalled(r); len(got) > 0 {
			t.Fatalf("recalled while nothing has room: %v", got)
		}
	}
	r := b.ends(job.AttemptSucceeded, time.Millisecond, b.jobsOn("b")...)
	for want := 16; want > 0; want -= 4 {
		got, _ := b.recalled(r)
		if len(got) != 4 {
			t.Fatalf("recalled: %v, want 4 of %d that wait", got, want)
		}
		if b.givesBack(r); !slices.Equal(b.jobsOn("b"), got) {
			t.Fatalf("b has %v, want %v", b.jobsOn("b"), got)
		}
		r = b.ends(job.AttemptSucceeded, time.Millisecond, got...)
	}
	if got := b.jobsOn("a"); len(got) != 4 {
		t.Errorf("a has %v", got)
	}
}
