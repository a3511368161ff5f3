package scheduler

import (
	"cmp"
	"fmt"
	"time"

	"dsvmpools/shared/protocol"
)

// turn is what all parts of one step share: the pool's state, the transaction that they
// write to, the time and the timing.
type turn struct {
	*State
	*transaction
	now    time.Time
	timing Timing
}

// downReason is the sentence that a held job shows.
func (t *turn) downReason() string {
	if t.Head.Spec.Schedule == nil {
		return "the pool is down" // this step has removed its schedule, and puts it up again
	}
	_, _, until := t.Head.Spec.Schedule.Window(t.now)
	return fmt.Sprintf("the pool is down by its schedule until %s", until.UTC().Format(time.RFC3339))
}

// describeSession adds to an assignment what the pool's document says of its sessions. The
// driver adds what the deployment knows. A node of an earlier release can be reached by the
// relay alone, and has JupyterLab without a hub.
func (t *turn) describeSession(n *Node, s *protocol.Session) {
	of := t.Head.Spec.Sessions
	if s == nil || of == nil {
		return
	}
	s.Home, s.Jupyter, s.Sudo, s.Probe = cmp.Or(s.Home, of.Home), of.Jupyter, of.Sudo, of.Probe
	if s.Jupyter == protocol.JupyterHub && !n.hasFeatures(protocol.FeatureHub) {
		s.Jupyter = protocol.JupyterLab
	}
	if n.hasFeatures(protocol.FeatureWays) {
		s.Ways = t.Head.Spec.Ways()
	}
}

// send adds a work item to the message that the node gets after this step.
func (t *turn) send(n *Node, item protocol.WorkItem) {
	if item.Assign != nil {
		item.Assign.Whole = !t.Head.Spec.Pack // a job that has its node to itself may use all of it
		item.Assign.Room = t.turnRoom(n, item.Assign)
		t.describeSession(n, item.Assign.Session)
	}
	t.effects.Work[n.VMID] = append(t.effects.Work[n.VMID], item)
}
