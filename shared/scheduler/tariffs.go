package scheduler

import (
	"dsvmpools/shared/pool"
)

// followTariffs has each node cost what its set says that it costs now. The interval of a
// node whose price has changed ends where the new price begins, if no time beyond that is
// counted yet, and else now. It reports whether there was room for all nodes; a step that
// has none does nothing more, so that no time is counted at the old price meanwhile.
func (ns *nodeStates) followTariffs() bool {
	for i := range ns.Head.Sets {
		set := &ns.Head.Sets[i]
		for _, t := range set.Begun(ns.now) {
			for _, n := range ns.sortedNodes() {
				if n.Set != set.Name || n.State == pool.NodeGone {
					continue
				}
				if !ns.hasRoom() {
					return false
				}
				ns.follow(n, t)
			}
			set.Followed, set.Price, set.Currency = t.From, t.PerHour, t.Currency
		}
	}
	return true
}

// follow has a node cost what a tariff says.
func (ns *nodeStates) follow(n *Node, t pool.Tariff) {
	if t.PerHour == n.Price && t.Currency == n.Currency && t.Parts == n.Parts {
		return
	}
	isGuess := n.Parts.Source == "" && !t.From.After(n.From) // from its size alone, before any list has said more
	if !n.From.IsZero() && !isGuess {
		until := ns.now
		if !t.From.Before(n.Mark) {
			until = t.From
		}
		countTime(n.Node, until)
		ns.closeInterval(n)
	}
	n.Price, n.Currency, n.Parts = t.PerHour, t.Currency, t.Parts
	ns.touchNode(n)
}
