package scheduler

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Reasons of nodes that leave because somebody said so.
const (
	drainedByRequest = "drained by request; it leaves when its work has ended"
	deletedByRequest = "deleted by request"
)

// told does what somebody asked of a node.
func (st *step) told(e pool.NodeRequest) bool {
	n := st.Nodes[e.VMID]
	if n == nil || n.State == pool.NodeGone {
		return true
	}
	switch e.Verb {
	case pool.VerbRelease:
		st.clear(n)
		if n.setAside() || n.State == pool.NodeDraining && n.Reason == drainedByRequest && !n.Evicted {
			st.takeBack(n)
		}
	case pool.VerbDrain:
		switch n.State {
		case pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeBusy, pool.NodeQuarantined:
			st.sendOff(n, drainedByRequest)
		}
	case pool.VerbDelete:
		return st.deleteNode(n)
	}
	return true
}

// deleteNode deletes a node's VM by request. Its jobs go back in line when its agent
// has ended them, or when the VM is gone, and pay nothing. It reports whether there
// was room for all of it.
func (st *step) deleteNode(n *Node) bool {
	if n.Reason != deletedByRequest {
		for _, number := range numbers(n) {
			if !st.room() {
				return false
			}
			if j := n.jobs[number]; j.Cancel == "" && !j.Requeue {
				j.Requeue, j.CancelAt = true, st.now
				st.askToEnd(j, "its node is deleted by request")
				st.write(j)
			}
		}
		n.DeleteAt = time.Time{}
		if n.State == pool.NodeLost || n.State == pool.NodeFailed {
			st.setNode(n, n.State, deletedByRequest)
		} else {
			st.setNode(n, pool.NodeDeleting, deletedByRequest)
		}
	}
	st.remove(n)
	return true
}

// endOn is how a job's attempt ends on a node whose VM is gone. One that was to go
// back in line anyway is not the loss of a node.
func (j *Job) endOn(n *Node) (job.AttemptState, int) {
	switch {
	case j.Requeue:
		return job.AttemptCancelled, job.ExitCancelled
	case n.Evicted:
		return job.AttemptEvicted, job.ExitEvicted
	}
	return job.AttemptNodeLost, job.ExitNodeLost
}
