package scheduler

import (
	"slices"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// letIn has the node of an attempt open its door, if the attempt runs there and the node's agent
// can. Otherwise nothing happens: who asked has looked before, and finds nobody at the door.
func (as *attempts) letIn(e pool.Enter) {
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
	n := as.Nodes[vmid]
	if n == nil || n.State == pool.NodeGone || n.State == pool.NodeLost || !slices.Contains(n.Features, protocol.FeatureExec) {
		return
	}
	if n.Slot == 0 {
		n.Slot = as.freeSlot()
		as.touchNode(n)
	}
	as.send(n, protocol.WorkItem{Enter: &protocol.Enter{
		ID: protocol.EntryOfAttempt(j.ID, e.N), Target: e.N, For: int64(e.For / time.Second)}})
}
