package scheduler

import (
	"maps"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/plain"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Idle sessions. A node counts how long nobody has used a session, and reports it: when the
// verdict changes, and once a minute. Durations travel, and no clock is compared with another:
// a report proves that nobody used the session for so long before it was put on the queue. A
// session is warned on such a report, and ends on another one, which
//
//   - says that nobody has used it since the warning, and that the node has the warning,
//   - is younger than a tick that came when the time of the warning was over,
//   - and is younger than the last tick that this process has seen.
//
// So silence ends no session, nor does a report that has waited in the queue. Reports are
// compared with ticks by the times at which both were put on their queues.

const (
	// unknownFor is how long a voter that cannot find out keeps a session: a broken probe is to
	// end nobody's work, and is not to keep a node for ever.
	unknownFor = 24 * time.Hour
	// figuresEvery is how often the votes and bytes of a session are written if nothing else
	// changes: people look at them now and then, and no rule needs them.
	figuresEvery = 15 * time.Minute
	// sameStreak is how far apart two reports may say that a session became idle and still mean
	// the same: a report may wait on its way to the queue.
	sameStreak = 90 * time.Second
)

// Bounds of what a report adds to the row of a session.
const (
	maxVotes    = 12
	longestVote = 120 // bytes
	longestIdle = 400 * 24 * time.Hour
)

// receiveState takes in what a node says of a session. at is the enqueued time of the report.
func (se *sessions) receiveState(n *Node, st protocol.SessionState, at time.Time) {
	j := n.jobs[st.N]
	if j == nil || j.Session == nil || !j.HasBegun(st.N) || at.Before(j.Session.HeardAt) {
		return
	}
	st.Idle = min(max(st.Idle, 0), int64(longestIdle/time.Second))
	s := j.Session
	isNew := recordDesktop(s, st.Desktop)
	if se.recordState(s, st, at) || isNew {
		se.writeJob(j)
	}
	of := se.Head.Spec.Sessions
	if of == nil || j.Cancel != "" {
		return
	}
	idle := idleFor(s, st, at)
	switch {
	case isWarned(s, pool.EndIdle):
		switch {
		case of.IdleAfter == 0 || at.Add(-idle).After(s.WarnedOn):
			se.withdraw(j) // somebody has come back
		case !s.DueAt.IsZero() && at.After(s.DueAt) && at.After(se.tickAt) && s.ToldN >= s.WarnN:
			se.end(j, pool.EndIdle, idleText(idle))
		}
	case s.EndsBy == "" && of.IdleAfter > 0 && idle >= time.Duration(of.IdleAfter) && !at.Before(se.tickAt):
		s.HeardAt = at
		se.warn(j, pool.EndIdle, at, time.Duration(of.Warning))
	}
}

// idleText is the reason of a session that ends for idleness.
func idleText(idle time.Duration) string {
	unit := time.Minute
	if idle < unit {
		unit = time.Second
	}
	return "nobody had used it for " + job.Duration(idle.Truncate(unit)).String()
}

// idleFor is how long nobody has used a session, by a report; 0 = somebody does, or a voter
// cannot find out. The time for which its owner keeps it does not count.
func idleFor(s *pool.Session, st protocol.SessionState, at time.Time) time.Duration {
	if st.Unknown && at.Sub(s.Since) < unknownFor {
		return 0
	}
	idle := time.Duration(st.Idle) * time.Second
	if !s.KeepTill.IsZero() {
		idle = min(idle, at.Sub(s.KeepTill))
	}
	return max(idle, 0)
}

// recordState takes over what a report says, and reports whether it is to be written: when it
// matters to a rule or to a person, and of mere figures now and then.
func (se *sessions) recordState(s *pool.Session, st protocol.SessionState, at time.Time) bool {
	var idleSince time.Time
	if st.Idle > 0 {
		idleSince = at.Add(-time.Duration(st.Idle) * time.Second)
	}
	votes, links := clipVotes(st.Votes), clipLinks(st.Connections)
	closed := plain.Clip(st.DoorClosed, longestReason)
	told := max(s.ToldN, min(st.Warned, se.Head.N))
	matters := idleSince.IsZero() != s.IdleSince.IsZero() || idleSince.Sub(s.IdleSince).Abs() > sameStreak ||
		st.Unknown != s.Unknown || closed != s.DoorClosed || !maps.Equal(links, s.Links) || told != s.ToldN
	isOld := at.Sub(s.HeardAt) >= figuresEvery && (!maps.Equal(votes, s.Votes) || st.Relayed != s.Relayed)
	if !matters && !isOld {
		return false
	}
	switch {
	case !st.Unknown:
		s.Since = time.Time{}
	case !s.Unknown:
		s.Since = at
	}
	s.HeardAt, s.IdleSince, s.Unknown, s.Votes, s.Links = at, idleSince, st.Unknown, votes, links
	s.Relayed, s.DoorClosed, s.ToldN = max(st.Relayed, 0), closed, told
	return true
}

// clipVotes bounds the votes of a report: the same report has the same ones each time.
func clipVotes(votes map[string]string) map[string]string {
	var out map[string]string
	for _, voter := range slices.Sorted(maps.Keys(votes)) {
		if len(out) == maxVotes {
			break
		}
		if out == nil {
			out = map[string]string{}
		}
		out[plain.Clip(voter, longestWord)] = plain.Clip(votes[voter], longestVote)
	}
	return out
}

// clipLinks bounds the connections of a report, and leaves out those of which there is none.
func clipLinks(links map[string]int) map[string]int {
	var out map[string]int
	for _, kind := range slices.Sorted(maps.Keys(links)) {
		n := links[kind]
		if n <= 0 {
			continue
		}
		if len(out) == maxVotes {
			break
		}
		if out == nil {
			out = map[string]int{}
		}
		out[plain.Clip(kind, longestWord)] = n
	}
	return out
}

// isWarned reports whether a session is warned that it ends by this.
func isWarned(s *pool.Session, by string) bool { return s.EndsBy == by && !s.WarnedAt.IsZero() }
