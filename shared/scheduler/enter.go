package scheduler

import (
	"slices"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// letIn has the node of an attempt, or a node as a whole, open its door, if the attempt runs there
// and the node's agent can. Otherwise nothing happens: who asked has looked before, and finds
// nobody at the door.
func (as *attempts) letIn(e pool.Enter) {
	seconds := int64(e.For / time.Second)
	if e.Order == "" {
		as.openDoor(e.VMID, protocol.FeatureShell, protocol.Enter{ID: protocol.EntryOfNode(e.VMID), For: seconds})
		return
	}
	j := as.Jobs.Get(e.Order)
	if j == nil || j.Session != nil || j.VMID == "" {
		return
	}
	vmid := j.VMID
	if r := j.Rank(e.N); r != nil {
		vmid = r.VMID
	} else if j.N != e.N {
		return
	}
	as.openDoor(vmid, protocol.FeatureExec, protocol.Enter{ID: protocol.EntryOfAttempt(j.ID, e.N), Target: e.N, For: seconds})
}

// openDoor tells a node whose agent has the feature, and gives it a place at the relay.
func (as *attempts) openDoor(vmid, feature string, enter protocol.Enter) {
	n := as.Nodes[vmid]
	if n == nil || n.State == pool.NodeGone || n.State == pool.NodeLost || !slices.Contains(n.Features, feature) {
		return
	}
	if n.Slot == 0 {
		n.Slot = as.freeSlot()
		as.touchNode(n)
	}
	as.send(n, protocol.WorkItem{Enter: &enter})
}
