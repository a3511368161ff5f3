package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// faultCheck is what the checker knows of who was at fault, from the agents' mouths,
// and not from the pool's rows.
type faultCheck struct {
	ends   map[string]protocol.Finished // by job, attempt and rank
	events map[string]map[string]bool   // of a node's own fault, by VMID
	jobs   map[string]map[string]bool   // that met them, by VMID
	was    map[string]pool.NodeState    // of each node, after the last step
	sweeps map[string]*sweepCheck       // by order
	stuck  time.Time                    // since when the pool has work, may grow, and does not
}

// sweepCheck follows the ends of a sweep's members since it was released last.
type sweepCheck struct {
	bad, good int
	held      bool
	next      int // members that had begun when it was held
}

func newFaultCheck() faultCheck {
	return faultCheck{ends: map[string]protocol.Finished{}, events: map[string]map[string]bool{}, jobs: map[string]map[string]bool{},
		was: map[string]pool.NodeState{}, sweeps: map[string]*sweepCheck{}}
}

func attemptKey(id string, attempt, rank int) string {
	return fmt.Sprintf("%s!%d!%d", id, attempt, rank)
}

// agentEnds hears how an attempt has ended on its VM. event names what ended it
// where that is not the job.
func (c *checker) agentEnds(v *vm, r *run, event string) {
	rank := 0
	if r.assign.Gang != nil {
		rank = r.assign.Gang.Rank
	}
	f := *r.finished
	c.faults.ends[attemptKey(r.assign.Job, r.assign.Attempt, rank)] = f
	if f.State != "agentRestarted" && (f.State != "startFailed" || f.Cause.Owner() != job.OwnerNode) {
		return
	}
	c.breaks(v.vmid, event, r.assign.Job)
}

// breaks notes an event of a node's own fault, and jobs that met it.
func (c *checker) breaks(vmid, event string, jobs ...string) {
	if c.faults.events[vmid] == nil {
		c.faults.events[vmid], c.faults.jobs[vmid] = map[string]bool{}, map[string]bool{}
	}
	c.faults.events[vmid][event] = true
	for _, id := range jobs {
		c.faults.jobs[vmid][orderOf(id)[:26]] = true // of a member, that of its sweep
	}
}

// forgets notes the jobs that a node has lost with its journal, when it gets the
// pool's counter: all that it was given, as the pool has it, since itself it knows of
// none. On its first start it has lost nothing.
func (c *checker) forgets(v *vm) {
	if len(c.faults.events[v.vmid]) == 0 {
		return
	}
	for j := range c.w.load().Jobs.All() {
		for _, vmid := range j.On() {
			if vmid == v.vmid {
				c.faults.jobs[v.vmid][orderOf(j.ID)[:26]] = true
			}
		}
	}
}

// jobPays reports whether the job owns an attempt's end, by what its agent said.
func (c *checker) jobPays(j *pool.Job, i int) bool {
	a := &j.Attempts[i]
	switch a.State {
	case job.AttemptFailed, job.AttemptTimedOut:
		return true
	case job.AttemptStartFailed:
		rank := max(a.Broke-1, 0)
		f, said := c.faults.ends[attemptKey(j.ID, a.Number, rank)]
		return said && f.Cause.Owner() == job.OwnerJob
	case job.AttemptEvicted: // ten are free
		n := 0
		for _, other := range j.Attempts[:i+1] {
			if other.State == a.State {
				n++
			}
		}
		return n > 10
	case job.AttemptAgentRestarted: // three in a row are free
		n := 0
		for ; n <= i && (j.Attempts[i-n].State == a.State || j.Attempts[i-n].State == job.AttemptNodeLost || j.Attempts[i-n].State == job.AttemptStartFailed); n++ {
		}
		return n > 3 && len(j.Spec.Retry.On) > 0
	}
	return false
}

// blamed checks who pays for what went wrong.
func (c *checker) blamed(s *scheduler.State, r *scheduler.Result) {
	for vmid, items := range r.Effects.Work {
		for _, i := range items {
			if i.Cancel == nil || !strings.Contains(i.Cancel.Reason, notBegun) {
				continue
			}
			for j := range s.Jobs.All() {
				if j.VMID != "" && (j.N == i.Cancel.Target || slices.ContainsFunc(j.Attempts[len(j.Attempts)-1].Ranks, func(r job.Rank) bool { return r.N == i.Cancel.Target })) {
					c.breaks(vmid, fmt.Sprint("assignment ", i.Cancel.Target), j.ID)
				}
			}
		}
	}
	for _, n := range s.Nodes {
		if most := min(len(c.faults.events[n.VMID]), len(c.faults.jobs[n.VMID])); n.Breaks > most {
			c.fail("blame", "node %s is said to have broken %d times (%+v); its agent told of %d events and %d jobs", n.VMID, n.Breaks, n.Blames, len(c.faults.events[n.VMID]), len(c.faults.jobs[n.VMID]))
		}
	}
	for _, ch := range r.Changes {
		j, isJob := ch.Value.(*pool.Job)
		if !isJob || j.Spec.Sweep != nil || j.Session != nil {
			continue
		}
		pays := 0
		for i := range j.Attempts {
			if c.jobPays(j, i) {
				pays++
			}
		}
		if j.Retries > pays {
			c.fail("owner", "job %s has spent %d retries, and %d of its attempts ended by its own fault: %+v", j.ID, j.Retries, pays, j.Attempts)
		}
		if last := len(j.Attempts) - 1; (j.State == job.Failed || j.State == job.TimedOut) && (last < 0 || !c.jobPays(j, last)) {
			c.fail("owner", "job %s has %s for good, and its last attempt did not end by its own fault: %+v", j.ID, j.State, j.Attempts[max(last, 0):])
		}
	}
	c.setAside(s, r)
	c.stopped(s, r)
	c.grows(s)
}

// kept counts the nodes that are kept for a look.
func (c *checker) kept(s *scheduler.State) (n int) {
	for _, node := range s.Nodes {
		if node.State == pool.NodeQuarantined {
			n++
		}
	}
	return n
}

// setAside checks how many nodes are out of use, and that work keeps one.
func (c *checker) setAside(s *scheduler.State, r *scheduler.Result) {
	here, sound := 0, 0
	for _, n := range s.Nodes {
		switch n.State {
		case pool.NodeGone, pool.NodeDeleting:
			continue
		case pool.NodeReady, pool.NodeBusy:
			if n.Breaks < 3 {
				sound++
			}
		}
		here++
	}
	if kept := c.kept(s); !r.More && kept > max(1, here/4) {
		c.fail("kept", "%d of %d nodes are kept for a look", kept, here)
	}
	for _, n := range s.Nodes {
		if was := c.faults.was[n.VMID]; (was == pool.NodeReady || was == pool.NodeBusy) && n.State == pool.NodeQuarantined && sound == 0 && scheduler.InLine(s) > 0 && !r.More {
			c.fail("last node", "node %s is set aside while %d jobs wait, and no other takes work", n.VMID, scheduler.InLine(s))
		}
	}
	for _, n := range s.Nodes {
		c.faults.was[n.VMID] = n.State
	}
}

// stopped checks that sweeps that fail begin no more members.
func (c *checker) stopped(s *scheduler.State, r *scheduler.Result) {
	of := func(order string) *sweepCheck {
		if c.faults.sweeps[order] == nil {
			c.faults.sweeps[order] = &sweepCheck{}
		}
		return c.faults.sweeps[order]
	}
	let := map[string]bool{} // released in this very step, so that nobody knows what was counted before
	for j := range s.Jobs.All() {
		order := j.Order
		if j.Spec.Sweep == nil {
			continue
		}
		w, held := of(order), j.State == job.Held && j.NotBefore.Equal(scheduler.Released)
		if w.held && !held {
			*w, let[order] = sweepCheck{}, true
		}
		if held && !w.held {
			w.held, w.next = true, j.Progress.Next
		}
	}
	for _, ch := range r.Changes {
		m, isJob := ch.Value.(*pool.Job)
		if !isJob || !m.State.Final() {
			continue
		}
		if order, _, member := job.SweepOrder(m.Order); member && !let[order] {
			switch m.State {
			case job.Succeeded:
				of(order).good++
			case job.Failed, job.TimedOut:
				of(order).bad++
			}
		}
	}
	for j := range s.Jobs.All() {
		order := j.Order
		if j.Spec.Sweep == nil || j.Cancel != "" {
			continue
		}
		w, left := of(order), j.Spec.Sweep.Members()-j.Progress.Next-j.Progress.Skipped
		most := j.Spec.Sweep.MaxFails
		if over := most > 0 && w.bad >= most || most == 0 && w.good == 0 && w.bad >= 10; over && left > 0 && !w.held {
			c.fail("stop", "sweep %s goes on after %d failures and %d successes; its maxFails is %d", order, w.bad, w.good, most)
		}
		if w.held && j.Progress.Next > w.next && j.Progress.Skipped == 0 && len(j.Progress.Skip) == 0 {
			c.fail("stop", "sweep %s is held and has begun %d members since", order, j.Progress.Next-w.next)
		}
	}
}

// grows checks that a pool with work in line and room in `nodes.max`, where nothing
// is in its way, does not stand still.
func (c *checker) grows(s *scheduler.State) {
	h := &s.Head
	free := h.Spec.Nodes.Max
	still := scheduler.InLine(s) > 0 && !scheduler.AllLackFeatures(s) && !h.Deleting && !h.Down
	for _, n := range s.Nodes {
		switch n.State {
		case pool.NodeGone, pool.NodeDeleting, pool.NodeQuarantined:
		case pool.NodeDraining, pool.NodeLost, pool.NodeFailed:
			free--
		default:
			still = false // it works, or comes
		}
	}
	for _, set := range h.Sets {
		still = still && set.Op.Kind == "" && !c.w.now.Before(set.Blocked.Until) && !set.Breaker.Open() && len(set.Requests) == 0
	}
	if !still || free <= 0 {
		c.faults.stuck = time.Time{}
		return
	}
	if c.faults.stuck.IsZero() {
		c.faults.stuck = c.w.now
	}
	if since := c.w.now.Sub(c.faults.stuck); since > 2*time.Minute {
		c.fail("grows", "%d jobs have been in line for %s, %d nodes may be had, and none is asked for", scheduler.InLine(s), since, free)
	}
}
