package scheduler

import (
	"dsvmpools/shared/pool"
)

// deletion takes the pool down for good.
type deletion struct {
	*turn
	jobs     *jobStates
	sessions *sessions
	sizing   *sizing
	network  *network
}

// poolDeleted is the reason of what ends with its pool.
const poolDeleted = "its pool was deleted"

// finish takes down what a deleted pool still has: first its jobs, then its sets when no
// node is left and nothing in the network is, and its rows last.
func (de *deletion) finish() {
	if !de.Head.Deleting {
		return
	}
	for _, j := range de.liveJobs() {
		if !de.hasRoom() {
			return
		}
		if j.Session != nil {
			de.sessions.end(j, pool.EndPoolDeleted, poolDeleted)
			continue
		}
		de.jobs.cancel(j, poolDeleted)
	}
	if de.Jobs.Len() == 0 && !de.anyAlive() && de.network.isGone() && de.sizing.dropSets(func(*pool.Set) bool { return true }) {
		de.effects.DropRows = true
	}
}

// begin marks the pool as being deleted. finish does the rest, step by step.
func (de *deletion) begin() {
	de.Head.Deleting = true
	de.effects.List = true
	for i := range de.Head.Sets {
		de.Head.Sets[i].Blocked = pool.Block{} // a set that gives no nodes can still be deleted
	}
}
