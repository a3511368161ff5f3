package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// A session is a job that does not end by itself: a person works on the node. It waits in
// line, is placed, assigned, cancelled and billed as a job is. What differs is here: how it
// is opened, what is taken in of it, who is warned, and what ends it.

// sessions opens, keeps, warns and ends sessions.
type sessions struct {
	*turn
	messages *messages
	jobs     *jobStates
}

// open takes a session in, or says why not. The owner's live session stays the only one.
func (se *sessions) open(e pool.Open) {
	if _, ended := se.jobRows[pool.DoneKey(e.Order)]; ended || se.Jobs.Get(e.Order) != nil || se.sessions[e.Session.Owner] != nil {
		return
	}
	of := &se.Head.Spec
	spec := job.Spec{
		ID: e.ID, Pool: of.Name, Name: e.Spec.Name, Team: e.Spec.Team, User: e.Spec.User, Labels: e.Spec.Labels,
		Priority: job.Normal, Resources: of.Slot(),
	}
	if err := se.refusal(e, spec); err != nil {
		se.jobs.refused = append(se.jobs.refused, pool.Refusal{Order: e.Order, ID: e.ID, Err: err})
		return
	}
	spec.Secrets = of.Sessions.Secrets
	j := newJob(&pool.Job{
		Order: e.Order, ID: e.ID, Spec: spec, SubmittedAt: e.At,
		Session: &pool.Session{Owner: e.Session.Owner, UID: e.Session.UID, Home: of.Sessions.Home},
	})
	se.jobs.add(j)
	se.jobs.enterWaiting(j)
}

// refusal says why the pool opens no such session; nil when it does.
func (se *sessions) refusal(e pool.Open, spec job.Spec) *fault.Error {
	of := &se.Head.Spec
	switch {
	case se.Head.Deleting:
		return fault.New(fault.Conflict, "pool", "pool %q is being deleted; name another pool, or create it again when it is gone", of.Name)
	case !of.IsInteractive():
		return fault.New(fault.Invalid, "pool",
			"pool %q runs jobs, and nobody logs on to its nodes; name a pool of `kind: interactive`, `dsvm pool list` shows them", of.Name)
	case e.Session.Owner == "" || spec.User == "" || e.Session.UID <= 0:
		return fault.New(fault.Internal, "user", "the session has no owner; sign in again by `dsvm login`")
	}
	if s := se.standingOf(&Job{Job: &pool.Job{Spec: spec}}, budget.Holds); s != nil {
		return fault.New(fault.OverBudget, "pool",
			"%s; no session opens before the next period at %s, or until an operator runs `dsvm budget raise %s`",
			s.Sentence(se.now), stamp(s.Until), s.Name)
	}
	return refusesAmount(of, spec)
}

// extend keeps a session until a time, as far as the pool allows it.
func (se *sessions) extend(e pool.Extend) {
	j := se.Jobs.Get(e.Order)
	if j == nil || j.Session == nil || j.Cancel != "" {
		return
	}
	until := e.Until
	if most := se.latestEnd(j); !most.IsZero() && until.After(most) {
		until = most
	}
	if !until.After(j.Session.KeepTill) || !until.After(se.now) {
		return
	}
	j.Session.KeepTill = until
	se.writeJob(j)
	if isWarned(j.Session, pool.EndIdle) {
		se.withdraw(j)
	}
}

// latestEnd is when a session ends at the latest, whoever uses it; zero: the pool does not
// say.
func (se *sessions) latestEnd(j *Job) (end time.Time) {
	s := j.Session
	if s.EndsBy == pool.EndMaxAge || s.EndsBy == pool.EndSchedule || s.EndsBy == pool.EndBudget {
		return s.EndsAt
	}
	if of := se.Head.Spec.Sessions; of != nil && of.MaxAge > 0 {
		since := s.ReadyAt
		if since.IsZero() {
			since = se.now
		}
		end = since.Add(time.Duration(of.MaxAge + of.Warning))
	}
	if sched := se.Head.Spec.Schedule; sched != nil && sched.OnRunning == "kill" {
		if down := nextDown(sched, se.now).Add(time.Duration(sched.Grace)); end.IsZero() || down.Before(end) {
			end = down
		}
	}
	return end
}

// nextDown is the next time at which a schedule takes the pool down.
func nextDown(s *pool.Schedule, now time.Time) time.Time {
	only := *s
	only.UpAt = ""
	return only.Next(now)
}

// end ends a session that waits, or asks its node to end it.
func (se *sessions) end(j *Job, by, reason string) {
	if j.Cancel == "" {
		se.jobs.cancel(j, reason)
		j.Session.EndsBy = by
	}
}

// enforce warns and ends sessions that are too old, and ends those whose pool goes down. A
// report is not needed for that.
func (se *sessions) enforce() {
	of := se.Head.Spec.Sessions
	for _, j := range se.liveSessions() {
		if !se.hasRoom() {
			return
		}
		s := j.Session
		if j.Cancel != "" || s.ReadyAt.IsZero() || j.VMID == "" {
			continue
		}
		isOld := of != nil && of.MaxAge > 0 && se.now.Sub(s.ReadyAt) >= time.Duration(of.MaxAge)
		switch {
		case s.EndsBy == pool.EndSchedule && !se.endsBySchedule(), s.EndsBy == pool.EndMaxAge && !isOld,
			s.EndsBy == pool.EndBudget && se.standingOf(j, isCancel) == nil:
			se.withdraw(j) // the pool, or the budget, has been changed since
		case s.EndsBy == pool.EndSchedule || s.EndsBy == pool.EndMaxAge || s.EndsBy == pool.EndBudget:
			if !se.now.Before(s.EndsAt) {
				se.end(j, s.EndsBy, endReasons[s.EndsBy])
			}
		case isOld:
			se.warn(j, pool.EndMaxAge, time.Time{}, time.Duration(of.Warning))
		}
	}
}

// endsBySchedule reports whether the schedule ends the sessions of nodes that it takes down.
func (se *sessions) endsBySchedule() bool {
	s := se.Head.Spec.Schedule
	return s != nil && s.OnRunning == "kill"
}

// endReasons are the reasons of sessions that the pool ends.
var endReasons = map[string]string{
	pool.EndMaxAge:   "it was as old as `sessions.maxAge` of its pool allows",
	pool.EndSchedule: goesDown,
	pool.EndBudget:   "a budget ends it; `dsvm budget list` shows which one is spent",
}

// warnForSchedule warns a session that its pool goes down.
func (se *sessions) warnForSchedule(j *Job, grace time.Duration) {
	switch s := j.Session; {
	case j.Cancel != "" || s.EndsBy == pool.EndSchedule:
	case (s.EndsBy == pool.EndMaxAge || s.EndsBy == pool.EndBudget) && s.EndsAt.Before(se.now.Add(grace)): // it ends earlier
	case s.ReadyAt.IsZero() || grace <= 0:
		se.end(j, pool.EndSchedule, goesDown) // nobody is there yet, or is to be warned
	default:
		se.warn(j, pool.EndSchedule, time.Time{}, grace)
	}
}

// warnForBudget warns a session that a budget ends it.
func (se *sessions) warnForBudget(j *Job, of *budget.Standing) {
	switch s := j.Session; {
	case s.EndsBy == pool.EndBudget:
	case s.EndsBy != "" && s.EndsBy != pool.EndIdle && !s.EndsAt.After(of.CancelAt): // it ends earlier
	case s.ReadyAt.IsZero() || !of.CancelAt.After(se.now):
		se.end(j, pool.EndBudget, of.Sentence(se.now)) // nobody is there yet, or is to be warned
	default:
		se.warn(j, pool.EndBudget, time.Time{}, of.CancelAt.Sub(se.now))
	}
}

// warn tells the people of a session that it ends, and notes it. on is the enqueued time of
// the report behind it, if it is for idleness.
func (se *sessions) warn(j *Job, by string, on time.Time, within time.Duration) {
	s := j.Session
	s.WarnedAt, s.WarnedOn, s.DueAt, s.EndsAt, s.EndsBy = se.now, on, time.Time{}, se.now.Add(within), by
	se.tell(j)
}

// withdraw takes a warning back.
func (se *sessions) withdraw(j *Job) {
	s := j.Session
	s.WarnedAt, s.WarnedOn, s.DueAt, s.EndsAt, s.EndsBy = time.Time{}, time.Time{}, time.Time{}, time.Time{}, ""
	se.tell(j)
}

// tell sends a session's warning, or its withdrawal, to the node, under a number of its own.
func (se *sessions) tell(j *Job) {
	if n := se.Nodes[j.VMID]; n != nil {
		se.Head.N++
		j.Session.WarnN, j.toldAt = se.Head.N, se.now
		se.send(n, protocol.WorkItem{N: se.Head.N, Warn: se.warning(j)})
	}
	se.writeJob(j)
}

// warning is what the people of a session are told.
func (se *sessions) warning(j *Job) *protocol.Warn {
	s := j.Session
	if s.EndsAt.IsZero() {
		return &protocol.Warn{Target: j.N, Text: "the session goes on"}
	}
	text := ""
	switch s.EndsBy {
	case pool.EndIdle:
		text = fmt.Sprintf("nobody has used this session for %s, so it ends; type something, or run `dsvm session extend`, and it goes on",
			se.Head.Spec.Sessions.IdleAfter)
	case pool.EndMaxAge:
		text = "this session ends, since it is as old as its pool allows; `dsvm connect` opens another"
	case pool.EndSchedule:
		text = "this session ends, since the pool goes down by its schedule"
	case pool.EndBudget:
		text = "this session ends, since its budget is spent; `dsvm session explain` says which one"
	}
	if of := se.Head.Spec.Sessions; of == nil || of.Home != protocol.HomeShare {
		text += "; files outside of ~/share and ~/notebooks/remote go with it"
	}
	return &protocol.Warn{Target: j.N, EndsIn: max(int64(s.EndsAt.Sub(se.now)/time.Second), 1), Text: text}
}

// tellAgain sends the warnings again that were sent before a time and that no node says it
// has. Each gets a new number, since the node may have seen later ones.
func (se *sessions) tellAgain(before time.Time) {
	for _, j := range se.liveSessions() {
		s := j.Session
		if s.WarnN > s.ToldN && j.VMID != "" && j.Cancel == "" && !j.toldAt.After(before) && se.hasRoom() {
			se.tell(j)
		}
	}
}

// noteTick takes in the time of a tick: a session that is warned for idleness, and whose time
// is over, ends with the next report that is younger.
func (se *sessions) noteTick(at time.Time) {
	se.tickAt = later(se.tickAt, at)
	for _, j := range se.liveSessions() {
		if s := j.Session; isWarned(s, pool.EndIdle) && !at.Before(s.EndsAt) && s.DueAt.IsZero() && j.Cancel == "" && se.hasRoom() {
			s.DueAt = at
			se.writeJob(j)
		}
	}
}

// liveSessions lists the live sessions in their order.
func (s *State) liveSessions() []*Job {
	if len(s.sessions) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Values(s.sessions), func(a, b *Job) int { return cmp.Compare(a.Order, b.Order) })
}

// SessionOf is the row of a person's live session, or nil.
func (s *State) SessionOf(owner string) *pool.Job {
	if j := s.sessions[owner]; j != nil {
		return j.Job
	}
	return nil
}

// Sessions lists the rows of the live sessions in their order.
func (s *State) Sessions() (rows []*pool.Job) {
	for _, j := range s.liveSessions() {
		rows = append(rows, j.Job)
	}
	return rows
}
