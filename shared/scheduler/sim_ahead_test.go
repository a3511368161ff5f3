package scheduler_test

import (
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/size"
)

// What must hold of jobs that are assigned ahead: they wait on a node whose agent knows how
// to, not for long, not too many of them, and nothing runs beside what it does not fit to.

// mayHoldMore reports whether a node may hold more than it runs at once.
func (c *checker) mayHoldMore(s *scheduler.State, n *scheduler.Node, u job.Resources) bool {
	return s.Head.Spec.Pack && slices.Contains(n.Features, protocol.FeatureAhead) && u.CPUs <= n.CPUs*(1+scheduler.AheadPerCPU) &&
		n.JobCount() <= n.CPUs+scheduler.MostAhead
}

// turns checks what runs on a VM side by side, and how long the others have waited.
func (c *checker) turns(v *vm) {
	var runs job.Resources
	for _, r := range v.runs() {
		switch {
		case r.finished != nil:
		case r.waits:
			c.waitsFor(v, r)
		default:
			runs.CPUs += r.assign.CPUs
			runs.GPUs += len(r.assign.GPUs)
			runs.Memory += job.Bytes(r.assign.Memory)
		}
	}
	has, _ := size.Lookup(v.size)
	if runs.CPUs > has.CPUs || runs.GPUs > has.GPUs || runs.Memory > job.Bytes(has.MemoryGiB)*job.Gi {
		c.fail("turn", "%s of %d cpus, %d GPUs and %d GiB runs %+v at once", v.vmid, has.CPUs, has.GPUs, has.MemoryGiB, runs)
	}
}

// waitsFor checks that an assignment does not wait for its turn longer than the bound: after
// it, it is asked back. Where nothing goes wrong, that takes a message each way; among faults
// a service may be away, and the agent may hang.
func (c *checker) waitsFor(v *vm, r *run) {
	most := c.w.rules.AheadFor + 3*time.Second
	if !c.w.clean {
		most += longestHang + 5*time.Minute
	}
	if waited := c.w.now.Sub(r.cameAt); waited > most {
		c.fail("waits", "job %s has waited on %s for its turn for %s, the bound is %s", r.assign.Job, v.vmid, waited, most)
	}
}

// recalls checks that a step recalls what has waited on its node for the bound, if none has
// before.
func (c *checker) recalls(s *scheduler.State, r *scheduler.Result, now time.Time) {
	for _, items := range r.Effects.Work {
		for _, i := range items {
			if i.Cancel != nil && i.Cancel.IfWaiting {
				c.asked[i.Cancel.Target] = true
			}
		}
	}
	if r.More {
		return
	}
	for number, j := range scheduler.Waiting(s) {
		if waited := now.Sub(j.Attempts[len(j.Attempts)-1].AssignedAt); waited >= c.w.rules.AheadFor+c.slack && !c.asked[number] {
			c.fail("waits", "job %s has waited on %s for its turn for %s, and is not recalled", j.ID, j.VMID, waited)
		}
	}
}

// cancels checks that nothing that runs is ended, and counts as cancelled, because somebody
// else is to have its place.
func (c *checker) cancels(v *vm, r *run, by *protocol.Cancel) {
	if by.IfWaiting {
		c.seen["recalled"]++
		return
	}
	if r.waits {
		return
	}
	for _, reason := range scheduler.RecallReasons {
		if by.Reason == reason {
			c.fail("recall", "job %s runs on %s and is ended: %s", r.assign.Job, v.vmid, by.Reason)
		}
	}
}
