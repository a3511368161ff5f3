package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// An attempt that is assigned has a deadline. The agent's own comes first: what it
// cannot start in time it reports as not started. Where it does not even do that,
// though it reports, the pool asks for the attempt back, and places it elsewhere
// when the node has answered. A node that does not answer for long is given nothing
// more, and when nothing else is on it, it is deleted: only then is it certain that
// the attempt will not begin there after all.

// late looks for attempts that should have begun by now.
func (st *step) late() {
	for _, n := range st.sorted() {
		stuck := 0
		for _, number := range numbers(n) {
			j := n.jobs[number]
			if j.HasBegun(number) || st.now.Sub(j.Current().AssignedAt) < st.rules.AssignedFor {
				continue
			}
			if !st.room() {
				return
			}
			asked := j.askedBack(st.rules.AssignedFor)
			switch {
			case asked.IsZero() && n.heardSince(j.Current().AssignedAt, st.rules.AssignedFor):
				j.Requeue, j.CancelAt = true, st.now
				st.askToEnd(j, fmt.Sprintf("node %s has not begun it within %s", n.Name, job.Duration(st.rules.AssignedFor)))
				st.write(j)
				st.blameLate(n, j, number)
			case !asked.IsZero() && st.now.Sub(asked) >= st.rules.AssignedFor && n.heardSince(asked, st.rules.AssignedFor):
				stuck++
			}
		}
		if stuck > 0 {
			st.stuck(n, stuck)
		}
	}
}

// heardSince reports whether the node's reports have been read for a good part of
// the time since: what is behind in the queue may tell that the attempt has begun.
func (n *Node) heardSince(since time.Time, within time.Duration) bool {
	return n.HeardAt.Sub(since) >= within/2
}

// askedBack is since when the node of an attempt should have answered that it was
// asked to end; zero when it was not asked.
func (j *Job) askedBack(assignedFor time.Duration) time.Time {
	switch {
	case j.Cancel != "" || j.Requeue:
		return j.CancelAt
	case j.Broken() != nil:
		return j.Current().AssignedAt.Add(assignedFor) // the clock of its end is the node's
	}
	return time.Time{}
}

// stuck takes a node out of use that answers for nothing that it was asked for,
// and gives it up when nothing else is left on it.
func (st *step) stuck(n *Node, attempts int) {
	reason := fmt.Sprintf("it reports, and has neither begun nor given back %s that it was given", counted(attempts, "attempt", "", ""))
	switch {
	case n.State != pool.NodeReady && n.State != pool.NodeBusy && n.State != pool.NodeDraining && n.State != pool.NodeQuarantined:
	case attempts == len(n.jobs):
		st.setNode(n, pool.NodeFailed, reason)
	case n.State == pool.NodeReady || n.State == pool.NodeBusy:
		st.setNode(n, pool.NodeDraining, reason)
	}
}
