package scheduler

import (
	"cmp"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// nodeWithRoom names a node that has room for a shape now; "" = there is none.
func (pl *placement) nodeWithRoom(of shape) string {
	for free := of.cpus; free < len(pl.index); free++ {
		for _, n := range pl.index[free] {
			if fits(n.total(), n.used, of.resources()) && pl.suits(of, n) {
				return n.Name
			}
		}
	}
	return ""
}

// countNodesWithRoom counts the nodes that have room for a shape now.
func (pl *placement) countNodesWithRoom(of shape) int {
	count := 0
	for free := of.cpus; free < len(pl.index); free++ {
		for _, n := range pl.index[free] {
			if fits(n.total(), n.used, of.resources()) && pl.suits(of, n) {
				count++
			}
		}
	}
	return count
}

// placement puts waiting jobs on nodes.
type placement struct {
	*turn
	capacity *capacity
	failures *failures
	sweeping *sweeping
	attempts *attempts

	noRoom        map[shape]bool    // no node has room for these now
	unfit         map[shape]bool    // nor is one of these assigned ahead
	unplaced      *Job              // the first job that finds no place
	ahead         byWait            // nodes to which jobs may be assigned ahead; nil: not looked at
	aheadAt       int               // where the last one that was found is in ahead
	aheadClosed   bool              // nothing is assigned ahead: a job that is before it waits
	skip          map[*jobHeap]bool // heaps whose first job finds no place in this step
	reservation   *reservation      // for the first job that finds no place
	found         []*Node           // the result of the last call of findNodes
	reservedNodes map[string]bool   // by VMID: nodes that stay idle until a gang has all of its nodes
	makeRoom      map[string]bool   // by VMID: nodes that leave because the job that waits longest does not fit on them
}

// candidate is a team's next job, and the charge that decides whether it is first.
type candidate struct {
	*teamLine
	job    *Job
	charge float64
}

// placeJobs puts waiting jobs on nodes: the better priority class first, within a class
// the team with the least charge for its weight, within a team the oldest job. The first
// job that finds no place gets a reservation. Jobs after it are placed only where they do
// not delay it.
func (pl *placement) placeJobs() {
	for j := pl.line.nextDue(pl.now); j != nil && pl.hasRoom(); j = pl.line.nextDue(pl.now) {
		pl.line.remove(j)
		if j.State == job.Held && !pl.Head.Down {
			j.State, j.Reason = job.Queued, ""
			pl.writeJob(j)
		}
		pl.startWaiting(j, pl.now)
	}
	if pl.Head.Down || pl.Head.Deleting || pl.line.waiting() == pl.line.countClass(stopped) || pl.hasNoRoom() && !pl.mayAssignAhead() {
		return
	}
	for class := range stopped {
		pl.placeClass(class)
	}
}

// placeClass places the jobs of one priority class.
func (pl *placement) placeClass(class int) {
	var line []candidate
	for name, l := range pl.line.classes[class] {
		line = append(line, candidate{l, l.first(pl.skip), pl.charge(name)})
	}
	for {
		c := least(line)
		if c == nil {
			return
		}
		heap := c.job.heap
		switch on := pl.findNodes(c); {
		case on == nil:
			pl.skip[heap] = true
		case !pl.hasRoomFor(len(on)):
			return
		default:
			j := c.job
			if j.Spec.Sweep != nil {
				j = pl.sweeping.startMember(j)
			} else {
				pl.stopWaiting(j)
			}
			pl.attempts.assignJob(j, on)
			pl.reservation.recordUse(j, on)
			pl.noteAhead(on[0])
			c.charge = pl.charge(c.team)
		}
		c.job = c.teamLine.first(pl.skip)
	}
}

// least is the candidate of the team with the least charge, and of several such teams the
// oldest job; nil: no team has a job.
func least(line []candidate) *candidate {
	var best *candidate
	for i := range line {
		c := &line[i]
		if c.job != nil && (best == nil || c.charge < best.charge || c.charge == best.charge && isOlder(c.job, best.job)) {
			best = c
		}
	}
	return best
}

// findNodes finds the node for a team's next job, or the nodes for a gang; nil: it has to
// wait. The result is valid until the next call.
func (pl *placement) findNodes(c *candidate) []*Node {
	j := c.job
	if !isWithin(pl.Head.Spec.LimitOf(c.team), pl.teams[c.team], j.Spec.Total()) {
		return nil // it waits for its own team, so no node is reserved for it
	}
	of := shapeOf(j)
	if pl.found = pl.found[:0]; !pl.noRoom[of] {
		if pl.collect(of, false) || pl.collect(of, true) {
			return pl.found
		}
		pl.noRoom[of] = true
	}
	if c.class == spared {
		return nil // no room is made or kept for it
	}
	if n := pl.findAhead(j, of); n != nil {
		pl.found = append(pl.found[:0], n)
		return pl.found
	}
	if pl.unfit[of] {
		return nil
	}
	pl.unfit[of] = true
	if pl.noSetHas(of) {
		return nil // no node can come that takes it, so that none makes room for it
	}
	if pl.unplaced == nil {
		pl.unplaced, pl.aheadClosed = j, true
	}
	if pl.reservation == nil {
		pl.reservation = pl.reserveNodes(j)
	}
	return nil
}

// collect adds nodes for a shape to those that are found, either the outdated ones or the
// others, and reports whether these are enough.
func (pl *placement) collect(of shape, outdated bool) bool {
	for free := of.cpus; free < len(pl.index); free++ {
		for _, n := range pl.index[free] {
			if n.Outdated != outdated || !fits(n.total(), n.used, of.resources()) || !pl.suits(of, n) || !pl.reservation.allows(of, n, pl.now) {
				continue
			}
			if pl.found = append(pl.found, n); len(pl.found) == of.nodes {
				return true
			}
		}
	}
	return false
}

// reserveAhead goes through the line, without placing a job, up to the first job that finds
// no node. It returns the job that has the reservation; nil: there is none.
func (pl *placement) reserveAhead() *Job {
	for class := range spared {
		var line []candidate
		for name, l := range pl.line.classes[class] {
			line = append(line, candidate{l, l.first(pl.skip), pl.charge(name)})
		}
		for c := least(line); c != nil; c = least(line) {
			if pl.findNodes(c); pl.reservation != nil {
				return pl.reservation.job
			}
			pl.skip[c.job.heap] = true
			c.job = c.teamLine.first(pl.skip)
		}
	}
	return nil
}

// suits reports whether a shape may go on nodes of this kind, and on this one.
func (pl *placement) suits(of shape, n *Node) bool {
	return pl.kindSuits(of, n) && (of.avoid == "" || !pl.failures.isShunned(of, n) || !pl.failures.canRunElsewhere(of))
}

// reserveNodes finds the nodes on which a job that has no place now can begin first. A job
// for one node that waits for a node that is coming needs no reservation: no other job can
// be placed on that node now. A gang reserves nodes while others come.
func (pl *placement) reserveNodes(j *Job) *reservation {
	r := &reservation{job: j, spare: map[*Node]job.Resources{}}
	c := pl.census()
	growing := c.coming+pl.pending() > 0 || pl.capacity.mayGrow(c)
	if growing && j.Spec.Nodes == 0 {
		return r
	}
	type option struct {
		node  *Node
		rank  uint64
		at    time.Time
		spare job.Resources
	}
	var options, unfit []option
	for _, n := range pl.sortedNodes() {
		if n.freeSlot == notIndexed && (n.State != pool.NodeReady && n.State != pool.NodeBusy) {
			continue
		}
		// The order: first by the number of jobs without a known end that have to end,
		// then by time. Jobs that are placed in between raise neither, so the wait ends.
		unknown, at, spare := n.findRoom(j.Spec.Resources, pl.now, pl.Head.Spec.Pack)
		o := option{n, rankOf(unknown, at, pl.now), at, spare}
		if unknown > 0 {
			o.at = time.Time{}
		}
		if fits(n.total(), job.Resources{}, j.Spec.Resources) && pl.suits(shapeOf(j), n) {
			options = append(options, o)
		} else {
			unfit = append(unfit, o)
		}
	}
	byRank := func(a, b option) int { return cmp.Compare(a.rank, b.rank) }
	slices.SortStableFunc(options, byRank)
	slices.SortStableFunc(unfit, byRank)
	want := max(j.Spec.Nodes, 1)
	options = options[:min(len(options), want)]
	// A full pool whose nodes do not suit the job makes room for others.
	if short := want - len(options); short > 0 && c.counted()+pl.pending() >= pl.Head.Spec.Nodes.Max {
		for _, o := range unfit[:min(len(unfit), short)] {
			r.spare[o.node] = job.Resources{}
			pl.makeRoom[o.node.VMID] = true
		}
	}
	r.at = pl.now
	for _, o := range options {
		r.spare[o.node] = o.spare
		if r.at.IsZero() || o.at.IsZero() {
			r.at = time.Time{}
		} else {
			r.at = later(r.at, o.at)
		}
	}
	if len(options) < want {
		r.at = time.Time{}
	}
	for _, o := range options {
		pl.reservedNodes[o.node.VMID] = j.Spec.Nodes > 0
	}
	return r
}
