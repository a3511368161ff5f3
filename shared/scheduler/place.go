package scheduler

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// spaces holds the nodes that take work by the number of cpus free on them, so
// that the one with the least room that is enough is found at once.
type spaces [][]*Node

const (
	nowhere   = -1
	manyCPUs  = 1024 // free on an empty node whose number of cpus is not known
	neverEnds = 1 << 62
)

// offer puts a node where it belongs among the spaces.
func (s *State) offer(n *Node) {
	space := nowhere
	if n.State == pool.NodeReady || n.State == pool.NodeBusy {
		switch {
		case len(n.jobs) == 0 && n.CPUs == 0:
			space = manyCPUs
		case len(n.jobs) == 0 || s.Head.Spec.Pack:
			space = max(n.CPUs-n.used.CPUs, 0)
		}
	}
	if space == n.space {
		return
	}
	if n.space != nowhere {
		at := s.spaces[n.space]
		i := sort.Search(len(at), func(i int) bool { return at[i].VMID >= n.VMID })
		s.spaces[n.space] = append(at[:i], at[i+1:]...)
	}
	if n.space = space; space == nowhere {
		return
	}
	for len(s.spaces) <= space {
		s.spaces = append(s.spaces, nil)
	}
	at := s.spaces[space]
	i := sort.Search(len(at), func(i int) bool { return at[i].VMID >= n.VMID })
	at = append(at, nil)
	copy(at[i+1:], at[i:])
	at[i] = n
	s.spaces[space] = at
}

// occupy gives nodes what the job's current attempt takes of them, and counts it
// for its team.
func (s *State) occupy(j *Job) {
	for _, p := range j.Assignments() {
		if n := s.Nodes[p.VMID]; n != nil {
			s.hold(j, n, p.N, p.GPUs)
		}
	}
	j.part = s.Head.Spec.PartOfNode(j.Spec.Resources) * float64(max(j.Spec.Nodes, 1))
	s.team(j.Spec.Team).count(j, 1)
	s.onNodes(j, 1)
}

// left says that the attempt has no part on any node any more.
func (s *State) left(j *Job) {
	s.team(j.Spec.Team).count(j, -1)
	j.N, j.VMID = 0, ""
	s.onNodes(j, -1)
}

// hold gives a node what a job takes of it.
func (s *State) hold(j *Job, n *Node, number int64, gpus []int) {
	r := j.Spec.Resources
	n.jobs[number] = j
	n.used = job.Resources{CPUs: n.used.CPUs + r.CPUs, GPUs: n.used.GPUs + r.GPUs, Memory: n.used.Memory + r.Memory}
	for _, i := range gpus {
		n.gpus |= 1 << i
	}
	s.offer(n)
}

// free takes it away again.
func (s *State) free(j *Job, n *Node, number int64, gpus []int) {
	r := j.Spec.Resources
	delete(n.jobs, number)
	n.used = job.Resources{CPUs: n.used.CPUs - r.CPUs, GPUs: n.used.GPUs - r.GPUs, Memory: n.used.Memory - r.Memory}
	for _, i := range gpus {
		n.gpus &^= 1 << i
	}
	s.offer(n)
}

// onNodes counts a job that runs, or does not any more.
func (s *State) onNodes(j *Job, sign int) {
	s.running += sign
	if w := s.sweepOf(j); w != nil {
		w.job.Progress.Running += sign
		s.counted(w)
	}
}

// total is what a node has.
func (n *Node) total() job.Resources {
	return job.Resources{CPUs: n.CPUs, GPUs: n.GPUs, Memory: n.Memory}
}

// fits reports whether a node with this much in use has room for more. A node
// of which little is known takes one job at a time.
func fits(total, used, want job.Resources) bool {
	if total.CPUs == 0 {
		return used.CPUs == 0
	}
	return used.CPUs+want.CPUs <= total.CPUs && used.GPUs+want.GPUs <= total.GPUs &&
		(total.Memory == 0 || used.Memory+want.Memory <= total.Memory)
}

// indexes picks GPUs of a node that nobody uses, the lowest first.
func (n *Node) indexes(want int) []int {
	var picked []int
	for used := n.gpus; len(picked) < want; used |= 1 << picked[len(picked)-1] {
		picked = append(picked, bits.TrailingZeros64(^used))
	}
	return picked
}

// placing is the placing of one step.
type placing struct {
	*step
	unfit    map[shape]bool    // no node takes these now
	out      map[*jobHeap]bool // through for this step
	reserved *reservation      // for the first job that finds no place
	found    []*Node           // by the last call of find
}

// candidate is a team's next job.
type candidate struct {
	*line
	job    *Job
	charge float64
}

// place puts waiting jobs on nodes: the better priority class first, within a
// class the team with the least charge for its weight, within a team the oldest
// job. The first job that finds no place gets a reservation, and those behind it
// go ahead only where they do not delay it.
func (st *step) place() {
	for j := st.queue.due(st.now); j != nil && st.room(); j = st.queue.due(st.now) {
		st.queue.remove(j)
		if j.State == job.Held && !st.Head.Down {
			j.State, j.Reason = job.Queued, ""
			st.write(j)
		}
		st.wait(j, st.now)
	}
	if st.Head.Down || st.Head.Deleting || st.queue.waiting() == 0 || st.noSpace() {
		return
	}
	p := &placing{step: st, unfit: map[shape]bool{}, out: map[*jobHeap]bool{}}
	for class := range st.queue.classes {
		p.placeClass(class)
	}
}

// noSpace reports whether no node takes any work, without looking at the line.
func (s *State) noSpace() bool {
	for free := len(s.spaces) - 1; free > 0; free-- {
		if len(s.spaces[free]) > 0 {
			return false
		}
	}
	return true
}

func (p *placing) placeClass(class int) {
	var line []candidate
	for name, l := range p.queue.classes[class] {
		line = append(line, candidate{l, l.first(p.out), p.charge(name)})
	}
	for {
		c := least(line)
		if c == nil {
			return
		}
		heap := c.job.heap
		switch on := p.find(c); {
		case on == nil:
			p.out[heap] = true
		case !p.roomOn(len(on)):
			return
		default:
			j := c.job
			if j.Spec.Sweep != nil {
				j = p.next(j)
			} else {
				p.leave(j)
			}
			p.assign(j, on)
			p.reserved.take(j, on)
			c.charge = p.charge(c.team)
		}
		c.job = c.line.first(p.out)
	}
}

// least is the candidate of the team with the least charge, of several the one
// that waits longest; nil when there is none.
func least(line []candidate) *candidate {
	var best *candidate
	for i := range line {
		c := &line[i]
		if c.job != nil && (best == nil || c.charge < best.charge || c.charge == best.charge && older(c.job, best.job)) {
			best = c
		}
	}
	return best
}

// find is where a team's next job goes, a node or a gang's nodes; nil when it has
// to wait. What it returns is good until the next call.
func (p *placing) find(c *candidate) []*Node {
	j := c.job
	if !isWithin(p.Head.Spec.LimitOf(c.team), p.teams[c.team], j.Spec.Total()) {
		return nil // it waits for its own team, so nothing is kept for it
	}
	of := shapeOf(j)
	if p.unfit[of] {
		return nil
	}
	p.found = p.found[:0]
	for free := of.cpus; free < len(p.spaces); free++ {
		for _, n := range p.spaces[free] {
			if !fits(n.total(), n.used, j.Spec.Resources) || !p.suits(of, n) || !p.reserved.allows(of, n, p.now) {
				continue
			}
			if p.found = append(p.found, n); len(p.found) == of.nodes {
				return p.found
			}
		}
	}
	p.unfit[of] = true
	if p.reserved == nil {
		p.reserved = p.reserve(j)
	}
	return nil
}

// suits reports whether a shape may be put on a node of this kind, and on this one
// among them.
func (st *step) suits(of shape, n *Node) bool {
	return st.kindSuits(of, n) && (of.avoid == "" || !st.shuns(of, n) || !st.elsewhere(of))
}

func (s *State) kindSuits(of shape, n *Node) bool {
	return !of.regular || !n.Spot || !s.Head.Spec.HasRegular()
}

// reservation keeps nodes for the job that waits longest: one, or those of a gang.
// The others may use them as long as the job does not wait any longer for it: when
// they end before it can begin, or fit beside it.
type reservation struct {
	job   *Job
	spare map[*Node]job.Resources // what is left on each of its nodes beside the job, when it begins
	at    time.Time               // when all of them have room, at the latest; zero = nobody knows
}

// reserve finds where a job that fits nowhere now can begin first. A job of one
// node that waits for a node that is coming needs nothing kept, as nobody can take
// that from it; a gang gathers its nodes while they come.
func (st *step) reserve(j *Job) *reservation {
	r := &reservation{job: j, spare: map[*Node]job.Resources{}}
	c := st.census()
	growing := c.coming+st.pending() > 0 || st.mayGrow(c)
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
	for _, n := range st.sorted() {
		if n.space == nowhere && (n.State != pool.NodeReady && n.State != pool.NodeBusy) {
			continue
		}
		// First by the number of jobs that have to end and may run for ever, then
		// by time. Neither can grow by what is let past, so the wait has an end.
		unknown, at, spare := n.frees(j.Spec.Resources, st.now, st.Head.Spec.Pack)
		o := option{n, rankOf(unknown, at, st.now), at, spare}
		if unknown > 0 {
			o.at = time.Time{}
		}
		if fits(n.total(), job.Resources{}, j.Spec.Resources) && st.suits(shapeOf(j), n) {
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
	// A full pool of nodes that are too small for the job makes room for others.
	if short := want - len(options); short > 0 && c.counted()+st.pending() >= st.Head.Spec.Nodes.Max {
		for _, o := range unfit[:min(len(unfit), short)] {
			r.spare[o.node] = job.Resources{}
			st.vacate[o.node.VMID] = true
		}
	}
	r.at = st.now
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
		st.kept[o.node.VMID] = j.Spec.Nodes > 0
	}
	return r
}

func rankOf(unknown int, at, now time.Time) uint64 {
	return uint64(unknown)<<48 | uint64(max(at.Sub(now), 0)/time.Millisecond)&(1<<48-1)
}

// frees is when the node has room for what is wanted: how many jobs without a
// known end have to end first, when the last of the others does, and what is
// left beside it then.
func (n *Node) frees(want job.Resources, now time.Time, pack bool) (unknown int, at time.Time, spare job.Resources) {
	running := make([]*Job, 0, len(n.jobs))
	for _, j := range n.jobs {
		running = append(running, j)
	}
	sort.Slice(running, func(i, k int) bool {
		a, b := running[i].ends(now), running[k].ends(now)
		if a.Equal(b) {
			return running[i].N < running[k].N
		}
		return !a.IsZero() && (b.IsZero() || a.Before(b))
	})
	used, at := n.used, now
	for i := 0; i < len(running) && (!fits(n.total(), used, want) || !pack); i++ {
		j := running[i]
		used.CPUs -= j.Spec.Resources.CPUs
		used.GPUs -= j.Spec.Resources.GPUs
		used.Memory -= j.Spec.Resources.Memory
		if end := j.ends(now); end.IsZero() {
			unknown++
		} else {
			at = end
		}
	}
	if pack {
		spare = job.Resources{CPUs: n.CPUs - used.CPUs - want.CPUs, GPUs: n.GPUs - used.GPUs - want.GPUs, Memory: n.Memory - used.Memory - want.Memory}
	}
	return unknown, at, spare
}

// ends is when a job's attempt is over at the latest; zero when nobody knows.
func (j *Job) ends(now time.Time) time.Time {
	a := j.Current()
	if j.Spec.Timeout == 0 {
		return time.Time{}
	}
	return later(later(a.AssignedAt, a.StartedAt).Add(time.Duration(j.Spec.Timeout)), now)
}

// allows reports whether a job of a shape may use a node in spite of the
// reservation.
func (r *reservation) allows(of shape, n *Node, now time.Time) bool {
	if r == nil {
		return true
	}
	spare, kept := r.spare[n]
	if !kept || of.within > 0 && !r.at.IsZero() && !now.Add(of.within).After(r.at) {
		return true
	}
	return of.cpus <= spare.CPUs && of.gpus <= spare.GPUs && (n.Memory == 0 || of.memory <= spare.Memory)
}

// take notes that a job was let past onto a reserved node.
func (r *reservation) take(j *Job, on []*Node) {
	if r == nil {
		return
	}
	if end := j.ends(j.Current().AssignedAt); !end.IsZero() && !r.at.IsZero() && !end.After(r.at) {
		return
	}
	for _, n := range on {
		if spare, kept := r.spare[n]; kept {
			spare.CPUs -= j.Spec.Resources.CPUs
			spare.GPUs -= j.Spec.Resources.GPUs
			spare.Memory -= j.Spec.Resources.Memory
			r.spare[n] = spare
		}
	}
}
