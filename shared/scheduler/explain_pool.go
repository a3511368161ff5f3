package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/pool"
)

// heldStanding is the first budget that keeps work of the pool from starting; nil: none does.
func (ex *explainer) heldStanding() *budget.Standing {
	i := slices.IndexFunc(ex.Head.Budgets.Standings, func(s budget.Standing) bool { return budget.Stops(s.Do(ex.now)) })
	if i < 0 {
		return nil
	}
	return &ex.Head.Budgets.Standings[i]
}

// ExplainPool says why a pool has the size it has, and what it waits for.
func ExplainPool(s *State, now time.Time, timing Timing) Explanation {
	s.reline(now)
	ex := newStep(s, now, timing).explainer
	h, c := &s.Head, s.census()
	waiting := s.line.waiting()
	e := Explanation{State: "resting", Waiting: waiting}
	const nothing = "; nothing has to be done"
	size := fmt.Sprintf("it has %s", countNodes(c.here()+c.going, "", ""))
	wanted, more := ex.sizing.plan()
	// If the plan asks no set for nodes, only the blocked sets and those with an open
	// breaker could be the reason.
	blocked, until := ex.capacity.blockReason(func(set *pool.Set) bool {
		return len(more) > 0 || now.Before(set.Blocked.Until) || ex.capacity.isHalted(set) || set.Model.Fixed
	})
	all, _ := ex.capacity.blockReason(func(*pool.Set) bool { return true })
	var asked []string
	for i := range h.Sets {
		if set := &h.Sets[i]; set.Op.Kind == pool.OpGrow {
			asked = append(asked, fmt.Sprintf("%d of %s in all %s ago", set.Op.Target, set, now.Sub(set.Op.AskedAt).Round(time.Second)))
		}
	}
	boot := ex.bootText(func(*pool.Set) bool { return true })
	switch {
	case h.Deleting && s.Jobs.Len() > 0:
		e.State, e.Unblocks = "deleting", "the end of its jobs and nodes"+nothing
		e.Reason = size + " left, and goes when they and its jobs are gone"
	case h.Deleting && s.anyAlive():
		e.State, e.Reason, e.Unblocks = "deleting", size+" left, and goes when they are gone", "the end of its nodes"+nothing
	case h.Deleting:
		e.State, e.Reason, e.Unblocks = "deleting", size+" left, and goes when its scale sets are gone", nextStep
		for i := range h.Sets {
			switch set := &h.Sets[i]; {
			case set.Used && now.Before(set.Blocked.Until):
				e.Unblocks = "the next attempt at " + stamp(set.Blocked.Until)
			case set.Used && e.Unblocks == nextStep:
				e.Unblocks = "a list of Azure that shows them empty" + nothing
			}
		}
		if slices.ContainsFunc(h.Sets, func(set pool.Set) bool { return set.Op.Kind != "" }) {
			e.Unblocks = "Azure's answer" + nothing
		}
	case h.Down:
		e.State, e.Reason, e.Unblocks = "down", size+"; "+ex.downReason(), ex.upUnblocks()
	case blocked != "" && (wanted > c.working+c.coming+c.leaving+s.pending() || all != "" && ex.capacity.isProbing()):
		e.State = "blocked"
		e.Reason = fmt.Sprintf("%s of %d wanted, since no more are asked for: %s", size, wanted, blocked)
		e.Unblocks = fmt.Sprintf("the next attempt at %s; a change of the pool tries at once", stamp(until))
		if slices.ContainsFunc(h.Sets, func(s pool.Set) bool { return s.Breaker.Open() }) {
			e.Unblocks = fmt.Sprintf("the next try, with one node, at %s; or `dsvm pool resume %s`", stamp(until), h.Spec.Name)
			if ex.capacity.isProbing() {
				e.Unblocks = fmt.Sprintf("that node's first report, until %s; or `dsvm pool resume %s`", stamp(until), h.Spec.Name)
			}
		}
	case len(asked) > 0:
		e.State = "growing"
		e.Reason = fmt.Sprintf("%s and asked Azure for %s", size, strings.Join(asked, " and "))
		e.Unblocks = "Azure's answer" + ex.givenUpText() + nothing
		if boot != "" {
			e.Reason += "; " + boot
			e.Unblocks = "the end of their boot, and Azure's answer" + ex.givenUpText()
		}
	case c.coming+s.pending() > 0:
		e.State = "growing"
		e.Reason = fmt.Sprintf("%s: %d starting", size, c.coming)
		if n := s.pending(); n > 0 {
			e.Reason += fmt.Sprintf("; Azure does not list %d more yet that it was asked for", n)
		}
		e.Unblocks = "their agents' first report" + ex.givenUpText() + nothing
		if boot != "" {
			e.Reason += "; " + boot
			e.Unblocks = "the end of their boot" + ex.givenUpText()
		}
	case len(more) > 0 && !slices.ContainsFunc(h.Sets, func(set pool.Set) bool { return more[set.Name] > 0 && ex.capacity.mayAskNow(&set) }):
		e.State, e.Unblocks = "growing", ex.capacity.nextRequestText(more)
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks for more with the next request", size, wanted)
	case len(more) > 0:
		e.State, e.Unblocks = "growing", "the next step"+nothing
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks Azure for more next", size, wanted)
	case wanted > c.counted() && ex.allBusy(func(*pool.Set) bool { return true }):
		e.State, e.Unblocks = "growing", "Azure's answer"+nothing
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks for more when Azure has answered what was asked before", size, wanted)
	case wanted > c.counted() && ex.waitsForList(func(*pool.Set) bool { return true }):
		e.State, e.Unblocks = "growing", "Azure's list"+nothing
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks for more when a list shows how many Azure has made", size, wanted)
	case waiting > 0 && s.line.wanting() == 0 && ex.heldStanding() != nil:
		of := ex.heldStanding()
		e.State, e.Unblocks = "blocked", of.Unblocks()
		e.Reason = fmt.Sprintf("%s, and %s: %s", size, ex.countWork(waiting, "waits", "wait"), of.Sentence(now))
	case c.counted() >= h.Spec.Nodes.Max && waiting > 0:
		e.State, e.Reason = "full", fmt.Sprintf(
			"%s, and `nodes.max` is %d; %s", size, h.Spec.Nodes.Max, ex.countWork(waiting, "waits", "wait"),
		)
		switch {
		case s.running > 0:
			e.Unblocks = "the end of work, or a higher `nodes.max`"
		case c.leaving > 0:
			e.Reason += fmt.Sprintf(", and %s", countNodes(c.leaving, "is leaving", "are leaving"))
			e.Unblocks = "the end of a node that leaves" + nothing
		default:
			e.Unblocks = "the next step, which places what fits and lets nodes leave that are not of the size of what waits" + nothing
		}
	case waiting > 0 && s.allLackFeatures() && s.letsNobodyIn():
		e.State, e.Unblocks = "blocked", nodesForPeople
		e.Reason = fmt.Sprintf("%s, and %s for one that can let people in", size, ex.countWork(waiting, "waits", "wait"))
	case waiting > 0 && s.allLackFeatures():
		e.State, e.Unblocks = "blocked", newerNodes
		e.Reason = fmt.Sprintf("%s, and %s for nodes with newer agents than it has", size, ex.countWork(waiting, "waits", "wait"))
	case waiting > 0 && ex.bringsTooMany(func(*pool.Set) bool { return true }) != nil:
		e.State, e.Unblocks = "blocked", roomForThem
		set := ex.bringsTooMany(func(*pool.Set) bool { return true })
		e.Reason = fmt.Sprintf("%s and %s; %s", size, ex.countWork(waiting, "waits", "wait"), ex.bringsText(set))
	case waiting > 0 && s.running > 0:
		e.State = "working"
		e.Reason = fmt.Sprintf("%s and %s, for limits of their teams or for their turn", size, ex.countWork(waiting, "waits", "wait"))
		e.Unblocks = "the end of work, or higher `limits`; `dsvm job explain ID` says more of each job"
	case waiting > 0:
		e.State, e.Reason = "working", fmt.Sprintf("%s and %s", size, ex.countWork(waiting, "waits", "wait"))
		e.Unblocks = "the next step; `dsvm job explain ID` says more of each job"
	case c.here()+c.going == 0:
		e.Reason = "it has no nodes, since no job is in line; it costs nothing"
	case c.working+c.leaving+c.going == 0:
		e.Reason = size + ", and no job is in line"
	case c.working > 0 && c.working <= s.minNodes():
		e.State = "working"
		e.Reason = fmt.Sprintf("%s: %d busy; its `nodes.min` is %d", size, ex.countBusy(), h.Spec.Nodes.Min)
	default:
		e.State = "working"
		busy := ex.countBusy()
		e.Reason = fmt.Sprintf("%s: %d busy, %d idle, %d leaving", size, busy, max(0, c.working-busy), c.leaving+c.going)
		if c.working > busy {
			e.Reason += fmt.Sprintf("; an idle one leaves after %s", h.Spec.IdleTimeout)
		}
	}
	if n := s.line.countClass(stopped); n > 0 && s.line.wanting() > 0 {
		e.Reason += fmt.Sprintf("; budgets hold %s", ex.countWork(n, "of what waits", "of what waits"))
	}
	e.Reason += ex.quarantineText("; ")
	e.Reason += ex.outdatedText("; ")
	e.Reason += ex.spareText("; ")
	if problem := h.Opening.Problem; problem != "" {
		e.Reason += "; people cannot come in beside the relay: " + problem
	}
	return e
}
