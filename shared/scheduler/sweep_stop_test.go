package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// endMembers ends the members of a sweep that run, one after the other as they come,
// until so many have; each with what end says of it.
func (b *bench) endMembers(sweep string, most int, end func(member string, n int)) (ended int) {
	b.t.Helper()
	for again := true; again && ended < most; {
		again = false
		for i := range 100 {
			m := job.MemberOrder(sweep, i)
			if j := b.s.Jobs.Get(m); j != nil && j.VMID != "" && ended < most {
				end(m, ended)
				ended++
				again = true
			}
		}
	}
	return ended
}

// A sweep of a misspelt program stops early, whatever the end of its members; one of
// which a member succeeds goes on.
func TestHopelessSweepStops(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sweep  job.Sweep
		retry  int
		end    func(b *bench, m string, n int)
		begun  int // members that have begun when it is held; 0 = it is not held
		reason string
	}{
		"all fail to start": {sweep: job.Sweep{Count: 40, Parallel: 4},
			end: func(b *bench, m string, _ int) { b.startFails(m, job.CauseNoProgram) }, begun: 13, reason: "with exit code 1003 (startFailed); 27 members have not begun"},
		"as many at once as there is room": {sweep: job.Sweep{Count: 40},
			end: func(b *bench, m string, _ int) { b.startFails(m, job.CauseNoProgram) }, begun: 21, reason: "10 members failed and none succeeded"},
		"all with one code": {sweep: job.Sweep{Count: 40, Parallel: 1}, end: func(b *bench, m string, _ int) { b.over(m, "failed", 127) }, begun: 10, reason: "with exit code 127"},
		"all out of time":   {sweep: job.Sweep{Count: 40, Parallel: 1}, end: func(b *bench, m string, _ int) { b.over(m, "timedOut", 1005) }, begun: 10, reason: "10 members failed"},
		"one succeeds": {sweep: job.Sweep{Count: 40, Parallel: 1}, end: func(b *bench, m string, n int) {
			b.over(m, map[bool]string{true: "succeeded", false: "failed"}[n == 9], 1)
		}},
		"maxFails": {sweep: job.Sweep{Count: 40, Parallel: 1, MaxFails: 3}, end: func(b *bench, m string, _ int) { b.over(m, "failed", 1) }, begun: 3, reason: "3 members failed, and its `sweep.maxFails` is 3"},
		"maxFails, some succeed": {sweep: job.Sweep{Count: 40, Parallel: 1, MaxFails: 3}, end: func(b *bench, m string, n int) {
			b.over(m, map[bool]string{true: "succeeded", false: "failed"}[n%2 == 0], 1)
		}, begun: 6, reason: "`sweep.maxFails` is 3"},
		"maxFails of one":    {sweep: job.Sweep{Count: 40, MaxFails: 1, Parallel: 2}, end: func(b *bench, m string, _ int) { b.over(m, "failed", 1) }, begun: 2, reason: "1 member failed, and its `sweep.maxFails` is 1"},
		"maxFails above ten": {sweep: job.Sweep{Count: 40, MaxFails: 15, Parallel: 1}, end: func(b *bench, m string, _ int) { b.over(m, "failed", 1) }, begun: 15, reason: "15 members failed"},
		"retries first": {sweep: job.Sweep{Count: 40, MaxFails: 2, Parallel: 1}, retry: 1, end: func(b *bench, m string, _ int) { b.over(m, "failed", 1) },
			begun: 2, reason: "2 members failed"},
		"the node's fault is none": {sweep: job.Sweep{Count: 40, MaxFails: 1, Parallel: 1}, end: func(b *bench, m string, n int) {
			if n%2 == 0 {
				b.end(m, job.AttemptAgentRestarted, job.ExitAgentRestarted)
			} else {
				b.over(m, "succeeded", 0)
			}
		}},
		"few members": {sweep: job.Sweep{Count: 5, Parallel: 1}, end: func(b *bench, m string, _ int) { b.over(m, "failed", 1) }},
		"ten members": {sweep: job.Sweep{Count: 10, Parallel: 1}, end: func(b *bench, m string, _ int) { b.over(m, "failed", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 3 })
			for i := range 3 {
				b.node(fmt.Sprint("n", i))
			}
			sweep := order(1)
			b.settle(submission(sweep, func(s *job.Spec) { s.Sweep, s.Retry.Max = &tt.sweep, tt.retry }))
			j := b.s.Jobs.Get(sweep)
			b.endMembers(sweep, 100, func(m string, n int) { tt.end(b, m, n) })
			if tt.begun == 0 {
				if !j.State.Final() {
					t.Errorf("it is %s: %s", j.State, j.Reason)
				}
				return
			}
			e := b.explain(sweep)
			if j.State != job.Held || j.Progress.Next != tt.begun || !strings.Contains(e.Reason, tt.reason) ||
				!strings.Contains(e.Reason, "`dsvm job release "+j.ID+"`") ||
				!strings.Contains(e.Reason, "`dsvm job cancel "+j.ID+"`") {
				t.Fatalf("it is %s with %d members begun, want %d: %s", j.State, j.Progress.Next, tt.begun, e.Reason)
			}
			if problem := scheduler.Claims(b.s, b.now, b.timing); problem != "" {
				t.Error(problem)
			}
			if r := b.step(pool.Tick{}); grown(r) != 0 || b.s.Head.Wanted > 3 {
				t.Errorf("nodes are asked for on its account: %d", grown(r))
			}
			// Loaded by another process, it is still held.
			var jobs []*pool.Job
			for live := range b.s.Jobs.All() {
				jobs = append(jobs, live.Job)
			}
			var nodes []*pool.Node
			for _, n := range b.s.Nodes {
				nodes = append(nodes, n.Node)
			}
			b.s = scheduler.NewState(b.s.Head, nodes, jobs, b.now)
			b.step(pool.Tick{})
			if j = b.s.Jobs.Get(sweep); j.Progress.Next != tt.begun {
				t.Errorf("a process that loads it begins more: %d", j.Progress.Next)
			}
			// Released, it goes on and counts again from there.
			b.settle(pool.Release{Order: sweep}, pool.Release{Order: sweep})
			if j.State != job.Running || j.Reason != "" || j.Progress.Next == tt.begun {
				t.Fatalf("released: %s with %d begun: %s", j.State, j.Progress.Next, j.Reason)
			}
			before := j.Progress.Next
			b.endMembers(sweep, 1, func(m string, _ int) { b.over(m, "failed", 1) })
			if most := max(tt.sweep.MaxFails, 1); (j.State == job.Held) != (most == 1 && tt.sweep.MaxFails > 0 && tt.retry == 0) {
				t.Errorf("after one more failure it is %s with %d begun before and %d now", j.State, before, j.Progress.Next)
			}
		})
	}
}

// A stopped sweep that is cancelled ends; one whose other members are cancelled one
// by one has nothing left to be held.
func TestStoppedSweepEnds(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		b := newBench(t, nil)
		b.node("n1")
		sweep := order(1)
		b.step(submission(sweep, func(s *job.Spec) { s.Sweep = &job.Sweep{Count: 6, Parallel: 2, MaxFails: 1} }))
		j := b.s.Jobs.Get(sweep)
		b.over(job.MemberOrder(sweep, 0), "failed", 1)
		if j.State != job.Held {
			t.Fatalf("it is %s", j.State)
		}
		if whole {
			b.settle(pool.Cancel{Order: sweep, Reason: "enough"})
			if e := b.explain(sweep); strings.Contains(e.Unblocks, "release") {
				t.Errorf("cancelled, it waits for: %s", e.Unblocks)
			}
			b.over(job.MemberOrder(sweep, 1), "cancelled", job.ExitCancelled)
			if j.State != job.Cancelled || j.Progress.Cancelled != 5 || b.s.Jobs.Len() != 0 {
				t.Errorf("cancelled: %s %+v", j.State, j.Progress)
			}
			continue
		}
		for i := 2; i < 6; i++ {
			b.settle(pool.Cancel{Order: job.MemberOrder(sweep, i), Reason: "one"})
		}
		if j.State != job.Running || j.Reason != "" {
			t.Errorf("nothing is left to be held: %s %s", j.State, j.Reason)
		}
		if problem := scheduler.Claims(b.s, b.now, b.timing); problem != "" {
			t.Error(problem)
		}
		b.over(job.MemberOrder(sweep, 1), "succeeded", 0)
		if j.State != job.Failed || b.s.Jobs.Len() != 0 {
			t.Errorf("it ends as %s", j.State)
		}
	}
}

// What has begun runs on, and is tried again, while the sweep is held.
func TestStoppedSweepsMembersGoOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	sweep := order(1)
	b.step(submission(sweep, func(s *job.Spec) {
		s.Sweep, s.Retry = &job.Sweep{
			Count:    9,
			Parallel: 3,
			MaxFails: 1,
		}, job.Retry{
			Max:     1,
			On:      []string{"exitCode:7"},
			Backoff: job.Duration(time.Minute),
		}
	}))
	b.over(job.MemberOrder(sweep, 1), "failed", 7) // waits for its retry, and the next one begins
	b.over(job.MemberOrder(sweep, 0), "failed", 1)
	j := b.s.Jobs.Get(sweep)
	if j.State != job.Held || j.Progress.Next != 4 {
		t.Fatalf("it is %s with %d begun", j.State, j.Progress.Next)
	}
	b.now = b.now.Add(time.Minute)
	b.step(pool.Tick{})
	if m := b.s.Jobs.Get(job.MemberOrder(sweep, 1)); m.VMID == "" {
		t.Errorf("the retry of what had begun is %s", m.State)
	}
	b.over(job.MemberOrder(sweep, 2), "succeeded", 0)
	if j.State != job.Held || j.Progress.Next != 4 || j.Progress.Succeeded != 1 {
		t.Errorf("it is %s with %d begun", j.State, j.Progress.Next)
	}
}
