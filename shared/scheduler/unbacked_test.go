package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// unbacked is a pool of five nodes at most whose first rung was asked for four: the call
// failed after it had made one, and the set kept its capacity.
func unbacked(t *testing.T) *bench {
	b := newBench(t, func(s *pool.Spec) { s.Sizes, s.Pack = []string{"Standard_D4s_v5", "Standard_D8s_v5"}, false })
	var jobs []pool.Event
	for i := range 4 {
		jobs = append(jobs, submission(fmt.Sprint(i), nil))
	}
	want(t, "all", asks(b.step(jobs...)), "d4s-v5:4")
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Token: "t"})
	b.up("d4s-v5", "0")
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "x")})
	b.now = b.now.Add(b.timing.MissingFor)
	return b
}

// listFirst lists the first rung, which says that it has a capacity of four.
func (b *bench) listFirst() scheduler.Result {
	return b.step(pool.Listed{
		Set: "d4s-v5", Exists: true, Capacity: 4, Model: "a", Wanted: "a",
		Instances: []pool.Instance{{
			VMID: "vm-d4s-v50", ID: "0", Name: pool.SetName("p", "d4s-v5") + "_0", Provisioning: "Succeeded", Power: "running",
		}},
	})
}

// The next write to a set brings all that its capacity counts. So a rung for which the pool
// has no such room is not asked, while others took the places.
func TestUnbackedCapacityHasToFit(t *testing.T) {
	t.Parallel()
	b := unbacked(t)
	want(t, "the next rung", asks(b.listFirst()), "d8s-v5:3")
	b.step(pool.Answered{Set: "d8s-v5", Kind: pool.OpGrow})
	for i := range 3 {
		b.up("d8s-v5", fmt.Sprint(i))
	}
	b.step(pool.Answered{Set: "d8s-v5", Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "x")})
	b.now = b.now.Add(11 * time.Minute) // nothing is blocked any more
	b.step(pool.Apply{Spec: func() pool.Spec {
		s := b.s.Head.Spec
		s.Sizes = s.Sizes[:1] // the other rung gives no more
		return s
	}()})
	r := b.step(submission("5", nil))
	want(t, "one more", asks(r), "")
	if e := b.explain("5"); !strings.Contains(e.Reason, "would bring all 3 nodes that it failed to make before, and the pool may have 1 more") {
		t.Errorf("the job is explained by %+v", e)
	}
	if e := scheduler.ExplainPool(b.s, b.now, b.timing); e.State != "blocked" || !strings.Contains(e.Reason, "would bring all 3 nodes") {
		t.Errorf("the pool is explained by %+v", e)
	}
}

// With room for them, those nodes are asked for, and counted, when one is wanted.
func TestUnbackedCapacityComes(t *testing.T) {
	t.Parallel()
	b := unbacked(t)
	b.listFirst()
	b.step(pool.Answered{Set: "d8s-v5", Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "x")})
	b.step(pool.Cancel{Order: "1", Reason: "enough"}, pool.Cancel{Order: "2", Reason: "enough"})
	b.now = b.now.Add(11 * time.Minute)
	want(t, "what comes anyway", asks(b.listFirst()), "d4s-v5:4")
	if n := b.set("d4s-v5").Pending(); n != 3 {
		t.Errorf("%d are on their way, want 3", n)
	}
}

// A write of the model brings them too.
func TestModelOverUnbackedCapacity(t *testing.T) {
	t.Parallel()
	for _, most := range []int{5, 3} {
		b := unbacked(t)
		b.listFirst()
		b.step(pool.Answered{Set: "d8s-v5", Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "x")})
		b.step(pool.CancelAll{Reason: "enough"}, pool.Apply{Spec: func() pool.Spec {
			s := b.s.Head.Spec
			s.Nodes.Max = most
			return s
		}()})
		set := b.set("d4s-v5")
		set.Model.Has, set.Model.Wanted = "a", "b"
		b.now = b.now.Add(11 * time.Minute)
		r := b.step(pool.Tick{})
		set = b.set("d4s-v5")
		calls := r.Effects.Sets["d4s-v5"]
		if writes := calls != nil && calls.Model; writes != (most == 5) || set.Pending() != map[bool]int{true: 3}[writes] {
			t.Errorf("of %d at most: it is written: %v, and %d are on their way", most, writes, set.Pending())
		}
	}
}
