package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// housekeeping does what needs no job and no report: it removes idle nodes, fences silent
// ones, gives up late ones, and asks late attempts back.
type housekeeping struct {
	*turn
	messages  *messages
	nodes     *nodeStates
	capacity  *capacity
	failures  *failures
	placement *placement
}

// releaseQuarantined removes a quarantined node when nothing runs on it and its time is
// over, or the pool is down or being deleted, or its set has to be empty.
func (hk *housekeeping) releaseQuarantined(n *Node) {
	set := hk.set(n.Set)
	if len(n.jobs) == 0 && (set != nil && set.Model.Fixed || hk.Head.Deleting || hk.Head.Down || hk.now.Sub(n.Since) >= pool.QuarantineFor) {
		hk.nodes.remove(n)
	}
}

// giveUpLate gives a node up if it did not come up in time, and reports whether it has.
func (hk *housekeeping) giveUpLate(n *Node) bool {
	if hk.now.Sub(n.askedAt()) <= hk.timing.BootDeadline {
		return false
	}
	within := job.Duration(hk.timing.BootDeadline)
	why, look := fmt.Sprintf("its agent did not report within %s of its being asked for", within), lookAtNode
	if stage := stageText(n); stage != "" {
		why, look = fmt.Sprintf("%s of its being asked for it still %s", within, stage), "look at `dsvm node console "+n.Name+"`"
	}
	if n.State == pool.NodeCreating {
		why, look = fmt.Sprintf("Azure had not made it %s after it was asked for", within), lookAtAzure
	}
	hk.nodes.setState(n, pool.NodeFailed, why)
	hk.capacity.recordNodeFailure(n, why+": "+look)
	return true
}

// giveUpStuckInBoot gives up nodes that worked before, have booted again, and take no work
// for as long as a new node has to come up. What ran there goes back in line. If half of
// the pool waits like that, the nodes are not at fault: then those that have jobs stay.
func (hk *housekeeping) giveUpStuckInBoot() {
	var stuck []*Node
	working := 0
	for _, n := range hk.sortedNodes() {
		if n.State != pool.NodeReady && n.State != pool.NodeBusy && n.State != pool.NodeDraining && n.State != pool.NodeQuarantined {
			continue
		}
		working++
		if n.Stage != "" && hk.now.Sub(n.StageAt) > hk.timing.BootDeadline {
			stuck = append(stuck, n)
		}
	}
	isCommon := len(stuck) > 1 && 2*len(stuck) >= working
	for _, n := range stuck {
		if hk.hasRoom() && (len(n.jobs) == 0 || !isCommon) {
			hk.nodes.setState(n, pool.NodeFailed, fmt.Sprintf("it has booted again, and after %s it still %s",
				job.Duration(hk.timing.BootDeadline), stageText(n)))
		}
	}
}

// moveNodesOn does for each node what its state and the time require: idle and drained
// nodes leave, late ones are given up, deletions are asked for again.
func (hk *housekeeping) moveNodesOn() {
	hk.giveUpStuckInBoot()
	c := hk.census()
	spare := c.working + c.coming - hk.minNodes()
	stay := hk.spareNodes()
	// The worst rung first, so that the best of the idle nodes stay.
	list := slices.Clone(hk.sortedNodes())
	slices.SortStableFunc(list, func(a, b *Node) int { return cmp.Compare(uint(hk.rungOf(b.Set)), uint(hk.rungOf(a.Set))) })
	for _, n := range list {
		if !hk.hasRoom() {
			return
		}
		if !n.From.IsZero() && n.State != pool.NodeGone && hk.now.Sub(n.From) >= hk.timing.IntervalLength {
			countTime(n.Node, hk.now)
			hk.nodes.closeInterval(n)
		}
		switch n.State {
		case pool.NodeCreating, pool.NodeBooting:
			if hk.giveUpLate(n) || hk.Head.Deleting {
				hk.nodes.remove(n)
			}
		case pool.NodeReady:
			if hk.rungOf(n.Set) < 0 || hk.placement.makeRoom[n.VMID] || hk.isIdleTooLong(n, spare > 0 && !stay[n.VMID]) {
				hk.nodes.remove(n)
				spare--
			}
		case pool.NodeBusy:
			if hk.rungOf(n.Set) < 0 {
				hk.nodes.setState(n, pool.NodeDraining, "the pool's `sizes` or `capacity` do not have it any more")
			}
		case pool.NodeDraining:
			if len(n.jobs) == 0 {
				hk.nodes.remove(n)
			}
		case pool.NodeQuarantined:
			hk.releaseQuarantined(n)
		case pool.NodeFailed, pool.NodeLost, pool.NodeDeleting:
			if hk.now.Sub(n.DeleteAt) >= hk.timing.DeleteAgain {
				hk.nodes.remove(n)
			}
		case pool.NodeGone:
			if hk.now.Sub(n.Since) > hk.timing.RememberGone {
				hk.dropNode(n.VMID)
				delete(hk.nodeRows, n.VMID)
				hk.deletedKeys = append(hk.deletedKeys, pool.NodeKey(n.VMID))
			}
		}
	}
}

// isIdleTooLong reports whether an idle node leaves now. spare says whether the pool has
// more nodes than `nodes.min`.
func (hk *housekeeping) isIdleTooLong(n *Node, spare bool) bool {
	if hk.Head.Down || hk.Head.Deleting {
		return true
	}
	return spare && !hk.placement.reservedNodes[n.VMID] && hk.now.Sub(n.Since) >= time.Duration(hk.Head.Spec.IdleTimeout)
}

// An assigned attempt has a deadline. The agent has a shorter one of its own: it reports
// an attempt that it cannot start in time as not started. If a node reports, but neither
// starts the attempt nor reports that, the pool asks for the attempt back, and places it
// elsewhere after the node has answered. A node that does not answer for long gets no
// more work, and is deleted when nothing else is on it: only then is it certain that the
// attempt will not begin there.

// askLateBack asks for attempts back that should have begun by now.
func (hk *housekeeping) askLateBack() {
	for _, n := range hk.sortedNodes() {
		stuck := 0
		for _, number := range numbers(n) {
			j := n.jobs[number]
			if j.HasBegun(number) || hk.now.Sub(j.Current().AssignedAt) < hk.timing.AssignedFor {
				continue
			}
			if !hk.hasRoom() {
				return
			}
			asked := j.askedBackAt(hk.timing.AssignedFor)
			switch {
			case asked.IsZero() && n.wasHeardSince(j.Current().AssignedAt, hk.timing.AssignedFor):
				j.Requeue, j.CancelAt = true, hk.now
				hk.messages.askToEnd(j, fmt.Sprintf("node %s has not begun it within %s", n.Name, job.Duration(hk.timing.AssignedFor)))
				hk.writeJob(j)
				hk.failures.blameLate(n, j, number)
			case !asked.IsZero() && hk.now.Sub(asked) >= hk.timing.AssignedFor && n.wasHeardSince(asked, hk.timing.AssignedFor):
				stuck++
			}
		}
		if stuck > 0 {
			hk.giveUpStuck(n, stuck)
		}
	}
}

// wasHeardSince reports whether the node has reported at least half of within after since.
// If not, a report that still waits in the queue may say that the attempt has begun.
func (n *Node) wasHeardSince(since time.Time, within time.Duration) bool {
	return n.HeardAt.Sub(since) >= within/2
}

// askedBackAt is when the node of a late attempt was asked to end it; for a gang with a
// failed rank, an estimate; zero: it was not asked.
func (j *Job) askedBackAt(assignedFor time.Duration) time.Time {
	switch {
	case j.Cancel != "" || j.Requeue:
		return j.CancelAt
	case j.Broken() != nil:
		return j.Current().AssignedAt.Add(assignedFor) // EndedAt is of the node's clock
	}
	return time.Time{}
}

// giveUpStuck takes a node out of use that does not answer for so many attempts, and gives
// it up when nothing else is on it.
func (hk *housekeeping) giveUpStuck(n *Node, attempts int) {
	reason := fmt.Sprintf("it reports, and has neither begun nor given back %s that it was given", countText(attempts, "attempt", "", ""))
	switch {
	case n.State != pool.NodeReady && n.State != pool.NodeBusy && n.State != pool.NodeDraining && n.State != pool.NodeQuarantined:
	case attempts == len(n.jobs):
		hk.nodes.setState(n, pool.NodeFailed, reason)
	case n.State == pool.NodeReady || n.State == pool.NodeBusy:
		hk.nodes.setState(n, pool.NodeDraining, reason)
	}
}

// recordFence takes in whether a silent node's session could be taken.
func (hk *housekeeping) recordFence(e pool.Fenced) {
	n := hk.Nodes[e.VMID]
	if n == nil || n.State == pool.NodeGone || n.State == pool.NodeLost {
		return
	}
	if !e.Taken {
		// Its agent holds the session, so it is alive; its session is tried again later.
		n.Reason = "silent, but its agent holds its session"
		n.HeardAt = n.HeardAt.Add(hk.timing.SilentAfter)
		hk.touchNode(n)
		return
	}
	hk.nodes.setState(n, pool.NodeLost, "its agent fell silent and lost its session")
}

// fenceSilent has the sessions taken of the nodes whose last report is too old, measured
// between the enqueued times of messages. If half of the pool is silent at once, the nodes
// are not at fault, and it does nothing.
func (hk *housekeeping) fenceSilent(at time.Time) {
	var silent []string
	alive := 0
	for _, n := range hk.sortedNodes() {
		if n.State != pool.NodeReady && n.State != pool.NodeBusy && n.State != pool.NodeDraining && n.State != pool.NodeQuarantined {
			continue
		}
		alive++
		if at.Sub(n.HeardAt) > hk.timing.SilentAfter {
			silent = append(silent, n.VMID)
		}
	}
	if len(silent) > 1 && 2*len(silent) >= alive {
		return
	}
	hk.effects.Fence = silent
}
