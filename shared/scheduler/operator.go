package scheduler

import (
	"time"

	"dsvmpools/shared/pool"
)

// operator carries out what operators ask of nodes.
type operator struct {
	*turn
	messages *messages
	nodes    *nodeStates
	failures *failures
	sessions *sessions
}

// Reasons of nodes that leave by request.
const (
	drainedByRequest = "drained by request; it leaves when its work has ended"
	deletedByRequest = "deleted by request"
)

// carryOut does what an operator asks of a node. It reports whether there was room for all
// of it.
func (op *operator) carryOut(e pool.NodeRequest) bool {
	n := op.Nodes[e.VMID]
	if n == nil || n.State == pool.NodeGone {
		return true
	}
	switch e.Verb {
	case pool.VerbRelease:
		op.failures.clearBlames(n)
		if n.isSetAside() || n.State == pool.NodeDraining && n.Reason == drainedByRequest && !n.Evicted {
			op.nodes.putInUse(n)
		}
	case pool.VerbDrain:
		switch n.State {
		case pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeBusy, pool.NodeQuarantined:
			op.nodes.drainNode(n, drainedByRequest)
		case pool.NodeDraining:
			if n.Reason == outdatedReason { // which could end
				op.nodes.drainNode(n, drainedByRequest)
			}
		default: // it leaves already
		}
	case pool.VerbDelete:
		return op.deleteNode(n)
	}
	return true
}

// deleteNode deletes a node's VM by request. Its jobs go back in line after its agent has
// ended them or the VM is gone; that costs them no retry. It reports whether there was room
// for all of it.
func (op *operator) deleteNode(n *Node) bool {
	if n.Reason != deletedByRequest {
		for _, number := range numbers(n) {
			if !op.hasRoom() {
				return false
			}
			j := n.jobs[number]
			if j.Session != nil {
				op.sessions.end(j, pool.EndAdmin, "its node is deleted by request")
				continue
			}
			if j.Cancel == "" && !j.Requeue {
				j.Requeue, j.CancelAt = true, op.now
				op.messages.askToEnd(j, "its node is deleted by request")
				op.writeJob(j)
			}
		}
		n.DeleteAt = time.Time{}
		if n.State == pool.NodeLost || n.State == pool.NodeFailed {
			op.nodes.setState(n, n.State, deletedByRequest)
		} else {
			op.nodes.setState(n, pool.NodeDeleting, deletedByRequest)
		}
	}
	op.nodes.remove(n)
	return true
}
