package pool

import (
	"time"

	"dsvmpools/shared/job"
)

// What people say about one node. Each word may come twice, and changes nothing
// where it is no news.

// Verb is what somebody asks of a node.
type Verb string

const (
	VerbRelease Verb = "release" // take work again, nothing stands against it
	VerbDrain   Verb = "drain"   // take no more work, and leave when what runs has ended
	VerbDelete  Verb = "delete"  // leave now; what runs goes back in line
)

// Told is a word of an operator about a node.
type Told struct {
	VMID string
	Verb Verb
}

func (Told) event() {}

// Reasons of nodes that leave because somebody said so.
const (
	drainedByRequest = "drained by request; it leaves when its work has ended"
	deletedByRequest = "deleted by request"
)

// told does what somebody asked of a node.
func (st *step) told(e Told) bool {
	n := st.Nodes[e.VMID]
	if n == nil || n.State == NodeGone {
		return true
	}
	switch e.Verb {
	case VerbRelease:
		st.clear(n)
		if n.setAside() || n.State == NodeDraining && n.Reason == drainedByRequest && !n.Evicted {
			st.takeBack(n)
		}
	case VerbDrain:
		switch n.State {
		case NodeCreating, NodeBooting, NodeReady, NodeBusy, NodeQuarantined:
			st.sendOff(n, drainedByRequest)
		}
	case VerbDelete:
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
		if n.State == NodeLost || n.State == NodeFailed {
			st.setNode(n, n.State, deletedByRequest)
		} else {
			st.setNode(n, NodeDeleting, deletedByRequest)
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
