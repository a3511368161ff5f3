package scheduler

import (
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Spare slots. While anybody is there, an interactive pool keeps as many free slots as its
// document says, so that the next one does not wait for a boot. They count as demand, and no
// node leaves that has one of them.

// spareSlots is how many free slots the pool keeps now.
func (s *State) spareSlots() int {
	of := &s.Head.Spec
	if of.Sessions == nil || s.running == 0 || s.Head.Down || s.Head.Deleting || s.line.stopsPool() {
		return 0
	}
	return of.Sessions.Spare
}

// spareDemand is the demand for spare slots that no node has free; false: there is none.
func (s *State) spareDemand() (demandOf, bool) {
	missing := s.spareSlots()
	if missing == 0 {
		return demandOf{}, false
	}
	for _, n := range s.Nodes {
		missing -= s.slotsFree(n)
	}
	if missing <= 0 {
		return demandOf{}, false
	}
	return demandOf{Resources: s.Head.Spec.Slot(), nodes: 1, needs: s.sessionNeeds(), jobs: missing}, true
}

// sessionNeeds are the features that the next session needs of a node's agent, as in shape.
func (s *State) sessionNeeds() string {
	of := s.Head.Spec.Sessions
	if of == nil {
		return protocol.FeatureSession
	}
	return joinFeatures(protocol.FeaturesNeeded(protocol.Assignment{Secrets: of.Secrets, Session: &protocol.Session{Home: of.Home}}))
}

// slotsFree is how many more sessions a node has room for.
func (s *State) slotsFree(n *Node) int {
	switch {
	case !n.takesWork() || !n.hasFeatures(s.sessionNeeds()):
		return 0
	case n.CPUs == 0 || !s.Head.Spec.Pack:
		return btoi(len(n.jobs) == 0)
	}
	return max(times(n.total(), n.used, s.Head.Spec.Slot()), 0)
}

// spareNodes are the idle nodes that stay because of their free slots, by VMID. The slots of
// busy nodes count first.
func (s *State) spareNodes() map[string]bool {
	missing := s.spareSlots()
	if missing == 0 {
		return nil
	}
	for _, n := range s.Nodes {
		if len(n.jobs) > 0 {
			missing -= s.slotsFree(n)
		}
	}
	stay := map[string]bool{}
	for _, n := range s.sortedNodes() {
		if n.State == pool.NodeReady && missing > 0 && s.rungOf(n.Set) >= 0 {
			if free := s.slotsFree(n); free > 0 {
				stay[n.VMID] = true
				missing -= free
			}
		}
	}
	return stay
}
