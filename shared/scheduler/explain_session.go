package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/pool"
)

// explainSession says of a session that is open who uses it, and what ends it.
func (ex *explainer) explainSession(j *Job) (reason, unblocks string) {
	s, of := j.Session, ex.Head.Spec.Sessions
	use := "somebody uses it"
	switch {
	case s.HeardAt.IsZero():
		use = "its node has not said yet whether somebody uses it"
	case s.IdleSince.IsZero(): // a voter is busy, whatever others cannot find out
	case s.Unknown:
		use = "a voter cannot find out whether somebody uses it, which counts as use for a day"
	case !s.IdleSince.IsZero():
		use = "nobody has used it since " + stamp(s.IdleSince)
	}
	if votes := votesText(s.Votes); votes != "" {
		use += " (" + votes + ")"
	}
	if s.DoorClosed != "" {
		use += "; nobody can come in: " + s.DoorClosed
	}
	name := j.Current().Node
	if !s.EndsAt.IsZero() {
		return fmt.Sprintf("it ends at %s, since %s; it is on node %s, and %s", stamp(s.EndsAt), warnedText[s.EndsBy], name, use),
			vetoText[s.EndsBy]
	}
	ends := []string{"its owner, who ends it"}
	if of != nil && of.IdleAfter > 0 {
		since := ""
		if s.KeepTill.After(ex.now) {
			since = " after " + stamp(s.KeepTill)
		}
		ends = append(ends, fmt.Sprintf("%s without use%s and a warning of %s", of.IdleAfter, since, of.Warning))
	}
	if end := ex.oldestAge(s); !end.IsZero() {
		ends = append(ends, fmt.Sprintf("its greatest age, at %s, and a warning of %s", stamp(end), of.Warning))
	}
	return fmt.Sprintf("it is open on node %s since %s, and %s", name, stamp(j.Current().StartedAt), use), strings.Join(ends, "; or ")
}

// warnedText says why a session ends that is warned, and vetoText what keeps it.
var (
	warnedText = map[string]string{
		pool.EndIdle:     "nobody has used it",
		pool.EndMaxAge:   "it is as old as `sessions.maxAge` of its pool allows",
		pool.EndSchedule: goesDown,
		pool.EndBudget:   "its budget is spent",
	}
	vetoText = map[string]string{
		pool.EndIdle:     "somebody who uses it, or `dsvm session extend`",
		pool.EndMaxAge:   "a longer `sessions.maxAge` of its pool",
		pool.EndSchedule: "another `schedule` of its pool",
		pool.EndBudget:   "an operator, by `dsvm budget raise`",
	}
)

// oldestAge is when a session is warned for its age; zero: never.
func (ex *explainer) oldestAge(s *pool.Session) time.Time {
	of := ex.Head.Spec.Sessions
	if of == nil || of.MaxAge == 0 || s.ReadyAt.IsZero() {
		return time.Time{}
	}
	return s.ReadyAt.Add(time.Duration(of.MaxAge))
}

// votesText names the votes for people, in the order of the voters' names.
func votesText(votes map[string]string) string {
	words := make([]string, 0, len(votes))
	for _, voter := range slices.Sorted(maps.Keys(votes)) {
		words = append(words, voter+": "+votes[voter])
	}
	return strings.Join(words, ", ")
}

// spareText says which idle nodes stay for the next ones who come, after a separator; "" =
// none do.
func (ex *explainer) spareText(separator string) string {
	n := len(ex.spareNodes())
	if n == 0 {
		return ""
	}
	return separator + countNodes(n, "stays", "stay") + fmt.Sprintf(" for the %d free slots of `sessions.spare`", ex.Head.Spec.Sessions.Spare)
}
