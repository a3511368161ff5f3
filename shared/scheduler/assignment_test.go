package scheduler_test

import (
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// What bounds an attempt, and how it is asked to end, reaches its node.
func TestAssignmentCarriesMemoryAndStop(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(pool.Tick{})
	r := b.step(submission("1", func(s *job.Spec) { s.Resources.Memory, s.Stop = 2*job.Gi, job.StopLeader }), submission("2", nil))
	got := map[string]*protocol.Assignment{}
	for _, items := range r.Effects.Work {
		for _, item := range items {
			if item.Assign != nil {
				got[item.Assign.Job] = item.Assign
			}
		}
	}
	if a := got["1"]; a == nil || a.Memory != int64(2*job.Gi) || a.Stop != job.StopLeader {
		t.Errorf("got %+v, want 2 GiB and the leader", a)
	}
	if a := got["2"]; a == nil || a.Memory != 0 || a.Stop != "" {
		t.Errorf("got %+v, want no bound and the group", a)
	}
}

// Only a job that has its node to itself gets Whole.
func TestAssignmentOfAWholeNode(t *testing.T) {
	t.Parallel()
	for _, pack := range []bool{true, false} {
		b := newBench(t, func(s *pool.Spec) { s.Pack = pack })
		b.node("a")
		r := b.step(submission("1", nil))
		for _, items := range r.Effects.Work {
			for _, item := range items {
				if item.Assign != nil && item.Assign.Whole == pack {
					t.Errorf("pack %v: got whole %v", pack, item.Assign.Whole)
				}
			}
		}
		if len(assigned(r)) != 1 {
			t.Errorf("pack %v: nothing was placed", pack)
		}
	}
}
