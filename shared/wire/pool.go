package wire

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// PoolState is the state of a pool, in one word.
type PoolState string

const (
	PoolReady    PoolState = "ready"    // takes jobs, and grows when they wait
	PoolBlocked  PoolState = "blocked"  // takes jobs, but cannot grow now; the reason says why
	PoolDeleting PoolState = "deleting" // takes no jobs and goes away
)

// Pool is a pool as people and scripts see it.
type Pool struct {
	Name    string     `json:"name"`
	Kind    string     `json:"kind"`
	State   PoolState  `json:"state"`
	Reason  string     `json:"reason"`
	Down    bool       `json:"down,omitempty"` // its schedule holds it down: it takes jobs, and starts none
	Nodes   NodeCounts `json:"nodes"`
	Queued  int        `json:"queued"`  // jobs that wait, held ones included
	Running int        `json:"running"` // jobs that have a place on a node
	Wanted  int        `json:"wanted"`  // nodes the pool wants to have now
	Rungs   []Rung     `json:"rungs"`   // of its ladder, best first
	Spec    *pool.Spec `json:"spec,omitempty"`
	// Warnings are sentences for the person who applied the pool.
	Warnings []string `json:"warnings,omitempty"`
}

// Rung is a scale set of the pool: a size, as Spot or regular.
type Rung struct {
	Size    string     `json:"size"`
	Spot    bool       `json:"spot"`
	Nodes   int        `json:"nodes"`
	Blocked string     `json:"blocked"` // why it is not asked for nodes now; "" = it may be
	Until   *time.Time `json:"until"`   // when it is asked again
}

// NodeCounts are the nodes of a pool by state. Nodes that are gone are in none
// of them.
type NodeCounts struct {
	Total    int `json:"total"`
	Creating int `json:"creating"`
	Booting  int `json:"booting"`
	Ready    int `json:"ready"`
	Busy     int `json:"busy"`
	Draining int `json:"draining"`
	Deleting int `json:"deleting"`
	Other    int `json:"other"` // lost, failed, quarantined
	// Quarantined are those of Other that are broken and kept for a look.
	Quarantined int `json:"quarantined"`
}

// PoolSummary is what is known of a pool when somebody asks.
type PoolSummary struct {
	Head     pool.Head
	Queued   int // jobs that wait
	Running  int // jobs that have a place on a node
	Wanted   int // nodes the pool wants to have now
	Nodes    []*pool.Node
	NodeJobs map[string]int // jobs on a node, by VMID
	Warnings []string       // of the document that was just applied
	At       time.Time      // when somebody asks: a refusal whose time has passed blocks nothing
}

// NewPool is the shape of a pool in a list.
func NewPool(p PoolSummary) Pool {
	out := Pool{Name: p.Head.Spec.Name, Kind: p.Head.Spec.Kind, State: PoolReady,
		Queued: p.Queued, Running: p.Running, Wanted: p.Wanted}
	switch {
	case p.Head.Deleting:
		out.State, out.Reason = PoolDeleting, "the pool is being deleted"
	case p.Head.Down:
		out.Down, out.Reason = true, downReason(p)
	}
	out.rungs(p)
	until := time.Time{}
	for _, n := range p.Nodes {
		out.Nodes.count(n.State)
		if at := n.QuarantinedUntil(); !at.IsZero() && (until.IsZero() || at.Before(until)) {
			until = at
		}
	}
	if n := out.Nodes.Quarantined; n > 0 {
		text := fmt.Sprintf("%d nodes are quarantined, the first until %s", n, until.UTC().Format(time.RFC3339))
		if n == 1 {
			text = fmt.Sprintf("1 node is quarantined until %s", until.UTC().Format(time.RFC3339))
		}
		if out.Reason != "" {
			text = out.Reason + "; " + text
		}
		out.Reason = text + "; `dsvm node list` says why"
	}
	return out
}

// downReason says until when a pool is down.
func downReason(p PoolSummary) string {
	if p.Head.Spec.Schedule != nil {
		if down, _, until := p.Head.Spec.Schedule.Window(p.At); down {
			return "down by its schedule until " + until.UTC().Format(time.RFC3339)
		}
	}
	return "down by its schedule"
}

// NewPoolDetail is the shape of the one pool that was asked for.
func NewPoolDetail(p PoolSummary) Pool {
	out := NewPool(p)
	out.Spec, out.Warnings = &p.Head.Spec, p.Warnings
	return out
}

// rungs fills in the ladder; a pool none of whose rungs gives nodes is blocked.
func (out *Pool) rungs(p PoolSummary) {
	out.Rungs = make([]Rung, len(p.Head.Sets))
	why, open := "", false
	for i, set := range p.Head.Sets {
		r := Rung{Size: set.Size, Spot: set.Spot}
		if set.Blocked.Code != "" && p.At.Before(set.Blocked.Until) {
			r.Blocked, r.Until = set.Blocked.Message, known(set.Blocked.Until)
		}
		if set.Breaker.Open() {
			r.Blocked, r.Until = set.Breaker.Message(p.Head.Spec.Name), known(set.Breaker.ProbeAt)
		}
		why = cmp.Or(why, r.Blocked)
		open = open || r.Blocked == ""
		for _, n := range p.Nodes {
			if n.Set == set.Name && n.State != pool.NodeGone {
				r.Nodes++
			}
		}
		out.Rungs[i] = r
	}
	if out.State == PoolReady && !open && why != "" {
		out.State, out.Reason = PoolBlocked, why
	}
}

func (c *NodeCounts) count(s pool.NodeState) {
	in := &c.Other
	switch s {
	case pool.NodeGone:
		return
	case pool.NodeCreating:
		in = &c.Creating
	case pool.NodeBooting:
		in = &c.Booting
	case pool.NodeReady:
		in = &c.Ready
	case pool.NodeBusy:
		in = &c.Busy
	case pool.NodeDraining:
		in = &c.Draining
	case pool.NodeDeleting:
		in = &c.Deleting
	case pool.NodeQuarantined:
		c.Quarantined++
	case pool.NodeLost, pool.NodeFailed:
	}
	*in++
	c.Total++
}

// Node is a node as people and scripts see it.
type Node struct {
	ID           string            `json:"id"` // of the VM
	Pool         string            `json:"pool"`
	Name         string            `json:"name"` // of the instance
	Size         string            `json:"size"`
	State        pool.NodeState    `json:"state"`
	Reason       string            `json:"reason"`
	Stage        string            `json:"stage,omitempty"`    // of its boot: setup, share, gpus; "" = it has reported none, or is up
	Outdated     bool              `json:"outdated,omitempty"` // it was made with an earlier model than its set has now
	CPUs         *int              `json:"cpus"`               // null until its agent has reported
	GPUs         int               `json:"gpus"`               // that jobs can ask for
	Jobs         int               `json:"jobs"`               // that have a place on it
	Features     []string          `json:"features,omitempty"` // that its agent has said it knows
	Missing      map[string]string `json:"missing,omitempty"`  // what sessions of people lack on it, by users, ssh and jupyter, and why
	HeardAt      *time.Time        `json:"heardAt"`
	Since        *time.Time        `json:"since"`        // of the state
	Until        *time.Time        `json:"until"`        // when a quarantined node leaves; null for others
	PricePerHour string            `json:"pricePerHour"` // decimal, or "unknown"
	Currency     string            `json:"currency"`
}

// NewNodes are the nodes of a pool that still exist, by name.
func NewNodes(p PoolSummary) []Node {
	out := make([]Node, 0, len(p.Nodes))
	for _, n := range p.Nodes {
		if n.State != pool.NodeGone {
			out = append(out, NewNode(p, n))
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

// NewNode is the shape of one node of a pool.
func NewNode(p PoolSummary, n *pool.Node) Node {
	out := Node{
		ID: n.VMID, Pool: p.Head.Spec.Name, Name: n.Name, Size: n.Size, State: n.State, Reason: nodeReason(n),
		Jobs: p.NodeJobs[n.VMID], HeardAt: known(n.HeardAt), Since: known(n.Since), Until: known(n.QuarantinedUntil()),
		PricePerHour: cmp.Or(n.Price, unknownPrice), Currency: n.Currency,
	}
	out.GPUs, out.Stage, out.Outdated = n.GPUs, n.Stage, n.Outdated
	out.Features, out.Missing = n.Features, n.Missing
	if n.CPUs > 0 {
		out.CPUs = &n.CPUs
	}
	return out
}

// nodeReason says why a node is in its state, or what it waits for.
func nodeReason(n *pool.Node) string {
	switch {
	case n.Reason != "":
		return n.Reason
	case n.Stage != "":
		return scheduler.StageText(n.Stage, n.StageWhy)
	case n.Outdated:
		return "outdated: it leaves when it is its turn"
	case n.State == pool.NodeBooting:
		return "its agent has not reported yet"
	}
	return ""
}
