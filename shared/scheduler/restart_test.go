package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// One restart is one event, however many attempts it ends; those of most agents at
// once are nobody's fault; none of it ends a job or spends a retry.
func TestRestarts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		nodes, jobs int
		do          func(b *bench)
		want        map[string]int // breaks
	}{
		"the only node, four packed jobs": {1, 4, func(b *bench) { b.restart("2", "n0") }, map[string]int{"n0": 0}},
		"two crashes of it": {1, 4, func(b *bench) {
			b.restart("2", "n0")
			b.now = b.now.Add(10 * time.Minute)
			b.list()
			b.restart("3", "n0")
		}, map[string]int{"n0": 0}},
		"one of three":             {3, 12, func(b *bench) { b.restart("2", "n0") }, map[string]int{"n0": 1, "n1": 0, "n2": 0}},
		"all three":                {3, 12, func(b *bench) { b.restart("2", "n0", "n1", "n2") }, map[string]int{"n0": 0, "n1": 0, "n2": 0}},
		"most of them":             {3, 12, func(b *bench) { b.restart("2", "n0", "n1") }, map[string]int{"n0": 0, "n1": 0}},
		"two of four are not most": {4, 16, func(b *bench) { b.restart("2", "n0", "n1") }, map[string]int{"n0": 1, "n1": 1}},
		"most, but hours apart": {3, 12, func(b *bench) {
			b.restart("2", "n0")
			b.now = b.now.Add(5 * time.Minute)
			b.restart("2", "n1")
		}, map[string]int{"n0": 1, "n1": 1}},
		"some ends are told before the restart": {2, 8, func(b *bench) {
			told := 0
			for i := range 8 {
				if j := b.s.Jobs.Get(order(i)); j.VMID == "n0" && told < 2 {
					b.end(order(i), job.AttemptAgentRestarted, job.ExitAgentRestarted)
					told++
				}
			}
			b.restart("2", "n0")
		}, map[string]int{"n0": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Nodes.Max, s.IdleTimeout = tt.nodes, job.Duration(time.Hour) })
			for i := range tt.nodes {
				b.node(fmt.Sprint("n", i))
			}
			var events []pool.Event
			for i := range tt.jobs {
				events = append(events, submission(order(i), nil))
			}
			b.settle(events...)
			tt.do(b)
			for vmid, want := range tt.want {
				if n := b.s.Nodes[vmid]; n.Breaks != want || n.State == pool.NodeQuarantined {
					t.Errorf("node %s is %s with %d breaks, want %d", vmid, n.State, n.Breaks, want)
				}
			}
			for i := range tt.jobs {
				if j := b.s.Jobs.Get(order(i)); j == nil || j.VMID == "" || j.Retries != 0 {
					t.Errorf("job %d does not run again: %+v", i, j)
				}
			}
		})
	}
}

// Three restarts of one node among many, each under other jobs, are three events.
func TestNodeThatKeepsRestarting(t *testing.T) {
	t.Parallel()
	for _, sameJobs := range []bool{false, true} {
		b := newBench(t, func(s *pool.Spec) { s.IdleTimeout = job.Duration(24 * time.Hour) })
		for i := range 3 {
			b.node(fmt.Sprint("n", i))
		}
		b.step(submission("x", full), submission("y", full)) // n0 and n1 are busy
		bad := "n2"
		for i := range 4 {
			b.step(submission(order(i), full))
			if sameJobs && i > 0 {
				b.step(pool.Cancel{Order: order(i), Reason: "the first one again"})
			}
			if b.s.Nodes[bad].State == pool.NodeQuarantined {
				break
			}
			b.restart(fmt.Sprint(i+2), bad)
			if !sameJobs {
				b.step(pool.Cancel{Order: order(i), Reason: "away"})
				if j := b.s.Jobs.Get(order(i)); j != nil {
					b.end(order(i), job.AttemptCancelled, job.ExitCancelled)
				}
			}
			b.now = b.now.Add(10 * time.Minute)
			b.list()
		}
		n := b.s.Nodes[bad]
		if sameJobs {
			if n.Breaks != 1 || n.State == pool.NodeQuarantined {
				t.Errorf("one job: the node is %s with %d breaks", n.State, n.Breaks)
			}
			if j := b.s.Jobs.Get(order(0)); j.State != job.Held || !strings.Contains(j.Reason, "as agentRestarted") {
				t.Errorf("the job is %s: %s", j.State, j.Reason)
			}
		} else if n.State != pool.NodeQuarantined || n.Breaks != 3 {
			t.Errorf("different jobs: the node is %s with %d breaks", n.State, n.Breaks)
		}
	}
}

// What only members of one sweep, or one job's retries, have met is one job's word.
func TestOneSweepBlamesOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("n1")
	b.node("n2")
	b.step(submission(order(1), sweepOf(8, 0)))
	for i := range 8 {
		if j := b.s.Jobs.Get(job.MemberOrder(order(1), i)); j.VMID == "n1" {
			b.startFails(j.Order, job.CauseDisk)
		}
	}
	if n := b.s.Nodes["n1"]; n.Breaks != 1 || n.State == pool.NodeQuarantined {
		t.Errorf("the node is %s with %d breaks", n.State, n.Breaks)
	}
}

// An agent that was restarted is free three times in a row, then costs a retry where
// `retry.on` names it, and holds the job otherwise.
func TestRestartsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		retry   job.Retry
		retries int
		want    job.State
	}{
		"not allowed": {job.Retry{}, 0, job.Held},
		"by default":  {job.Retry{Max: 2}, 0, job.Held},
		"named":       {job.Retry{Max: 2, On: []string{"agentRestarted"}}, 1, job.Assigned},
		"by its code": {job.Retry{Max: 2, On: []string{"exitCode:1004"}}, 1, job.Assigned},
		"another":     {job.Retry{Max: 2, On: []string{"nodeLost"}}, 0, job.Held},
	} {
		b := newBench(t, nil)
		b.node("n1")
		b.step(submission("1", func(s *job.Spec) { s.Retry = tt.retry }))
		for range 4 {
			b.end("1", job.AttemptAgentRestarted, job.ExitAgentRestarted)
		}
		b.step(pool.Tick{})
		if j := b.s.Jobs.Get("1"); j == nil || j.State != tt.want || j.Retries != tt.retries {
			t.Errorf("%s: got %+v, want %s after %d retries", name, j, tt.want, tt.retries)
		}
	}
}
