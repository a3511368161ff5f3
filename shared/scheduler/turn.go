package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/protocol"
)

// turn is what all parts of one step share: the pool's state, the transaction that
// they write to, and the time.
type turn struct {
	*State
	*transaction
	now    time.Time
	timing Timing
}

// downReason is the sentence that a held job shows.
func (t *turn) downReason() string {
	if t.Head.Spec.Schedule == nil {
		return "the pool is down" // its schedule was taken from it in this very step, which ends that
	}
	_, _, until := t.Head.Spec.Schedule.Window(t.now)
	return fmt.Sprintf("the pool is down by its schedule until %s", until.UTC().Format(time.RFC3339))
}

// send adds an item to the node's message of this step.
func (t *turn) send(n *Node, item protocol.WorkItem) {
	if item.Assign != nil {
		item.Assign.Whole = !t.Head.Spec.Pack // a job that has its node to itself may use all of it
	}
	t.effects.Work[n.VMID] = append(t.effects.Work[n.VMID], item)
}
