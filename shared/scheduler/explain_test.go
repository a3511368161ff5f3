package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

func (b *bench) explain(order string) scheduler.Explanation {
	b.t.Helper()
	e, ok := scheduler.Explain(b.s, order, b.now, b.timing)
	if !ok {
		b.t.Fatalf("job %s is not live", order)
	}
	if e.Reason == "" {
		b.t.Errorf("job %s has no reason", order)
	}
	return e
}

func TestExplain(t *testing.T) {
	t.Parallel()
	one := 1
	cpus := func(n int, timeout time.Duration) func(*job.Spec) {
		return func(s *job.Spec) { s.Resources.CPUs, s.Timeout = n, job.Duration(timeout) }
	}
	for name, tt := range map[string]struct {
		spec  func(*pool.Spec)
		do    func(b *bench)
		want  string
		ahead int
	}{
		"a node is on its way": {do: func(b *bench) { b.step(of("a", "x", nil)) }, want: "no node has room for it, and 1 node is on its way"},
		"after others": {do: func(b *bench) {
			b.step(of("a", "1", nil), of("a", "2", nil), of("b", "3", nil), of("a", "x", nil))
		}, want: "3 jobs go before it in line", ahead: 3},
		"a better class": {do: func(b *bench) {
			b.step(of("a", "x", nil), of("b", "y", func(s *job.Spec) { s.Priority = job.High }))
		}, want: "1 job goes before it in line", ahead: 1},
		"running": {do: func(b *bench) { b.node("n1"); b.step(of("a", "x", nil)) }, want: "it was given to node n1"},
		"a limit": {spec: func(s *pool.Spec) { s.Limits.Default.Jobs = &one }, do: func(b *bench) {
			b.node("n1")
			b.step(of("a", "1", nil))
			b.step(of("a", "x", nil))
		}, want: `team "a" has 1 of its 1 jobs in use`},
		"all nodes are there": {spec: func(s *pool.Spec) { s.Nodes.Max = 1 }, do: func(b *bench) {
			b.node("n1")
			b.step(of("a", "1", cpus(4, 0)))
			b.step(of("a", "x", nil))
		}, want: "the pool has all of its 1 node"},
		"a reservation": {spec: func(s *pool.Spec) { s.Nodes.Max = 1 }, do: func(b *bench) {
			b.node("n1")
			b.step(of("a", "1", cpus(2, time.Hour)))
			b.step(of("b", "wide", cpus(4, 0)))
			b.step(of("a", "x", nil))
		}, want: "node n1 has room, but is kept for job wide, which is before it in line and begins at 2026-03-02T10:00:00Z at the latest", ahead: 1},
		"azure gives none": {do: func(b *bench) {
			b.step(of("a", "x", nil))
			b.step(pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.NoQuota, "", "the quota is used up")})
		}, want: "no more are asked for: the quota is used up"},
		"not yet": {do: func(b *bench) {
			b.step(of("a", "x", func(s *job.Spec) { s.NotBefore = monday.Add(time.Hour) }))
		}, want: "it may not start before 2026-03-02T10:00:00Z"},
		"down": {spec: func(s *pool.Spec) {
			s.Schedule = &pool.Schedule{DownAt: "08:00", UpAt: "12:00", TimeZone: "UTC", OnRunning: "wait"}
		}, do: func(b *bench) { b.step(of("a", "x", nil)) }, want: "the pool is down by its schedule until 2026-03-02T12:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.spec)
			tt.do(b)
			e := b.explain("x")
			if !strings.Contains(e.Reason, tt.want) || e.Ahead != tt.ahead {
				t.Errorf("got %q with %d ahead, want %q with %d", e.Reason, e.Ahead, tt.want, tt.ahead)
			}
		})
	}
}

func TestExplainPool(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	check := func(state, want string) {
		t.Helper()
		e := scheduler.ExplainPool(b.s, b.now, b.timing)
		if e.State != state || !strings.Contains(e.Reason, want) {
			t.Errorf("got %s: %s; want %s: ...%s", e.State, e.Reason, state, want)
		}
	}
	check("resting", "it costs nothing")
	b.step(of("a", "1", func(s *job.Spec) { s.Resources.CPUs = 4 }))
	check("growing", "asked Azure for 1 of Standard_D4s_v5 in all")
	b.step(pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "no room in the region")})
	check("blocked", "no room in the region")
	b.now = b.now.Add(time.Hour)
	b.step(pool.Tick{})
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.node("n1")
	check("working", "it has 1 node: 1 busy, 0 idle, 0 leaving")
	b.step(of("a", "2", nil))
	check("full", "1 job waits")
	b.step(pool.Delete{})
	check("deleting", "goes when they and its jobs are gone")
}
