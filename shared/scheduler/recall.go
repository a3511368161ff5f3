package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// recall asks nodes for assignments back that wait there for their turn. A node gives back
// only what has not begun: then the attempt has not happened, and the job is in its place in
// line again. Until the answer the job keeps its place on the node, so that it cannot begin
// twice. Nothing of that is in the rows: a process that does not know of the question asks
// once more, which changes nothing.
type recall struct {
	*turn
	placement *placement
}

// Reasons of a recall.
const (
	recalledForRoom  = "another node has room for it"
	recalledForOther = "a job of a better priority waits"
	recalledByLeave  = "its node takes no more work"
)

// recallWaiting recalls what waits on nodes that take no work any more, what waits for too
// long, what could begin at once on another node, and what is in the way of a job of a better
// priority class that has found no place in this step.
func (rc *recall) recallWaiting() {
	if len(rc.backlogs) == 0 {
		return
	}
	nodes := make([]*Node, 0, len(rc.backlogs))
	for n := range rc.backlogs {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return cmp.Compare(a.VMID, b.VMID) })
	for _, n := range nodes {
		switch {
		case n.State == pool.NodeLost || n.State == pool.NodeFailed || n.State == pool.NodeDeleting:
			n.load.forgetSince() // nobody answers there, or it was asked for all of it
		case !n.takesWork():
			rc.recallAll(n, recalledByLeave)
			n.load.since = rc.oldestWait(n)
		case rc.isDue(n):
			rc.recallLate(n)
			n.load.since = rc.oldestWait(n)
		}
		if j := rc.placement.unplaced; j != nil {
			rc.makeWay(n, j)
		}
	}
	rc.recallForRoom(nodes)
}

// isDue reports whether something may have waited too long on a node.
func (rc *recall) isDue(n *Node) bool { return !rc.now.Before(n.load.since.Add(rc.timing.AheadFor)) }

// recallAll recalls all that waits on a node.
func (rc *recall) recallAll(n *Node, why string) {
	for _, number := range n.waiting() {
		rc.ask(n, number, why)
	}
}

// recallLate recalls what has waited for too long. What runs there takes longer than
// expected, so that nothing more is assigned ahead before it has ended.
func (rc *recall) recallLate(n *Node) {
	waiting := n.waiting()
	late := false
	for _, number := range waiting {
		j := n.jobs[number]
		if rc.now.Sub(j.Current().AssignedAt) >= rc.timing.AheadFor && !rc.isRecalled(j) {
			rc.ask(n, number, fmt.Sprintf("it has waited there for %s", job.Duration(rc.timing.AheadFor)))
			late = true
		}
	}
	if !late {
		return
	}
	for number, j := range n.jobs {
		if !slices.Contains(waiting, number) {
			n.distrust(j)
		}
	}
}

// oldestWait is since when the oldest assignment may wait on a node, or was asked for last;
// zero: all have begun or are asked for, as far as the pool knows.
func (rc *recall) oldestWait(n *Node) (since time.Time) {
	for number, j := range n.jobs {
		if j.Spec.Nodes > 0 || j.HasBegun(number) || j.Cancel != "" || j.Requeue {
			continue
		}
		at := later(j.Current().AssignedAt, j.recalledAt)
		isDue := rc.now.Sub(at) >= rc.timing.AheadFor // it does not wait, as far as the pool knows
		if !isDue && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	return since
}

// makeWay recalls what waits on a node before a job of a better priority class.
func (rc *recall) makeWay(n *Node, first *Job) {
	of := shapeOf(first)
	if !fits(n.total(), job.Resources{}, of.resources()) || !rc.placement.suits(of, n) {
		return
	}
	for _, number := range n.waiting() {
		if rank(n.jobs[number].Spec.Priority) > rank(first.Spec.Priority) {
			rc.ask(n, number, recalledForOther)
		}
	}
}

// recallForRoom recalls as much as has room on other nodes, from the node with the longest
// wait on, the last in its line first.
func (rc *recall) recallForRoom(nodes []*Node) {
	if rc.hasNoRoom() || rc.Head.Down || rc.Head.Deleting {
		return
	}
	free := 0
	for cpus, at := range rc.index {
		free += cpus * len(at)
	}
	slices.SortStableFunc(nodes, func(a, b *Node) int { return cmp.Compare(b.wait(), a.wait()) })
	lists := make([][]int64, len(nodes))
	for i, n := range nodes {
		lists[i] = n.waiting()
		for _, number := range lists[i] { // what was recalled before takes room, too
			if j := n.jobs[number]; rc.isRecalled(j) {
				free -= j.Spec.Resources.CPUs
			}
		}
	}
	for i, n := range nodes {
		for _, number := range slices.Backward(lists[i]) {
			j := n.jobs[number]
			if free < j.Spec.Resources.CPUs {
				return
			}
			if of := shapeOf(j); !rc.isRecalled(j) && rc.placement.hasFreeRoom(of) {
				rc.ask(n, number, recalledForRoom)
				free -= j.Spec.Resources.CPUs
			}
		}
	}
}

// hasFreeRoom reports whether a job of a shape would be placed on a node now.
func (pl *placement) hasFreeRoom(of shape) bool {
	for free := of.cpus; free < len(pl.index); free++ {
		for _, n := range pl.index[free] {
			if fits(n.total(), n.used, of.resources()) && pl.suits(of, n) && pl.reservation.allows(of, n, pl.now) {
				return true
			}
		}
	}
	return false
}

// isRecalled reports whether a job was recalled a short time ago.
func (rc *recall) isRecalled(j *Job) bool {
	return !j.recalledAt.IsZero() && rc.now.Sub(j.recalledAt) < rc.timing.AheadFor
}

// ConfirmStep says that the last step is committed: what it recalls is sent.
func (s *State) ConfirmStep() { s.recalls = nil }

// forgetRecalls forgets what a step has recalled that was not committed, so that the next
// step recalls it again, and looks at all that waits on nodes.
func (s *State) forgetRecalls() {
	for _, j := range s.recalls {
		j.recalledAt = time.Time{}
	}
	s.recalls = nil
	for n := range s.backlogs {
		n.load.forgetSince()
	}
}

// forgetAllRecalls forgets what was recalled: the messages may be lost.
func (s *State) forgetAllRecalls() {
	s.forgetRecalls()
	for n := range s.backlogs {
		for _, j := range n.jobs {
			j.recalledAt = time.Time{}
		}
	}
}

// ask asks a node for an assignment back, unless it was asked a short time ago.
func (rc *recall) ask(n *Node, number int64, why string) {
	j := n.jobs[number]
	if rc.isRecalled(j) || j.Cancel != "" || j.Requeue {
		return
	}
	j.recalledAt = rc.now
	rc.recalls = append(rc.recalls, j)
	rc.Head.N++
	rc.send(n, protocol.WorkItem{N: rc.Head.N, Cancel: &protocol.Cancel{Target: number, Reason: why, IfWaiting: true}})
}
