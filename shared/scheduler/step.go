package scheduler

import (
	"cmp"
	"reflect"
	"slices"
	"sort"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Result is what one step has decided.
type Result struct {
	Changes   []pool.Change  // rows besides the head; the head is State.Head
	Changed   bool           // whether there is anything to commit
	Effects   pool.Effects   // to perform after the commit
	Refused   []pool.Refusal // jobs that cannot be taken, and why
	Cancelled int            // jobs that a CancelAll has asked to end
	Rest      []pool.Event   // events that are not applied yet: the transaction was full
	More      bool           // call again after the commit, with Rest
}

// Step takes the pool's state, what has happened and the time, and decides which rows
// change and what to do after they are committed. It changes s in place. If the rows
// cannot be committed, the caller must update s with CatchUp or drop it.
func Step(s *State, events []pool.Event, now time.Time, timing Timing) Result {
	s.pack()
	st := newStep(s, now, timing)
	st.capacity.syncLadder()
	rest := events
	followed := st.housekeeping.nodes.followTariffs()
	if followed {
		rest = st.applyEvents(events)
	}
	st.waits.followEnds()
	st.sweeping.cancelMembers()
	if followed && len(rest) == 0 {
		st.budgets.enforce()
		st.schedule.enforce()
		st.sessions.enforce()
		st.rolling.replaceOutdated()
		st.placement.placeJobs()
		st.recall.recallWaiting()
		st.housekeeping.moveNodesOn()
		st.failures.setAsideBroken()
		if !st.full { // otherwise jobs that fit on a node would count as waiting
			st.sizing.grow()
		}
		if !st.Head.Deleting {
			st.sizing.dropSets(func(set *pool.Set) bool { return st.rungOf(set.Name) < 0 || set.Model.Fixed })
		}
		st.network.look()
		st.deletion.finish()
		st.deadlines.wake()
	}
	return st.result(rest)
}

// applyEvents applies events until the transaction is full, and returns the rest.
func (st *step) applyEvents(events []pool.Event) []pool.Event {
	for i, e := range events {
		if !st.hasRoom() {
			return events[i:]
		}
		switch e := e.(type) {
		case pool.Apply:
			st.applySpec(e)
		case pool.Delete:
			st.deletion.begin()
		case pool.Submit:
			st.jobs.submit(e)
		case pool.Cancel:
			switch j := st.Jobs.Get(e.Order); {
			case j != nil && j.Session != nil:
				st.sessions.end(j, cmp.Or(e.By, pool.EndUser), e.Reason)
			case j != nil:
				st.jobs.cancel(j, e.Reason)
			default:
				st.sweeping.skipMember(e.Order, e.Reason)
			}
		case pool.Open:
			st.sessions.open(e)
		case pool.Extend:
			st.sessions.extend(e)
		case pool.Enter:
			st.attempts.letIn(e)
		case pool.Desktop:
			st.sessions.askForDesktop(e)
		case pool.Hold:
			st.holds.hold(e.Order)
		case pool.Release:
			st.holds.release(e.Order)
		case pool.SetPriority:
			if !st.holds.setPriority(e) {
				return events[i:]
			}
		case pool.Resume:
			st.capacity.closeBreakers()
			st.capacity.forgetAgents()
		case pool.NodeRequest:
			if !st.operator.carryOut(e) {
				return events[i:]
			}
		case pool.CancelAll:
			if !st.jobs.cancelAll(e) {
				return events[i:]
			}
		case pool.Reported:
			if left := st.reports.receive(e); len(left.Report.Items) > 0 {
				return append([]pool.Event{left}, events[i+1:]...)
			}
		case pool.Listed:
			if !st.listings.receive(e) {
				return events[i:]
			}
		case pool.Answered:
			st.capacity.recordAnswer(e)
		case pool.Fenced:
			st.housekeeping.recordFence(e)
		case pool.Recorded:
			if left := st.forgetLogs(e); len(left.Seqs)+len(left.Pages) > 0 {
				return append([]pool.Event{left}, events[i+1:]...)
			}
		case pool.Budgets:
			st.budgets.receive(e)
		case pool.Networked:
			st.network.recordAnswer(e)
		case pool.JobEnd:
			st.waits.recordEnd(e)
		case pool.Ended:
			st.waits.lookAt(e.IDs)
		case pool.Subscribe:
			if left := st.endNotices.addSubscriber(e); len(left.IDs) > 0 {
				return append([]pool.Event{left}, events[i+1:]...)
			}
		case pool.Loaded:
			st.messages.resend(st.now)
			st.sessions.tellAgain(st.now)
			st.forgetAllRecalls()
			st.waits.lookUpEnds()
			st.network.lookNow()
		case pool.Tick:
			st.tick(e)
		}
	}
	return nil
}

// applySpec takes in a new spec, which takes effect in this step.
func (st *step) applySpec(e pool.Apply) {
	if st.Head.Deleting {
		return
	}
	if e.Spec.Schedule != nil && st.Head.Spec.Schedule == nil {
		// The pool does not go down for a downAt that passed before it had a schedule.
		_, since, _ := e.Spec.Schedule.Window(st.now)
		st.Head.DownSince = since
	}
	st.Head.Spec, st.specChanged = e.Spec, true
	// Another size or image may be available. The number of failed calls stays.
	st.capacity.probeNow()
	for i := range st.Head.Sets {
		st.Head.Sets[i].Blocked, st.Head.Sets[i].QuotaLimit = pool.Block{Tries: st.Head.Sets[i].Blocked.Tries}, 0
	}
	st.capacity.syncLadder()
	st.applySpecChange()
}

// tick looks for silent nodes and missing answers.
func (st *step) tick(e pool.Tick) {
	st.messages.resend(st.now.Add(-st.timing.ResendAfter))
	st.sessions.tellAgain(st.now.Add(-st.timing.ResendAfter))
	st.housekeeping.askLateBack()
	st.waits.lookUpEnds()
	mayHaveNodes := func(s pool.Set) bool { return s.Capacity > 0 || s.Op.Kind == pool.OpGrow || len(s.Requests) > 0 }
	if st.anyAlive() || st.line.waiting() > 0 || st.Head.Deleting || slices.ContainsFunc(st.Head.Sets, mayHaveNodes) {
		st.effects.List = true
	}
	if !e.At.IsZero() {
		st.sessions.noteTick(e.At)
		st.housekeeping.fenceSilent(e.At)
	}
}

// result makes the rows of what the parts have changed, in a stable order.
func (st *step) result(rest []pool.Event) Result {
	r := Result{
		Effects:   st.effects,
		Refused:   st.jobs.refused,
		Cancelled: st.jobs.cancelled,
		Rest:      rest,
		More:      st.full || len(rest) > 0 || len(st.outcomes)+len(st.ending) > 0,
	}
	for vmid, items := range st.effects.Work {
		if n := st.Nodes[vmid]; n != nil && len(n.acks) > 0 {
			r.Effects.Work[vmid] = append(items, protocol.WorkItem{Ack: n.acks})
			n.acks = nil
		}
	}
	for _, c := range st.jobRows {
		r.Changes = append(r.Changes, c)
	}
	for _, n := range st.nodeRows {
		r.Changes = append(r.Changes, pool.Change{Key: pool.NodeKey(n.VMID), Value: n.Node, OnlyUse: st.onlyUse[n.VMID]})
	}
	for _, key := range st.deletedKeys {
		r.Changes = append(r.Changes, pool.Change{Key: key})
	}
	sort.Slice(r.Changes, func(i, j int) bool { return r.Changes[i].Key < r.Changes[j].Key })
	st.Head.Queued, st.Head.Running = st.counts()
	if len(st.entries) > 0 {
		r.Changes = append(r.Changes, pool.Change{
			Key:   pool.LogKey(st.Head.Seq + 1),
			Value: &pool.Log{Seq: st.Head.Seq + 1, Entries: st.entries}, Insert: true,
		})
	}
	r.Changed = len(r.Changes) > 0 || st.specChanged || !sameHead(st.headBefore, st.Head)
	return r
}

// sameHead compares two heads without their specs.
func sameHead(a, b pool.Head) bool {
	a.Spec, b.Spec = pool.Spec{}, pool.Spec{}
	return reflect.DeepEqual(a, b)
}
