package scheduler

import (
	"dsvmpools/shared/plain"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// longestSealed bounds a sealed password, in bytes: one that no node of ours makes is not kept.
const longestSealed = 512

// askForDesktop asks the node of a session for a password, sealed to a key of its owner's. What
// is lost on its way is asked for again by who waits for it: no rule needs it.
func (se *sessions) askForDesktop(e pool.Desktop) {
	j := se.Jobs.Get(e.Order)
	if j == nil || j.Session == nil || j.Cancel != "" || j.Session.ReadyAt.IsZero() {
		return
	}
	n, s := se.Nodes[j.VMID], j.Session
	if n == nil || s.SealTo == e.SealTo && s.Sealed != "" {
		return
	}
	if s.SealTo != e.SealTo || s.DesktopFault != "" {
		s.SealTo, s.Sealed, s.DesktopFault = e.SealTo, "", ""
		se.writeJob(j)
	}
	se.send(n, protocol.WorkItem{Desktop: &protocol.Desktop{Target: j.N, SealTo: e.SealTo}})
}

// recordDesktop takes over what a report says of the password, if it is for the key that was
// asked for last, and reports whether it is to be written.
func recordDesktop(s *pool.Session, got *protocol.Sealed) bool {
	if got == nil || got.To != s.SealTo || s.SealTo == "" || len(got.Secret) > longestSealed {
		return false
	}
	fault := plain.Clip(got.Fault, longestReason)
	if got.Secret == s.Sealed && fault == s.DesktopFault {
		return false
	}
	s.Sealed, s.DesktopFault = got.Secret, fault
	return true
}
