package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// The ladder. A scale set holds one size and one priority, so a pool has a set for
// each rung of its ladder: with `capacity: spot-then-regular`, all sizes as Spot,
// then all as regular. The nodes that the line needs are asked for on the best rung
// that can give any; a rung that was refused is left alone for a while, and the next
// one is asked. Sets are made on first use and named for what they are, so that they
// are found again when the spec has changed.

// regularAfter is how many evictions let a job ask for regular nodes, where the pool
// has any: it has been unlucky, or takes longer than Spot lasts here.
const regularAfter = 3

// climb brings the head's sets in line with the spec: its rungs in their order, then
// the sets that it had and that are not gone yet. (The list is a new one, so that the
// head of before the step keeps its own.)
func (st *step) climb() {
	rungs := st.Head.Spec.Rungs()
	sets := make([]pool.Set, 0, len(rungs))
	for _, r := range rungs {
		if old := st.set(r.Name); old != nil {
			r = *old
		}
		sets = append(sets, r)
	}
	for _, old := range st.Head.Sets {
		if old.Used && !slices.ContainsFunc(rungs, func(r pool.Set) bool { return r.Name == old.Name }) {
			sets = append(sets, old)
		}
	}
	for i := range sets {
		st.inherit(&sets[i])
	}
	st.Head.Sets = sets
}

// set finds one of the pool's sets; nil when it has none of that name.
func (s *State) set(name string) *pool.Set {
	for i := range s.Head.Sets {
		if s.Head.Sets[i].Name == name {
			return &s.Head.Sets[i]
		}
	}
	return nil
}

// rung is the place of a set in the ladder, best first; -1 for one that the spec
// does not name any more.
func (s *State) rung(name string) int {
	n := len(s.Head.Spec.Sizes)
	if s.Head.Spec.HasSpot() && s.Head.Spec.HasRegular() {
		n *= 2
	}
	for i := range min(n, len(s.Head.Sets)) {
		if s.Head.Sets[i].Name == name {
			return i
		}
	}
	return -1
}

// setOf guesses the set of a node that was not listed yet, by the name of the
// instance: a set's name with a number behind it.
func (s *State) setOf(name string) *pool.Set {
	if at := strings.LastIndexByte(name, '_'); at > 0 {
		if set, ok := strings.CutPrefix(name[:at], pool.SetName(s.Head.Spec.Name, "")); ok {
			if found := s.set(set); found != nil {
				return found
			}
		}
	}
	return &s.Head.Sets[0]
}

// mayAsk reports whether a set may be asked for nodes now.
func (st *step) mayAsk(set *pool.Set) bool {
	return set.Op.Kind == "" && !st.now.Before(set.Blocked.Until)
}

// wantsRegular reports whether a job has been evicted too often to go on with Spot.
func (j *Job) wantsRegular() bool { return j.ended(job.AttemptEvicted) >= regularAfter }

// refusedBy takes in that a rung was refused what was asked of it.
func (st *step) refusedBy(set *pool.Set, err *fault.Error) {
	op := set.Op
	asked := op.Adds
	set.Op = pool.Op{}
	if op.Token == "" && op.Under != nil {
		set.Op = *op.Under // that one goes on
	}
	made := op.Token != "" || !refusedForGood(err)
	if !made {
		set.WithdrawRequests(op.Adds)
	}
	if err.Code == fault.Preempted {
		return // no failure: a later call took its place. What is missing is asked for again.
	}
	if made {
		set.UnbackedAt, set.Unbacked = st.now, true
	}
	// What quota allows in part is taken in part: as many as it has left, or half as
	// many where nobody says so. The rung is left alone when not even one is given.
	part := 0
	if err.Code == fault.NoQuota {
		part = asked / 2
		if err.Left != nil && *err.Left < asked {
			part = max(*err.Left, 0)
		}
	}
	if part > 0 {
		set.QuotaLimit = part
		set.Blocked = pool.Block{Code: string(err.Code), Message: err.Message, Tries: set.Blocked.Tries + 1}
		return
	}
	set.QuotaLimit = 0
	tries := set.Blocked.Tries + 1
	set.Blocked = pool.Block{Code: string(err.Code), Message: err.Message, Tries: tries, Until: st.now.Add(blockFor(err, tries))}
}

// refusedForGood reports whether a call that was not accepted has certainly made
// nothing.
func refusedForGood(err *fault.Error) bool {
	switch err.Code {
	case fault.NoQuota, fault.NoCapacity, fault.Throttled, fault.Invalid, fault.Preempted:
		return true
	}
	return false
}

// acceptedBy takes in that what was asked of a rung is under way.
func (st *step) acceptedBy(set *pool.Set) {
	set.Capacity, set.GrantedAt = max(set.Capacity, set.Op.Target), st.now
	set.Unbacked, set.Op.Under = false, nil
}

// grantedBy takes in that a rung was given what was asked of it.
func (st *step) grantedBy(set *pool.Set) {
	if set.Op.Token == "" {
		st.acceptedBy(set)
	}
	cut := set.QuotaLimit
	set.QuotaLimit, set.Unbacked, set.Op = 0, false, pool.Op{}
	if cut == 0 {
		set.Blocked = pool.Block{}
		return
	}
	// It gave a part, and would refuse the rest.
	set.Blocked.Until, set.Blocked.Tries = st.now.Add(blockNoQuota), 0
}

// blocked says why no node is asked for although jobs wait, and until when; "" when
// one of the rungs may be asked. fits leaves out the rungs that would not help.
func (st *step) blocked(fits func(*pool.Set) bool) (message string, until time.Time) {
	var why []string
	for i := range st.Head.Sets {
		set := &st.Head.Sets[i]
		if st.rung(set.Name) < 0 || !fits(set) {
			continue
		}
		message, at := st.halted(set)
		if message == "" && st.now.Before(set.Blocked.Until) {
			message, at = set.Blocked.Message, set.Blocked.Until
		}
		if message == "" {
			return "", time.Time{}
		}
		if len(st.Head.Spec.Rungs()) > 1 {
			message = fmt.Sprintf("%s: %s", set, message)
		}
		why = append(why, message)
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	return strings.Join(why, "; "), until
}
