package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// set is the pool's set of that name, or its first.
func (b *bench) set(name string) *pool.Set {
	b.t.Helper()
	for i := range b.s.Head.Sets {
		if s := &b.s.Head.Sets[i]; name == "" || s.Name == name {
			return s
		}
	}
	b.t.Fatalf("there is no set %s", name)
	return nil
}

// failBoot lets the node that was asked for boot, or stay in Creating, and never
// report, and sees its instance gone.
func (b *bench) failBoot(set, vmid, power string) {
	b.t.Helper()
	b.step(pool.Answered{Set: set, Kind: pool.OpGrow})
	inst := pool.Instance{VMID: vmid, ID: vmid, Name: vmid, Provisioning: "Creating", Power: power}
	b.step(pool.Listed{Set: set, Exists: true, Capacity: 1, Instances: []pool.Instance{inst}})
	b.now = b.now.Add(b.timing.BootDeadline + time.Second)
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 1 || r.Effects.Remove[0].VMID != vmid {
		b.t.Fatalf("past its deadline, %s is not named in a delete: %+v", vmid, r.Effects.Remove)
	}
	b.step(pool.Listed{Set: set, Exists: true})
}

// Nodes that never report are deleted, and after three in a row no more are bought
// but one now and then, with a growing pause; the first that reports ends it.
func TestBreaker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, power, look string }{
		{"booted", "running", "look at whether nodes reach Service Bus"},
		{"never made", "", "look at the scale set's activity log"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			b.step(wide("1"))
			for i := range 3 {
				if got := b.set("").Op; got.Kind != pool.OpGrow || got.Target != 1 {
					t.Fatalf("after %d failures: %+v", i, got)
				}
				b.failBoot("", fmt.Sprint("n", i), tt.power)
			}
			if op, e := b.set("").Op, b.explain("1"); op.Kind != "" || !strings.Contains(e.Reason, "3 nodes in a row did not come up") ||
				!strings.Contains(e.Reason, tt.look) {
				t.Fatalf("got %+v, %q", op, e.Reason)
			}
			if e := scheduler.ExplainPool(b.s, b.now, b.timing); e.State != "blocked" || !strings.Contains(e.Reason, tt.look) ||
				!strings.Contains(e.Unblocks, "dsvm pool resume p") {
				t.Errorf("the pool: got %+v", e)
			}
			b.step(wide("2"), wide("3"))
			pauses := []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour}
			for i, pause := range pauses {
				if got := b.set("").Breaker.ProbeAt.Sub(b.now); got != pause {
					t.Fatalf("pause %d: got %s, want %s", i, got, pause)
				}
				b.now = b.now.Add(pause - time.Second)
				if r := b.step(pool.Tick{}); grown(r) != 0 {
					t.Fatalf("bought before the pause was over: %d", grown(r))
				}
				b.now = b.now.Add(time.Second)
				if r := b.step(pool.Tick{}); grown(r) != 1 {
					t.Fatalf("probe %d: asked for %d nodes, want one", i, grown(r))
				}
				if e := b.explain("2"); !strings.Contains(e.Reason, "to see whether") {
					t.Errorf("while the probe boots: %q", e.Reason)
				}
				b.failBoot("", fmt.Sprint("probe", i), tt.power)
			}
			b.now = b.set("").Breaker.ProbeAt
			b.step(pool.Tick{})
			b.step(pool.Answered{Kind: pool.OpGrow})
			b.node("good")
			if got := b.set(""); got.Breaker != (pool.Breaker{}) || got.Op.Target != 3 {
				t.Errorf("after a node that reported: %+v", got)
			}
		})
	}
}

// A change of the pool tries one node at once, `resume` buys all, and twice is once.
func TestBreakerByHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		event pool.Event
		want  int
	}{{pool.Apply{Spec: spec()}, 1}, {pool.Resume{}, 2}} {
		b := newBench(t, nil)
		b.step(wide("1"))
		for i := range 3 {
			b.failBoot("", fmt.Sprint("n", i), "running")
		}
		b.step(wide("2"))
		if r := b.step(tt.event); grown(r) != tt.want {
			t.Errorf("%T: asked for %d, want %d", tt.event, grown(r), tt.want)
		}
		if r := b.step(tt.event); grown(r) != 0 {
			t.Errorf("%T once more: asked for %d", tt.event, grown(r))
		}
	}
	b := newBench(t, nil)
	b.step(submission("1", nil))
	b.step(pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.Throttled, "", "slow down")})
	if r := b.step(pool.Resume{}); grown(r) != 0 {
		t.Error("a service that throttles is asked at once")
	}
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.now = b.now.Add(time.Minute)
	b.step(pool.Tick{})
	b.step(pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.NoQuota, "", "none")})
	if r := b.step(pool.Resume{}); grown(r) != 1 {
		t.Error("a rung that had no quota is not asked again")
	}
}

// A rung's breaker is its own: the next rung goes on. Where nothing of the pool
// works, one failure of it is enough.
func TestBreakerOfARung(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Sizes = []string{"Standard_D4s_v5", "Standard_D8s_v5"} })
	b.step(submission("1", nil))
	for i := range 3 {
		b.failBoot("d4s-v5", fmt.Sprint("n", i), "running")
	}
	if got := b.set("d8s-v5").Op; got.Kind != pool.OpGrow || got.Target != 1 {
		t.Fatalf("the next rung is not asked: %+v", b.s.Head.Sets)
	}
	b.failBoot("d8s-v5", "m0", "running")
	if !b.set("d8s-v5").Breaker.Open() {
		t.Error("nothing of the pool works, and the second rung goes on buying")
	}
	b.step(pool.Resume{})
	b.failBoot("d4s-v5", "n9", "running")
	b.up("d4s-v5", "7")
	if b.set("d4s-v5").Breaker.Bad != 0 {
		t.Error("a node that reports does not end the row of its rung")
	}
}

// What was on its way when the breaker opened says nothing new: the pause does not
// double for it.
func TestBreakerAndTheRestOfTheBurst(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("1", func(s *job.Spec) { s.Nodes, s.Resources.CPUs = 5, 4 }))
	b.step(pool.Answered{Kind: pool.OpGrow, Token: "t"})
	var list []pool.Instance
	for i := range 5 {
		id := fmt.Sprint(i)
		list = append(list, pool.Instance{VMID: id, ID: id, Name: id, Provisioning: "Succeeded", Power: "running"})
	}
	b.step(pool.Listed{Exists: true, Capacity: 5, Instances: list})
	b.now = b.now.Add(b.timing.BootDeadline + time.Second)
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 5 {
		t.Errorf("%d of five are given up", len(r.Effects.Remove))
	}
	if got := b.set("").Breaker; got.Bad != 5 || got.Probes != 0 || got.ProbeAt.Sub(b.now) != 30*time.Minute {
		t.Errorf("got %+v", got)
	}
}

// A node that is taken away as soon as it boots has reported, even where its first word
// is that it leaves.
func TestNodeThatLeavesAtOnceHasComeUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	b.failBoot("", "n0", "running")
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.step(pool.Listed{Exists: true, Capacity: 1, Instances: []pool.Instance{{VMID: "n1", ID: "n1", Name: "n1", Provisioning: "Creating"}}})
	b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: "n1", Items: []protocol.ReportItem{
		{Leaving: &protocol.Leaving{Event: "Preempt", At: b.now, Reason: "evicted"}}}}})
	if got := b.set("").Breaker; got.Bad != 0 {
		t.Errorf("got %+v", got)
	}
}
