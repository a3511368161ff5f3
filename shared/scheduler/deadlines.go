package scheduler

import (
	"slices"
	"time"

	"dsvmpools/shared/pool"
)

// deadlines finds out when time alone changes what the pool does.
type deadlines struct {
	*turn
	sizing  *sizing
	network *network
}

// wake schedules a tick for the next time at which time alone changes what the pool does,
// unless an earlier one is on its way. It also wakes the ledger for new entries.
func (dl *deadlines) wake() {
	next := dl.nextDeadline()
	if !next.IsZero() {
		next = later(next, dl.now)
		pending := dl.Head.WakeAt.After(dl.now) && !dl.Head.WakeAt.After(next)
		if !pending {
			dl.Head.WakeAt = next
			dl.effects.WakeAt = next
		}
	}
	if len(dl.entries) > 0 && !dl.Head.RecordAt.After(dl.now) {
		dl.Head.RecordAt = dl.now.Add(dl.timing.RecordDelay)
		dl.effects.RecordAt = dl.Head.RecordAt
	}
}

// nextDeadline is the earliest of the pool's own deadlines; zero: there is none.
func (dl *deadlines) nextDeadline() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	c := dl.census()
	for i := range dl.Head.Sets {
		set := &dl.Head.Sets[i]
		if set.Op.Token != "" {
			at(set.Op.PollAt)
		}
		if set.Blocked.Until.After(dl.now) && (dl.line.wanting() > 0 || dl.Head.Deleting) {
			at(set.Blocked.Until)
		}
		if set.Model.IsOutdated() && set.Model.RetryAt.After(dl.now) && dl.censusOf(set).here() > 0 {
			at(set.Model.RetryAt)
		}
		if set.Breaker.ProbeAt.After(dl.now) && (dl.line.wanting() > 0 || dl.minNodes() > 0) {
			at(set.Breaker.ProbeAt)
		}
	}
	if !dl.sizing.growAt.IsZero() {
		at(dl.sizing.growAt)
	}
	missing := false
	for _, n := range dl.Nodes {
		if due := n.OutdatedAt.Add(dl.timing.RollWithin); n.Outdated && dl.timing.RollWithin > 0 && len(n.jobs) > 0 && due.After(dl.now) {
			at(due)
		}
		missing = missing || !n.MissingAt.IsZero() && n.State != pool.NodeGone
		idleUntil := n.Since.Add(time.Duration(dl.Head.Spec.IdleTimeout))
		if n.State == pool.NodeReady && c.working+c.coming > dl.minNodes() && idleUntil.After(dl.now) {
			at(idleUntil) // one that stays afterwards is needed, and does not wake the pool
		}
	}
	for _, j := range dl.sessions {
		dl.addSession(at, j)
	}
	for n := range dl.backlogs {
		if n.load.since.IsZero() {
			continue
		}
		at(n.load.since.Add(dl.timing.AheadFor))
	}
	if len(dl.line.later.jobs) > 0 && !dl.line.later.jobs[0].NotBefore.Equal(untilReleased) {
		at(dl.line.later.jobs[0].NotBefore)
	}
	unseen := slices.ContainsFunc(dl.Head.Sets, func(set pool.Set) bool { return dl.unseen(&set) > 0 })
	if c.coming+c.going+dl.pending() > 0 || missing || unseen || dl.Head.Deleting {
		at(dl.now.Add(dl.timing.PollEvery))
	}
	if look := dl.network.nextLook(); !look.IsZero() {
		at(look)
	}
	dl.addBudgets(at)
	if s := dl.Head.Spec.Schedule; s != nil && (c.here() > 0 || dl.line.waiting() > 0) {
		at(s.Next(dl.now))
	}
	return next
}

// addSession adds when a session is to be looked at: when it is too old, and when the time of
// its warning is over.
func (dl *deadlines) addSession(at func(time.Time), j *Job) {
	s, of := j.Session, dl.Head.Spec.Sessions
	if j.Cancel != "" || s.ReadyAt.IsZero() {
		return
	}
	if !s.EndsAt.IsZero() && s.DueAt.IsZero() {
		at(s.EndsAt)
	}
	if of != nil && of.MaxAge > 0 && s.EndsBy != pool.EndMaxAge && s.EndsBy != pool.EndSchedule && s.EndsBy != pool.EndBudget {
		at(s.ReadyAt.Add(time.Duration(of.MaxAge)))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
