package scheduler

import (
	"fmt"
	"sort"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/size"
	"dsvmpools/shared/usage"
)

// nodeStates changes the state of nodes and counts the time that they spend in each.
type nodeStates struct{ *turn }

// putInUse makes a node take work again.
func (ns *nodeStates) putInUse(n *Node) {
	state := pool.NodeReady
	if len(n.jobs) > 0 {
		state = pool.NodeBusy
	}
	ns.setState(n, state, "")
}

// drainNode makes a node leave when what it runs has ended.
func (ns *nodeStates) drainNode(n *Node, why string) {
	if ns.setState(n, pool.NodeDraining, why); len(n.jobs) == 0 {
		ns.remove(n)
	}
}

// remove has the node's instance deleted. A node is only removed if nothing is assigned to
// it, its VM is given up, or somebody asked for it. Its state is written under this head,
// so that no other writer can place work on it in between.
func (ns *nodeStates) remove(n *Node) {
	if n.State != pool.NodeLost && n.State != pool.NodeFailed && n.State != pool.NodeDeleting {
		ns.setState(n, pool.NodeDeleting, n.Reason)
	}
	if n.InstanceID == "" {
		ns.effects.List = true // the next list has the id that the deletion needs
		return
	}
	n.DeleteAt = ns.now
	ns.touchNode(n)
	ns.effects.Remove = append(ns.effects.Remove, n.Node)
}

// add adds a node at its first observation.
func (ns *nodeStates) add(set *pool.Set, vmid, name string, state pool.NodeState) *Node {
	n := newNode(&pool.Node{
		VMID:      vmid,
		Name:      name,
		Set:       set.Name,
		Size:      set.Size,
		Spot:      set.Spot,
		State:     state,
		Since:     ns.now,
		CreatedAt: ns.now,
		AskedAt:   set.TakeOldestRequest(),
		Price:     usage.UnknownPrice,
		Currency:  "USD",
	})
	if s, ok := size.Lookup(n.Size); ok {
		n.CPUs, n.GPUs, n.Memory = s.CPUs, s.GPUs, job.Bytes(s.MemoryGiB)*job.Gi
		if !set.Spot { // the price of Spot is not known: it changes every hour
			n.Price, n.Currency = s.PricePerHour, s.Currency
		}
	}
	if state != pool.NodeCreating {
		ns.openBilling(n)
	}
	ns.Nodes[vmid] = n
	ns.touchNode(n)
	return n
}

// openBilling opens the first ledger interval of a node that was seen running.
func (ns *nodeStates) openBilling(n *Node) {
	if n.RunningAt.IsZero() {
		n.RunningAt, n.From, n.Mark = ns.now, ns.now, ns.now
	}
}

// numbers lists a node's assignments, oldest first.
func numbers(n *Node) []int64 {
	list := make([]int64, 0, len(n.jobs))
	for number := range n.jobs {
		list = append(list, number)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}

// setState changes a node's state, and counts the time in the old one.
func (ns *nodeStates) setState(n *Node, state pool.NodeState, reason string) {
	ns.countTime(n)
	n.State, n.Reason, n.Since = state, reason, ns.now
	ns.indexNode(n)
	ns.touchNode(n)
}

// countTime adds the time since the last count to the total of the node's state.
func (ns *nodeStates) countTime(n *Node) {
	if n.From.IsZero() {
		return
	}
	spent := max(ns.now.Sub(n.Mark), 0)
	n.Mark = n.Mark.Add(spent)
	switch n.State {
	case pool.NodeCreating, pool.NodeBooting, pool.NodeFailed:
		n.BootFor += spent
	case pool.NodeBusy:
		n.BusyFor += spent
	case pool.NodeDraining, pool.NodeDeleting, pool.NodeLost:
		n.DrainFor += spent
	default:
		n.IdleFor += spent
	}
}

// closeInterval writes the node's open interval to the ledger and opens the
// next one.
func (ns *nodeStates) closeInterval(n *Node) {
	if n.From.IsZero() || !n.Mark.After(n.From) {
		return
	}
	ns.entries = append(ns.entries, usage.Entry{
		Kind: usage.KindNode, Key: fmt.Sprintf("%s!%d", n.VMID, n.From.UnixMilli()), Pool: ns.Head.Spec.Name,
		Node: n.Name, VMID: n.VMID, Size: n.Size, Spot: n.Spot, NodeCPUs: n.CPUs, NodeGPUs: n.GPUs, NodeMem: int64(n.Memory),
		From: n.From, To: n.Mark,
		Boot: n.BootFor, Busy: n.BusyFor, Idle: n.IdleFor, Draining: n.DrainFor,
		Price: n.Price, Currency: n.Currency, Labels: ns.Head.Spec.Labels,
	})
	n.From, n.BootFor, n.BusyFor, n.IdleFor, n.DrainFor = n.Mark, 0, 0, 0, 0
	ns.touchNode(n)
}
