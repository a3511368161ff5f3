package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
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
		return max(backoff.After(tries, firstPause, longestPause), err.RetryAfter)
	}
}

// Pauses between tries of a call to Azure that failed for a passing reason. The
// pause is never shorter than the one that Azure asks for.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// census counts the pool's nodes by what they are good for.
type census struct {
	working int // ready or busy
	coming  int // creating or booting
	leaving int // draining, failed or lost: still there, taking no work
	aside   int // quarantined: kept for a look, beside the pool's nodes
	going   int // deleting
	dying   int // of those that are leaving: their deletion was asked for, so that the capacity may not count them any more
}

func (s *State) census() census { return s.tally(func(*Node) bool { return true }) }

func (s *State) tally(of func(*Node) bool) census {
	var c census
	for _, n := range s.Nodes {
		if !of(n) {
			continue
		}
		switch n.State {
		case pool.NodeReady, pool.NodeBusy:
			c.working++
		case pool.NodeCreating, pool.NodeBooting:
			c.coming++
		case pool.NodeDraining, pool.NodeFailed, pool.NodeLost:
			c.leaving++
			if !n.DeleteAt.IsZero() {
				c.dying++
			}
		case pool.NodeQuarantined:
			c.aside++
		case pool.NodeDeleting:
			c.going++
		}
	}
	return c
}

// here is what Azure has, as far as it is not being deleted.
func (c census) here() int { return c.working + c.coming + c.leaving + c.aside }

// counted is what counts towards `nodes.max`.
func (c census) counted() int { return c.working + c.coming + c.leaving }

// stays is what a capacity counts when the deletions that were asked for have begun.
func (c census) stays() int { return c.here() - c.dying }

// censusOf counts the nodes of one set.
func (s *State) censusOf(set *pool.Set) census {
	return s.tally(func(n *Node) bool { return n.Set == set.Name })
}

// pending is the number of instances that were asked of all sets and have not been
// seen yet.
func (s *State) pending() int {
	n := 0
	for i := range s.Head.Sets {
		n += s.Head.Sets[i].Pending()
	}
	return n
}

func (s *State) anyAlive() bool {
	c := s.census()
	return c.here()+c.going > 0
}

// grow asks for the nodes that the waiting jobs need, in the step that sees them. A
// request takes the place of the one that is under way, since it asks for more: an
// instance that is stuck holds up nobody but itself.
func (st *step) grow() {
	wanted, more := st.plan()
	st.Head.Wanted = wanted
	for i := range st.Head.Sets {
		set := &st.Head.Sets[i]
		add := more[set.Name]
		if set.QuotaLimit > 0 {
			add = min(add, set.QuotaLimit)
		}
		// What a failed call has left in doubt is asked for again.
		again := set.Op.Kind == "" && set.Unbacked && set.Pending() > 0 && st.queue.waiting() > 0 && st.buys(set, 1) > 0
		switch {
		case !st.Head.Deleting && (add > 0 || again) && st.mayAskMore(set):
			st.askMore(set, add)
		case set.Op.Kind != "":
			st.follow(set)
		case !st.Head.Deleting && add == 0 && !st.now.Before(set.Blocked.Until):
			st.settle(set)
		}
	}
}

// mayAskMore reports whether a set may be asked for more nodes in this step; when
// that is only a matter of time, the step is to be called again then.
func (st *step) mayAskMore(set *pool.Set) bool {
	if st.now.Before(set.Blocked.Until) {
		return false
	}
	at := mayAskAt(set, st.now)
	if at.IsZero() || !at.After(st.now) {
		return !at.IsZero()
	}
	if st.growAt.IsZero() || at.Before(st.growAt) {
		st.growAt = at
	}
	return false
}

// askMore asks a set for so many instances beside those that it has and that are on
// their way.
func (st *step) askMore(set *pool.Set, add int) {
	op := pool.Op{Kind: pool.OpGrow, Target: st.censusOf(set).stays() + set.Pending() + add, Adds: add, AskedAt: st.now}
	if set.Op.Kind == pool.OpGrow && set.Op.Token != "" {
		under := set.Op
		op.Under = &under
	}
	if set.Breaker.Open() { // one to see; the next when this one has not come up either
		set.Breaker.ProbeAt = st.now.Add(st.rules.BootDeadline)
	}
	set.Used, set.Op = true, op
	set.AddRequest(add, st.now)
	countWrite(set, st.now)
	st.callsOf(set).Grow = op.Target
}

// callsOf is what a step wants of one set.
func (st *step) callsOf(set *pool.Set) *pool.SetCalls {
	if st.effects.Sets == nil {
		st.effects.Sets = map[string]*pool.SetCalls{}
	}
	c := st.effects.Sets[set.Name]
	if c == nil {
		c = &pool.SetCalls{}
		st.effects.Sets[set.Name] = c
	}
	c.Set = *set
	return c
}

// operationForgotten is after how long an operation without an answer counts as
// never asked: the process that was to ask was killed in between.
const operationForgotten = time.Minute

// operationDeadline is after how long an accepted operation is not followed any
// more: Azure gives a VM half an hour to come up, and the listing tells what
// became of it.
const operationDeadline = time.Hour

// follow looks after the operation in flight.
func (st *step) follow(set *pool.Set) {
	op := &set.Op
	switch {
	case op.Token != "" && st.now.Sub(op.AskedAt) > operationDeadline:
		*op = pool.Op{}
		st.effects.List = true
	case op.Token != "" && !st.now.Before(op.PollAt):
		c := st.callsOf(set)
		c.Poll, c.PollKind = op.Token, op.Kind
		op.PollAt = st.now.Add(st.rules.PollEvery) // in case that look is lost
	case op.Token == "" && st.now.Sub(op.AskedAt) > operationForgotten:
		op.AskedAt = st.now
		op.Tries++
		if op.Kind == pool.OpGrow {
			if op.Target = st.censusOf(set).stays() + set.Pending(); op.Target == 0 || st.Head.Deleting {
				*op = pool.Op{}
				st.effects.List = true
				return
			}
			countWrite(set, st.now)
		}
		c := st.callsOf(set)
		switch op.Kind {
		case pool.OpGrow:
			c.Grow = op.Target
		case pool.OpShrink:
			c.Shrink = true
		case pool.OpDrop:
			c.Drop = true
		}
	}
}

// settle gives up instances that were asked for and never came: past the boot
// deadline, or when the call for them failed and nothing is wanted any more, with
// a fresh listing and nothing running, the capacity is written down to what is
// there, so that they are not awaited, and billed, for ever.
func (st *step) settle(set *pool.Set) {
	if c := st.censusOf(set); c.here()+c.going > 0 || set.Capacity == 0 || !set.Unbacked || !set.Listed.Equal(st.now) {
		return
	}
	set.Op = pool.Op{Kind: pool.OpShrink, AskedAt: st.now}
	countWrite(set, st.now)
	st.callsOf(set).Shrink = true
}

// mayGrow reports whether the pool may ask for another node now.
func (st *step) mayGrow(c census) bool {
	if st.Head.Deleting || st.Head.Down || c.counted()+st.pending() >= st.Head.Spec.Nodes.Max {
		return false
	}
	message, _ := st.blocked(func(*pool.Set) bool { return true })
	return message == ""
}

// bin is a node that is coming, or would be added, with what it would hold.
type bin struct {
	set  *pool.Set
	has  job.Resources // zero cpus: not known
	used job.Resources
}

// plan is how many nodes the pool wants in all, and how many more to ask of each
// set: those that the line would fill, the largest shapes first, each on the first
// node with room, a gang's ranks on one each; first on the nodes that are coming,
// then on new ones of the best rung that can give any. Jobs that wait for a limit of
// their team need none.
func (st *step) plan() (wanted int, more map[string]int) {
	if st.Head.Deleting || st.Head.Down {
		return 0, nil
	}
	c := st.census()
	bounds := st.Head.Spec.Nodes
	p := planning{step: st, free: bounds.Max - c.counted() - st.pending(), more: map[string]int{}}
	for i := range st.Head.Sets {
		set := &st.Head.Sets[i]
		if !set.Used {
			continue
		}
		sc := st.censusOf(set)
		for range sc.coming + set.Pending() {
			p.bins = append(p.bins, bin{set: set, has: st.newNodeHas(set)})
		}
	}
	coming := len(p.bins)
	demand := st.demand()
	slices.SortFunc(demand, func(a, b demandOf) int {
		pa, pb := st.Head.Spec.PartOfNode(a.Resources), st.Head.Spec.PartOfNode(b.Resources)
		return cmp.Or(cmp.Compare(pb, pa), cmp.Compare(b.CPUs, a.CPUs), cmp.Compare(b.GPUs, a.GPUs), cmp.Compare(b.Memory, a.Memory),
			cmp.Compare(b.nodes, a.nodes), cmp.Compare(btoi(b.regular), btoi(a.regular)), cmp.Compare(a.avoid, b.avoid))
	})
	for _, d := range demand {
		if d.nodes == 1 {
			p.fill(d, d.jobs, d.jobs)
			continue
		}
		// What is kept for the first gang already counts, as it is there.
		here := min(st.roomy(shape{nodes: d.nodes, cpus: d.CPUs, gpus: d.GPUs, memory: d.Memory, regular: d.regular, avoid: d.avoid}), d.nodes)
		for range min(d.jobs, bounds.Max) {
			p.fill(d, d.nodes-here, 1)
			here = 0
		}
	}
	used := 0
	for i := range p.bins {
		if i >= coming || p.bins[i].used.CPUs > 0 {
			used++
		}
	}
	for len(p.bins)-coming < bounds.Min-c.working-c.leaving-coming && p.open(demandOf{}) {
		used++
	}
	return min(max(c.working+c.leaving+used+p.missing, bounds.Min), bounds.Max), p.more
}

// planning is the packing of what waits onto nodes that are not there yet.
type planning struct {
	*step
	bins    []bin
	free    int // how many more the pool may have
	more    map[string]int
	missing int // nodes that no rung can give now
}

// fill puts n of a demand onto nodes, at most so many on each.
func (p *planning) fill(d demandOf, n, each int) {
	for i := 0; n > 0; i++ {
		if i == len(p.bins) && !p.open(d) {
			if p.missing < p.free {
				p.missing++
			}
			return
		}
		b := &p.bins[i]
		if d.regular && b.set.Spot && p.Head.Spec.HasRegular() {
			continue
		}
		var fit int
		switch {
		case b.has.CPUs == 0 || !p.Head.Spec.Pack:
			if b.used.CPUs == 0 {
				fit = 1
			}
		default:
			fit = min(n, each, max(times(b.has, b.used, d.Resources), 0))
		}
		n -= fit
		b.used.CPUs += fit * d.CPUs
		b.used.GPUs += fit * d.GPUs
		b.used.Memory += job.Bytes(fit) * d.Memory
	}
}

// open adds a node of the best rung that can give one with room for a demand.
func (p *planning) open(d demandOf) bool {
	if p.free <= 0 {
		return false
	}
	for i := range p.Head.Sets {
		set := &p.Head.Sets[i]
		has := p.newNodeHas(set)
		switch {
		case p.rung(set.Name) < 0 || p.now.Before(set.Blocked.Until) || set.Op.Kind == pool.OpDrop:
		case p.buys(set, p.more[set.Name]+1) <= p.more[set.Name]: // its nodes do not come up
		case d.regular && set.Spot && p.Head.Spec.HasRegular():
		case has.CPUs > 0 && d.CPUs > 0 && times(has, job.Resources{}, d.Resources) < 1:
		case set.QuotaLimit > 0 && p.more[set.Name] >= set.QuotaLimit: // the next rung, for the rest
		default:
			p.bins = append(p.bins, bin{set: set, has: has})
			p.more[set.Name]++
			p.free--
			return true
		}
	}
	return false
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

// demandOf is a number of waiting jobs that take the same of a node.
type demandOf struct {
	job.Resources // of each of its nodes
	nodes         int
	regular       bool
	avoid         string // as in shape
	jobs          int
}

// demand sums up the line, as far as the limits of the teams let it run.
func (st *step) demand() []demandOf {
	type kind struct {
		job.Resources
		nodes   int
		regular bool
		avoid   string
	}
	sums := map[kind]int{}
	planned := map[string]*team{}
	for _, class := range st.queue.classes {
		for name, l := range class {
			limit := st.Head.Spec.LimitOf(name)
			t := planned[name]
			if t == nil {
				t = &team{}
				if now := st.teams[name]; now != nil {
					*t = *now
				}
				planned[name] = t
			}
			heaps := slices.Collect(maps.Values(l.shapes))
			slices.SortFunc(heaps, func(a, b *jobHeap) int { return byAge(a.jobs[0], b.jobs[0]) })
			for _, h := range heaps { // the oldest first, as far as the limit goes
				of := shapeOf(h.jobs[0])
				r := job.Resources{CPUs: of.nodes * of.cpus, GPUs: of.nodes * of.gpus}
				n := roomUnder(limit, t, r, h.n)
				t.jobs, t.cpus, t.gpus = t.jobs+n, t.cpus+n*r.CPUs, t.gpus+n*r.GPUs
				if n > 0 {
					sums[kind{of.resources(), of.nodes, of.regular, of.avoid}] += n
				}
			}
		}
	}
	list := make([]demandOf, 0, len(sums))
	for k, n := range sums {
		list = append(list, demandOf{k.Resources, k.nodes, k.regular, k.avoid, n})
	}
	return list
}

// roomUnder is how many of n jobs a limit lets a team run beside what it has.
func roomUnder(l pool.Limit, t *team, r job.Resources, n int) int {
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

// newNodeHas is what a node that is added to a set will have, as far as that is
// known.
func (st *step) newNodeHas(set *pool.Set) job.Resources {
	of := set.Resources()
	if of.CPUs == 0 {
		for _, n := range st.Nodes {
			if n.Set == set.Name {
				of.CPUs = max(of.CPUs, n.CPUs)
			}
		}
	}
	return of
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// housekeep moves the nodes on that need no job to do so: idle ones leave,
// drained ones leave, late ones are given up.
func (st *step) housekeep() {
	c := st.census()
	spare := c.working + c.coming - st.Head.Spec.Nodes.Min
	// The worst rung first: of the nodes that are too many, the best ones stay.
	list := st.sorted()
	slices.SortStableFunc(list, func(a, b *Node) int { return cmp.Compare(uint(st.rung(b.Set)), uint(st.rung(a.Set))) })
	for _, n := range list {
		if !st.room() {
			return
		}
		if !n.From.IsZero() && n.State != pool.NodeGone && st.now.Sub(n.From) >= st.rules.IntervalLength {
			st.count(n)
			st.closeInterval(n)
		}
		switch n.State {
		case pool.NodeCreating, pool.NodeBooting:
			if st.tooLate(n) || st.Head.Deleting {
				st.remove(n)
			}
		case pool.NodeReady:
			if st.rung(n.Set) < 0 || st.vacate[n.VMID] || st.idleTooLong(n, spare > 0) {
				st.remove(n)
				spare--
			}
		case pool.NodeBusy:
			if st.rung(n.Set) < 0 {
				st.setNode(n, pool.NodeDraining, "the pool's `sizes` or `capacity` do not have it any more")
			}
		case pool.NodeDraining:
			if len(n.jobs) == 0 {
				st.remove(n)
			}
		case pool.NodeQuarantined:
			st.quarantined(n)
		case pool.NodeFailed, pool.NodeLost, pool.NodeDeleting:
			if st.now.Sub(n.DeleteAt) >= st.rules.DeleteAgain {
				st.remove(n)
			}
		case pool.NodeGone:
			if st.now.Sub(n.Since) > st.rules.RememberGone {
				delete(st.Nodes, n.VMID)
				delete(st.nodes, n.VMID)
				st.deletes = append(st.deletes, pool.NodeKey(n.VMID))
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
	return spare && !st.kept[n.VMID] && st.now.Sub(n.Since) >= time.Duration(st.Head.Spec.IdleTimeout)
}

// remove has the instance deleted, by name. A node is only removed when nothing
// is assigned to it or its VM is given up; both are written under this head, so
// that no other writer can place work on it in between.
func (st *step) remove(n *Node) {
	if n.State != pool.NodeLost && n.State != pool.NodeFailed && n.State != pool.NodeDeleting {
		st.setNode(n, pool.NodeDeleting, n.Reason)
	}
	if n.InstanceID == "" {
		st.effects.List = true // its name is not known yet; the next listing brings it
		return
	}
	n.DeleteAt = st.now
	st.touch(n)
	st.effects.Remove = append(st.effects.Remove, n.Node)
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
	if len(st.Jobs) == 0 && !st.anyAlive() && st.dropSets(func(*pool.Set) bool { return true }) {
		st.effects.DropRows = true
	}
}

// dropSets deletes the scale sets that are to go, and reports whether none is left.
func (st *step) dropSets(which func(*pool.Set) bool) bool {
	gone := true
	for i := range st.Head.Sets {
		set := &st.Head.Sets[i]
		if !set.Used || !which(set) {
			continue
		}
		gone = false
		if c := st.censusOf(set); c.here()+c.going == 0 && st.mayAsk(set) {
			set.Op = pool.Op{Kind: pool.OpDrop, AskedAt: st.now}
			st.callsOf(set).Drop = true
		}
	}
	return gone
}
