package scheduler

import (
	"sort"
	"time"

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

// markOutdated notes whether a node is made from an earlier model than its set has now.
func (ns *nodeStates) markOutdated(n *Node, outdated bool) {
	n.Outdated, n.OutdatedAt = outdated, time.Time{}
	if outdated {
		n.OutdatedAt = ns.now
	}
	ns.touchNode(n)
}

// remove has the node's instance deleted. A node is only removed if nothing is assigned to
// it, its VM is given up, or somebody asked for it. Its state is written under this head,
// so that no other writer can place work on it in between.
func (ns *nodeStates) remove(n *Node) {
	if n.State != pool.NodeLost && n.State != pool.NodeFailed && n.State != pool.NodeDeleting {
		ns.noteLeaving(n)
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

// noteLeaving notes that the pool itself lets a node leave. If the node was heard since the
// last call for nodes, that call has made none in its place.
func (ns *nodeStates) noteLeaving(n *Node) {
	if set := ns.set(n.Set); set != nil && set.Bound > 0 && !n.Evicted && !n.HeardAt.Before(set.BoundAt) {
		set.Bound--
	}
}

// add adds a node at its first observation.
func (ns *nodeStates) add(set *pool.Set, vmid, name string, state pool.NodeState) *Node {
	n := newNode(ns.nodeOf(set))
	if t, ok := set.CurrentTariff(ns.now); ok {
		n.Price, n.Currency, n.Parts = t.PerHour, t.Currency, t.Parts
	}
	n.VMID, n.Name, n.State, n.Since, n.CreatedAt, n.AskedAt = vmid, name, state, ns.now, ns.now, set.TakeOldestRequest()
	if state != pool.NodeCreating {
		ns.openBilling(n)
	}
	ns.addNode(n)
	ns.touchNode(n)
	return n
}

// nodeOf is a node of a set as it is before anything is known of it but its size.
func (s *State) nodeOf(set *pool.Set) *pool.Node {
	n := &pool.Node{Set: set.Name, Size: set.Size, Spot: set.Spot, Price: usage.UnknownPrice, Currency: "USD"}
	if has, ok := size.Lookup(n.Size); ok {
		n.CPUs, n.GPUs, n.Memory = has.CPUs, has.GPUs, job.Bytes(has.MemoryGiB)*job.Gi
		if !set.Spot { // the price of Spot is not known: it changes every hour
			n.Price, n.Currency = has.PricePerHour, has.Currency
		}
	}
	if set.Price != "" { // with the disk and the address
		n.Price, n.Currency = set.Price, set.Currency
	}
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
	countTime(n.Node, ns.now)
	before := n.State
	n.State, n.Reason, n.Since = state, reason, ns.now
	ns.indexNode(n)
	if isInUse(before) && isInUse(state) {
		ns.touchUse(n)
	} else {
		ns.touchNode(n)
	}
}

// isInUse reports whether a node in this state takes jobs.
func isInUse(s pool.NodeState) bool { return s == pool.NodeReady || s == pool.NodeBusy }

// countTime adds the time since the last count to the total of the node's state.
func countTime(n *pool.Node, now time.Time) {
	if n.From.IsZero() {
		return
	}
	spent := max(now.Sub(n.Mark), 0)
	begin := n.Mark.Sub(n.From)
	n.Mark = n.Mark.Add(spent)
	n.Phases = n.Phases.Add(phaseOf(n.State), begin, begin+spent)
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

// phaseOf is the letter of a state.
func phaseOf(s pool.NodeState) byte {
	switch s {
	case pool.NodeCreating, pool.NodeBooting:
		return usage.PhaseBoot
	case pool.NodeBusy:
		return usage.PhaseBusy
	case pool.NodeDraining, pool.NodeDeleting:
		return usage.PhaseDrain
	case pool.NodeLost, pool.NodeFailed, pool.NodeQuarantined:
		return usage.PhaseBad
	default:
		return usage.PhaseIdle
	}
}

// closeInterval writes the node's open interval to the ledger and opens the
// next one.
func (ns *nodeStates) closeInterval(n *Node) {
	if n.From.IsZero() || !n.Mark.After(n.From) {
		return
	}
	ns.entries = append(ns.entries, intervalEntry(&ns.Head.Spec, n.Node))
	n.From, n.BootFor, n.BusyFor, n.IdleFor, n.DrainFor, n.Phases = n.Mark, 0, 0, 0, 0, ""
	ns.touchNode(n)
}
