package pool

import (
	"time"

	"dsvmpools/shared/usage"
)

// NodeUse is what changes in a node's row when it becomes busy, or ready again: as often as
// jobs come and end. The store may keep it apart from the row.
type NodeUse struct {
	VMID     string        `json:"vmid"`
	State    NodeState     `json:"state"`
	Reason   string        `json:"reason,omitempty"`
	Since    time.Time     `json:"since,omitzero"`
	Seen     int64         `json:"seen,omitempty"`
	Mark     time.Time     `json:"mark,omitzero"`
	BootFor  time.Duration `json:"boot,omitempty"` // nanoseconds, as those below
	BusyFor  time.Duration `json:"busy,omitempty"`
	IdleFor  time.Duration `json:"idle,omitempty"`
	DrainFor time.Duration `json:"drain,omitempty"`

	Phases usage.Phases `json:"phases,omitempty"`
}

// Use is the NodeUse of a node.
func (n *Node) Use() NodeUse {
	return NodeUse{n.VMID, n.State, n.Reason, n.Since, n.Seen, n.Mark, n.BootFor, n.BusyFor, n.IdleFor, n.DrainFor, n.Phases}
}

// SetUse takes over what Use has returned.
func (n *Node) SetUse(u NodeUse) {
	n.State, n.Reason, n.Since, n.Seen, n.Mark = u.State, u.Reason, u.Since, u.Seen, u.Mark
	n.BootFor, n.BusyFor, n.IdleFor, n.DrainFor, n.Phases = u.BootFor, u.BusyFor, u.IdleFor, u.DrainFor, u.Phases
}
