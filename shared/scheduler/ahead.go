package scheduler

import (
	"container/heap"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Assigned ahead. Between the end of a job and the start of the next one on its node lie a
// report, a step and a message. So that a node does not stand still meanwhile, it gets more
// short jobs than run there at once: so many that, as far as their kinds tell, the last one
// begins within aheadWait. Its agent starts them in their order, as it has room. A job that is
// assigned ahead counts as running for limits, `parallel` and shares.
//
// Nobody waits longer for that. A job is assigned ahead only if no node has room for it and no
// job that is before it in line waits. What has not begun after Timing.AheadFor, or could
// begin at once on another node, or is in the way of a job of a better priority class, is
// recalled: see recall.go.

const (
	// aheadWait is how long the jobs may be expected to take that begin on a node before one
	// that is assigned ahead. Longer ones are not assigned ahead either.
	aheadWait = 500 * time.Millisecond
	// aheadPerCPU is how many cpus' worth of jobs may wait for each cpu that short jobs share.
	aheadPerCPU = 16
	// mostAhead bounds what a node holds beside what it runs.
	mostAhead = 256
)

// load is what the jobs of a node are expected to take of it; derived, and as much a hint as
// the run times are.
type load struct {
	long  int           // cpus of jobs that are not expected to end soon
	short time.Duration // sum of cpus x time of the others
	rich  int           // jobs that take more memory for each cpu than the node has
	since time.Time     // when the oldest that may wait was assigned or asked for; zero = look at all in the next step
}

// forgetSince makes the next step look at all that may wait.
func (l *load) forgetSince() { l.since = time.Time{} }

// countLoad adds a job to the load of its node.
func (s *State) countLoad(j *Job, n *Node) {
	if j.expect = 0; j.Spec.Nodes == 0 {
		if j.expect = s.runTimes.expect(j); j.expect > aheadWait {
			j.expect = 0
		}
	}
	j.isRich = isRich(n, j.Spec.Resources)
	n.load.add(j, 1)
	if !n.isBacklogged() {
		return
	}
	if at := j.Current().AssignedAt; !n.load.since.IsZero() {
		n.load.since = earlier(n.load.since, at)
		return
	}
	n.load.since = j.Current().AssignedAt
	for _, other := range n.jobs { // which of them wait is looked at when it is time
		n.load.since = earlier(n.load.since, other.Current().AssignedAt)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// add adds a job to a load, or takes it away again.
func (l *load) add(j *Job, sign int) {
	if cpus := sign * j.Spec.Resources.CPUs; j.expect == 0 {
		l.long += cpus
	} else {
		l.short += time.Duration(cpus) * j.expect
	}
	if j.isRich {
		l.rich += sign
	}
}

// isRich reports whether a job takes more memory for each of its cpus than a node has. Jobs
// that do not fit into the memory of a node if they fit into its cpus.
func isRich(n *Node, r job.Resources) bool {
	return r.Memory > 0 && (n.Memory == 0 || r.Memory*job.Bytes(n.CPUs) > n.Memory*job.Bytes(r.CPUs))
}

// distrust counts a job as one that is not expected to end soon.
func (n *Node) distrust(j *Job) {
	if j.expect > 0 {
		n.load.add(j, -1)
		j.expect = 0
		n.load.add(j, 1)
	}
}

// isBacklogged reports whether a node holds more than it runs at once.
func (n *Node) isBacklogged() bool { return n.CPUs > 0 && n.used.CPUs > n.CPUs }

// wait is how long the short jobs of a node are expected to take.
func (n *Node) wait() time.Duration { return n.load.short / time.Duration(max(n.CPUs-n.load.long, 1)) }

// takesAhead reports whether jobs may be assigned ahead to a node at all.
func (n *Node) takesAhead() bool {
	return n.takesWork() && !n.Outdated && n.CPUs > n.load.long && n.load.rich == 0 && n.knowsAhead()
}

// knowsAhead reports whether a node's agent lets assignments wait for their turn.
func (n *Node) knowsAhead() bool { return slices.Contains(n.Features, protocol.FeatureAhead) }

// hasRoomAhead reports whether a job may be assigned ahead to a node that takes such jobs.
func (n *Node) hasRoomAhead(r job.Resources) bool {
	shared := n.CPUs - n.load.long
	return r.CPUs <= shared && n.used.CPUs-n.load.long+r.CPUs <= shared*(1+aheadPerCPU) && len(n.jobs) < n.CPUs+mostAhead &&
		n.wait() <= aheadWait && !isRich(n, r)
}

// mayGoAhead reports whether a job may be assigned ahead: it is expected to end soon, takes
// one node, no GPU and no source that is fetched first, and has had no attempt yet.
func (pl *placement) mayGoAhead(j *Job) bool {
	s := &j.Spec
	if pl.aheadClosed || !pl.Head.Spec.Pack || s.Nodes > 0 || s.Resources.GPUs > 0 || s.Source != nil || len(j.Attempts) > 0 {
		return false
	}
	expect := pl.runTimes.expect(j)
	return expect > 0 && expect <= aheadWait
}

// mayAssignAhead reports whether a step has to look at the line although no node has room.
func (pl *placement) mayAssignAhead() bool {
	return len(pl.backlogs) > 0 || pl.runTimes.anyWithin(aheadWait)
}

// findAhead finds a node to which a job is assigned ahead, the one on which it begins first;
// nil: there is none.
func (pl *placement) findAhead(j *Job, of shape) *Node {
	if !pl.mayGoAhead(j) {
		return nil
	}
	if pl.ahead == nil {
		pl.ahead = byWait{}
		for _, n := range pl.sortedNodes() {
			if n.takesAhead() {
				pl.ahead = append(pl.ahead, n)
			}
		}
		heap.Init(&pl.ahead)
	}
	for i, n := range pl.ahead { // the first one of a heap is the least; the others are not in order
		if !n.takesAhead() || !n.hasRoomAhead(of.resources()) || !pl.suits(of, n) || pl.reservation.holds(n) {
			continue
		}
		pl.aheadAt = i
		return n
	}
	return nil
}

// noteAhead notes that a job was assigned ahead to the node found last.
func (pl *placement) noteAhead(n *Node) {
	if i := pl.aheadAt; i < len(pl.ahead) && pl.ahead[i] == n {
		heap.Fix(&pl.ahead, i)
	}
}

// byWait is a heap of nodes, the one with the least wait first.
type byWait []*Node

func (b byWait) Len() int { return len(b) }

func (b byWait) Less(i, j int) bool {
	if x, y := b[i].wait(), b[j].wait(); x != y {
		return x < y
	}
	return b[i].VMID < b[j].VMID
}

func (b byWait) Swap(i, j int) { b[i], b[j] = b[j], b[i] }

func (b *byWait) Push(x any) { *b = append(*b, x.(*Node)) }

func (b *byWait) Pop() any {
	last := len(*b) - 1
	n := (*b)[last]
	*b = (*b)[:last]
	return n
}

// holds reports whether a node is reserved for a job that waits.
func (r *reservation) holds(n *Node) bool {
	if r == nil {
		return false
	}
	_, isReserved := r.spare[n]
	return isReserved
}

// turnRoom is what an assignment says of the cpus that may be in use once it runs; 0 = it begins
// at once.
func (s *State) turnRoom(n *Node, w *protocol.Assignment) int {
	if !s.Head.Spec.Pack || w.Gang != nil || w.Session != nil || n.CPUs == 0 || !n.knowsAhead() {
		return 0
	}
	return n.CPUs
}

// waiting lists the assignments that wait on a node for their turn, oldest first, as far as
// the pool knows: a start is reported late, or with the end alone. What came before one that
// has begun had its turn before it.
func (n *Node) waiting() (list []int64) {
	if !n.isBacklogged() {
		return nil
	}
	cpus := 0
	all := numbers(n)
	var last int64 // that has begun
	for _, number := range all {
		j := n.jobs[number]
		if j.Spec.Nodes > 0 {
			cpus += j.Spec.Resources.CPUs
		} else if j.HasBegun(number) {
			last = number
		}
	}
	for _, number := range all {
		j := n.jobs[number]
		switch takes := j.Spec.Resources.CPUs; {
		case j.Spec.Nodes > 0:
		case number <= last:
			cpus += takes
		case len(list) == 0 && cpus+takes <= n.CPUs:
			cpus += takes
		default:
			list = append(list, number)
		}
	}
	return list
}

// before is how many jobs of its node a job waits for that has not begun; 0 = for none, it
// is being started.
func (s *State) before(j *Job) int {
	n := s.Nodes[j.VMID]
	if n == nil || j.Spec.Nodes > 0 || !slices.Contains(n.waiting(), j.N) {
		return 0
	}
	return slices.Index(numbers(n), j.N)
}

// isGivenBack reports whether an attempt never began, as its node says, and has not happened
// therefore: it was recalled, or its node goes.
func (t *turn) isGivenBack(j *Job, f protocol.Finished) bool {
	if !f.StartedAt.IsZero() || j.Cancel != "" || j.Rank(f.N) != nil {
		return false
	}
	late := j.Requeue && j.CancelAt.Sub(j.Current().AssignedAt) >= t.timing.AssignedFor
	return !late && (f.State == string(job.AttemptCancelled) || f.State == string(job.AttemptEvicted))
}

// noteBacklog keeps the list of the nodes that hold more than they run.
func (s *State) noteBacklog(n *Node) {
	if n.isBacklogged() && n.State != pool.NodeGone {
		s.backlogs[n] = struct{}{}
		return
	}
	delete(s.backlogs, n)
	n.load.forgetSince()
}
