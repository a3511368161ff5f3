package pool

import (
	"sort"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// Times a pool keeps from asking for capacity, by the class of the refusal.
// What lacks room or quota now will hardly have it in a second, and every
// refused call costs throttling credit; the windows follow what other
// autoscalers of scale sets found useful.
const (
	blockNoQuota    = 10 * time.Minute
	blockNoCapacity = 10 * time.Minute
	blockInvalid    = 10 * time.Minute // somebody has to change the pool, which lifts the block
	blockThrottled  = 30 * time.Second // when the answer names no time
)

// blockFor is how long a refusal keeps the pool from asking again.
func blockFor(err *fault.Error, tries int) time.Duration {
	switch err.Code {
	case fault.NoQuota:
		return blockNoQuota
	case fault.NoCapacity:
		return blockNoCapacity
	case fault.Invalid:
		return blockInvalid
	case fault.Throttled:
		return max(err.RetryAfter, blockThrottled)
	default:
		return backoff(tries, err.RetryAfter)
	}
}

// backoff doubles from one second to a minute, and is never shorter than what
// the other side asked for.
func backoff(tries int, asked time.Duration) time.Duration {
	return max(asked, min(time.Second<<min(max(tries-1, 0), 6), time.Minute))
}

// census counts the pool's nodes by what they are good for.
type census struct {
	working int // ready or busy
	coming  int // creating or booting
	leaving int // draining, failed or lost: still there, taking no work
	going   int // deleting
}

func (s *State) census() census {
	var c census
	for _, n := range s.Nodes {
		switch n.State {
		case NodeReady, NodeBusy:
			c.working++
		case NodeCreating, NodeBooting:
			c.coming++
		case NodeDraining, NodeFailed, NodeLost, NodeQuarantined:
			c.leaving++
		case NodeDeleting:
			c.going++
		}
	}
	return c
}

func (c census) here() int { return c.working + c.coming + c.leaving }

// pending is the number of instances asked for that have not been seen yet.
// After a call that failed, what is missing of the capacity is not on its way:
// it has to be asked for again.
func (s *State) pending() int {
	asked := s.opTarget()
	if s.Head.Blocked.Tries == 0 {
		asked = max(asked, s.Head.Capacity)
	}
	return max(0, asked-s.census().here())
}

func (s *State) opTarget() int {
	if s.Head.Op.Kind == OpGrow {
		return s.Head.Op.Target
	}
	return 0
}

func (s *State) anyAlive() bool {
	c := s.census()
	return c.here()+c.going > 0
}

// grow asks for the nodes that the waiting jobs need, in the step that sees
// them. One operation is in flight at a time; what comes meanwhile is asked for
// with the next.
func (st *step) grow() {
	c := st.census()
	want := st.wanted(c)
	st.Head.Wanted = want
	op := &st.Head.Op
	if op.Kind != "" {
		st.follow(op)
		return
	}
	if st.Head.Deleting || st.now.Before(st.Head.Blocked.Until) {
		return
	}
	if want <= c.here()+st.pending() {
		st.settle(c)
		return
	}
	*op = Op{Kind: OpGrow, Target: want, AskedAt: st.now}
	st.effects.Grow = want
}

// operationForgotten is after how long an operation without an answer counts as
// never asked: the process that was to ask was killed in between.
const operationForgotten = time.Minute

// operationDeadline is after how long an accepted operation is not followed any
// more: Azure gives a VM half an hour to come up, and the listing tells what
// became of it.
const operationDeadline = time.Hour

// follow looks after the operation in flight.
func (st *step) follow(op *Op) {
	switch {
	case op.Token != "" && st.now.Sub(op.AskedAt) > operationDeadline:
		*op = Op{}
		st.effects.List = true
	case op.Token != "" && !st.now.Before(op.PollAt):
		st.effects.Poll, st.effects.PollKind = op.Token, op.Kind
		op.PollAt = st.now.Add(st.rules.PollEvery) // in case that look is lost
	case op.Token == "" && st.now.Sub(op.AskedAt) > operationForgotten:
		op.AskedAt = st.now
		op.Tries++
		switch op.Kind {
		case OpGrow:
			st.effects.Grow = op.Target
		case OpSettle:
			st.effects.Settle = true
		case OpDrop:
			st.effects.DropSet = true
		}
	}
}

// settle gives up instances that were asked for and never came: past the boot
// deadline, or when the call for them failed and nothing is wanted any more, with
// a fresh listing and nothing running, the capacity is written down to what is
// there, so that they are not awaited, and billed, for ever.
func (st *step) settle(c census) {
	if c.here()+c.going > 0 || st.Head.Capacity == 0 || st.Head.Op.Kind != "" || !st.Head.Listed.Equal(st.now) {
		return
	}
	late := !st.Head.PendingSince.IsZero() && st.now.Sub(st.Head.PendingSince) >= st.rules.BootDeadline
	if !late && st.Head.Blocked.Tries == 0 {
		return
	}
	st.Head.Op = Op{Kind: OpSettle, AskedAt: st.now}
	st.effects.Settle = true
}

// wanted is the number of nodes the pool should have now.
func (st *step) wanted(c census) int {
	if st.Head.Deleting || st.Head.Down {
		return 0
	}
	bounds := st.Head.Spec.Nodes
	return min(max(c.working+c.leaving+st.needed(), bounds.Min), bounds.Max)
}

// mayGrow reports whether the pool may ask for another node now.
func (st *step) mayGrow(c census) bool {
	return !st.Head.Deleting && !st.Head.Down && !st.now.Before(st.Head.Blocked.Until) && c.here()+st.pending() < st.Head.Spec.Nodes.Max
}

// needed is how many more nodes the line would fill: the largest shapes first,
// each on the first node with room, a gang's ranks on one each. Jobs that wait for
// a limit of their team need none.
func (st *step) needed() int {
	limit := st.Head.Spec.Nodes.Max
	demand := st.demand()
	if len(demand) == 0 {
		return 0
	}
	of := st.newNodeHas()
	if of.CPUs == 0 || !st.Head.Spec.Pack {
		total := 0
		for _, d := range demand {
			total += d.jobs * d.nodes
		}
		return min(total, limit)
	}
	sort.Slice(demand, func(i, k int) bool {
		a, b := demand[i], demand[k]
		pa, pb := st.Head.Spec.part(a.Resources), st.Head.Spec.part(b.Resources)
		return pa > pb || pa == pb && (a.CPUs > b.CPUs || a.CPUs == b.CPUs && (a.GPUs > b.GPUs ||
			a.GPUs == b.GPUs && (a.Memory > b.Memory || a.Memory == b.Memory && a.nodes > b.nodes)))
	})
	var used []job.Resources // on each node that would be added
	for _, d := range demand {
		if d.nodes == 1 {
			used = fill(used, limit, of, d.Resources, d.jobs, d.jobs)
			continue
		}
		// What is kept for the first gang already counts, as it is there.
		here := min(st.roomy(shape{cpus: d.CPUs, gpus: d.GPUs, memory: d.Memory}), d.nodes)
		for i := 0; i < d.jobs && len(used) < limit; i++ {
			used = fill(used, limit, of, d.Resources, d.nodes-here, 1)
			here = 0
		}
	}
	return len(used)
}

// fill puts so many of the same onto the nodes that would be added, at most so
// many on each.
func fill(used []job.Resources, limit int, of, d job.Resources, n, each int) []job.Resources {
	for i := 0; n > 0 && i < limit; i++ {
		if i == len(used) {
			used = append(used, job.Resources{})
		}
		fit := min(n, each, max(times(of, used[i], d), 0))
		if fit == 0 && used[i].CPUs == 0 {
			fit = 1 // larger than a node is thought to be; it waits for one anyway
		}
		n -= fit
		used[i].CPUs += fit * d.CPUs
		used[i].GPUs += fit * d.GPUs
		used[i].Memory += job.Bytes(fit) * d.Memory
	}
	return used
}

// times is how often a demand fits on a node with this much in use.
func times(of, used, d job.Resources) int {
	n := (of.CPUs - used.CPUs) / d.CPUs
	if d.GPUs > 0 {
		n = min(n, (of.GPUs-used.GPUs)/d.GPUs)
	}
	if d.Memory > 0 && of.Memory > 0 {
		n = min(n, int((of.Memory-used.Memory)/d.Memory))
	}
	return n
}

// demand is a number of waiting jobs that take the same of a node.
type demand struct {
	job.Resources // of each of its nodes
	nodes         int
	jobs          int
}

// demand sums up the line, as far as the limits of the teams let it run.
func (st *step) demand() []demand {
	type kind struct {
		job.Resources
		nodes int
	}
	sums := map[kind]int{}
	planned := map[string]*team{}
	for _, class := range st.queue.classes {
		for name, l := range class {
			limit := st.Head.Spec.limit(name)
			t := planned[name]
			if t == nil {
				t = &team{}
				if now := st.teams[name]; now != nil {
					*t = *now
				}
				planned[name] = t
			}
			for of, h := range l.shapes {
				r := job.Resources{CPUs: of.nodes * of.cpus, GPUs: of.nodes * of.gpus}
				n := limit.room(t, r, h.n)
				t.jobs, t.cpus, t.gpus = t.jobs+n, t.cpus+n*r.CPUs, t.gpus+n*r.GPUs
				if n > 0 {
					sums[kind{of.resources(), of.nodes}] += n
				}
			}
		}
	}
	list := make([]demand, 0, len(sums))
	for k, n := range sums {
		list = append(list, demand{k.Resources, k.nodes, n})
	}
	return list
}

// room is how many of n jobs a limit lets a team run beside what it has.
func (l Limit) room(t *team, r job.Resources, n int) int {
	for _, b := range []struct {
		most       *int
		have, each int
	}{{l.Jobs, t.jobs, 1}, {l.CPUs, t.cpus, r.CPUs}, {l.GPUs, t.gpus, r.GPUs}} {
		if b.most != nil && b.each > 0 {
			n = min(n, max(*b.most-b.have, 0)/b.each)
		}
	}
	return n
}

// newNodeHas is what a node that is added will have, as far as that is known.
func (st *step) newNodeHas() job.Resources {
	of := st.Head.Spec.node()
	if of.CPUs == 0 {
		for _, n := range st.Nodes {
			of.CPUs = max(of.CPUs, n.CPUs)
		}
	}
	return of
}

// housekeep moves the nodes on that need no job to do so: idle ones leave,
// drained ones leave, late ones are given up.
func (st *step) housekeep() {
	c := st.census()
	spare := c.working + c.coming - st.Head.Spec.Nodes.Min
	for _, n := range st.sorted() {
		if !st.room() {
			return
		}
		if !n.From.IsZero() && n.State != NodeGone && st.now.Sub(n.From) >= st.rules.IntervalLength {
			st.count(n)
			st.closeInterval(n)
		}
		switch n.State {
		case NodeCreating, NodeBooting:
			if st.now.Sub(n.CreatedAt) > st.rules.BootDeadline {
				st.setNode(n, NodeFailed, "its agent did not come up in time")
				st.cameNot("its agent did not come up in time")
				st.remove(n)
			} else if st.Head.Deleting {
				st.remove(n)
			}
		case NodeReady:
			if st.idleTooLong(n, spare > 0) {
				st.remove(n)
				spare--
			}
		case NodeDraining:
			if len(n.jobs) == 0 {
				st.remove(n)
			}
		case NodeQuarantined:
			st.quarantined(n)
		case NodeFailed, NodeLost, NodeDeleting:
			if st.now.Sub(n.DeleteAt) >= st.rules.DeleteAgain {
				st.remove(n)
			}
		case NodeGone:
			if st.now.Sub(n.Since) > st.rules.RememberGone {
				delete(st.Nodes, n.VMID)
				delete(st.nodes, n.VMID)
				st.deletes = append(st.deletes, NodeKey(n.VMID))
			}
		}
	}
}

// idleTooLong reports whether an idle node is to leave now. spare says whether
// the pool has more nodes than it keeps in any case.
func (st *step) idleTooLong(n *Node, spare bool) bool {
	if st.Head.Down || st.Head.Deleting {
		return true
	}
	return spare && !st.gathering && st.now.Sub(n.Since) >= time.Duration(st.Head.Spec.IdleTimeout)
}

// remove has the instance deleted, by name. A node is only removed when nothing
// is assigned to it or its VM is given up; both are written under this head, so
// that no other writer can place work on it in between.
func (st *step) remove(n *Node) {
	if n.State != NodeLost && n.State != NodeFailed && n.State != NodeDeleting {
		st.setNode(n, NodeDeleting, n.Reason)
	}
	if n.InstanceID == "" {
		st.effects.List = true // its name is not known yet; the next listing brings it
		return
	}
	n.DeleteAt = st.now
	st.touch(n)
	st.effects.Remove = append(st.effects.Remove, n)
}

// finishDeleting takes down what a pool that is going still has, the jobs
// first, and its rows last.
func (st *step) finishDeleting() {
	if !st.Head.Deleting {
		return
	}
	for _, j := range st.liveJobs() {
		if !st.room() {
			return
		}
		st.cancel(j, "its pool was deleted")
	}
	if len(st.Jobs) > 0 || st.anyAlive() || st.Head.Op.Kind != "" {
		return
	}
	if st.Head.SetDropped {
		st.effects.DropRows = true
		return
	}
	if st.now.Before(st.Head.Blocked.Until) {
		return
	}
	st.Head.Op = Op{Kind: OpDrop, AskedAt: st.now}
	st.effects.DropSet = true
}
