package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// capacity knows the rungs of the ladder: which of them may be asked for nodes, what
// was asked of them, and what became of it.
type capacity struct{ *turn }

// Times a pool keeps from asking for capacity, by the class of the refusal.
// What lacks room or quota now will hardly have it in a second, and every
// refused call costs throttling credit; the windows follow what other
// autoscalers of scale sets found useful.
const (
	blockNoQuota    = 10 * time.Minute
	blockNoCapacity = 10 * time.Minute
	blockInvalid    = 10 * time.Minute // somebody has to change the pool, which lifts the block
	blockThrottled  = 30 * time.Second // when the answer names no time
)

// blockFor is how long a refusal keeps the pool from asking again.
func blockFor(err *fault.Error, tries int) time.Duration {
	switch err.Code {
	case fault.NoQuota:
		return blockNoQuota
	case fault.NoCapacity:
		return blockNoCapacity
	case fault.Invalid:
		return blockInvalid
	case fault.Throttled:
		return max(err.RetryAfter, blockThrottled)
	default:
		return max(backoff.After(tries, firstPause, longestPause), err.RetryAfter)
	}
}

// Pauses between tries of a call to Azure that failed for a passing reason. The
// pause is never shorter than the one that Azure asks for.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// mayGrow reports whether the pool may ask for another node now.
func (cp *capacity) mayGrow(c census) bool {
	if cp.Head.Deleting || cp.Head.Down || c.counted()+cp.pending() >= cp.Head.Spec.Nodes.Max {
		return false
	}
	message, _ := cp.blockReason(func(*pool.Set) bool { return true })
	return message == ""
}

// syncLadder brings the head's sets in line with the spec: its rungs in their order, then
// the sets that it had and that are not gone yet. (The list is a new one, so that the
// head of before the step keeps its own.)
func (cp *capacity) syncLadder() {
	rungs := cp.Head.Spec.Rungs()
	sets := make([]pool.Set, 0, len(rungs))
	for _, r := range rungs {
		if old := cp.set(r.Name); old != nil {
			r = *old
		}
		sets = append(sets, r)
	}
	for _, old := range cp.Head.Sets {
		if old.Used && !slices.ContainsFunc(rungs, func(r pool.Set) bool { return r.Name == old.Name }) {
			sets = append(sets, old)
		}
	}
	for i := range sets {
		cp.takeOverPending(&sets[i])
	}
	cp.Head.Sets = sets
}

// mayOperate reports whether a set may be asked for nodes now.
func (cp *capacity) mayOperate(set *pool.Set) bool {
	return set.Op.Kind == "" && !cp.now.Before(set.Blocked.Until)
}

// recordRefusal takes in that a rung was refused what was asked of it.
func (cp *capacity) recordRefusal(set *pool.Set, err *fault.Error) {
	op := set.Op
	asked := op.Adds
	set.Op = pool.Op{}
	if op.Token == "" && op.Under != nil {
		set.Op = *op.Under // that one goes on
	}
	made := op.Token != "" || !isRefusedForGood(err)
	if made {
		cp.noteBound(set, &op)
	} else {
		set.WithdrawRequests(op.Adds)
	}
	if err.Code == fault.Immutable {
		cp.recordFixedModel(set) // the set gives no more nodes; it is made again
		return
	}
	if err.Code == fault.Preempted {
		return // no failure: a later call took its place. What is missing is asked for again.
	}
	if made {
		set.UnbackedAt, set.Unbacked = cp.now, true
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
	set.Blocked = pool.Block{Code: string(err.Code), Message: err.Message, Tries: tries, Until: cp.now.Add(blockFor(err, tries))}
}

// isRefusedForGood reports whether a call that was not accepted has certainly made
// nothing.
func isRefusedForGood(err *fault.Error) bool {
	switch err.Code {
	case fault.NoQuota, fault.NoCapacity, fault.Throttled, fault.Invalid, fault.Preempted, fault.Immutable:
		return true
	}
	return false
}

// recordAcceptance takes in that what was asked of a rung is under way.
func (cp *capacity) recordAcceptance(set *pool.Set) {
	set.Capacity, set.GrantedAt = max(set.Capacity, set.Op.Target), cp.now
	cp.noteBound(set, &set.Op)
	set.Unbacked, set.Op.Under = false, nil
}

// recordGrant takes in that a rung was given what was asked of it.
func (cp *capacity) recordGrant(set *pool.Set) {
	if set.Op.Token == "" {
		cp.recordAcceptance(set)
	}
	cut := set.QuotaLimit
	set.QuotaLimit, set.Unbacked, set.Op = 0, false, pool.Op{}
	if cut == 0 {
		set.Blocked = pool.Block{}
		return
	}
	// It gave a part, and would refuse the rest.
	set.Blocked.Until, set.Blocked.Tries = cp.now.Add(blockNoQuota), 0
}

// blockReason says why no node is asked for although jobs wait, and until when; "" when
// one of the rungs may be asked. fits leaves out the rungs that would not help.
func (cp *capacity) blockReason(fits func(*pool.Set) bool) (message string, until time.Time) {
	var why []string
	for i := range cp.Head.Sets {
		set := &cp.Head.Sets[i]
		if cp.rungOf(set.Name) < 0 || !fits(set) {
			continue
		}
		message, at := cp.haltReason(set)
		if message == "" && set.Model.Fixed {
			message, at = madeAgain, cp.now.Add(cp.timing.PollEvery)
		}
		if message == "" && cp.now.Before(set.Blocked.Until) {
			message, at = set.Blocked.Message, set.Blocked.Until
		}
		if message == "" {
			return "", time.Time{}
		}
		if len(cp.Head.Spec.Rungs()) > 1 {
			message = fmt.Sprintf("%s: %s", set, message)
		}
		why = append(why, message)
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	return strings.Join(why, "; "), until
}

// recordAnswer takes in how a call to the scale set went.
func (cp *capacity) recordAnswer(e pool.Answered) {
	if e.Kind == pool.OpRemove {
		if e.Err == nil {
			return
		}
		for _, vmid := range e.Nodes {
			if n := cp.Nodes[vmid]; n != nil && n.State != pool.NodeGone {
				// Asked again when the time is up; until then the reason says why.
				n.DeleteAt = cp.now.Add(max(firstPause, e.Err.RetryAfter) - cp.timing.DeleteAgain)
				n.Reason = "deleting failed: " + e.Err.Message
				cp.touchNode(n)
			}
		}
		return
	}
	set := cp.setOrFirst(e.Set)
	if set == nil {
		return
	}
	if set.Op.Kind != e.Kind || e.Target != 0 && e.Target != set.Op.Target || e.Of != "" && e.Of != set.Op.Token {
		if e.Kind == pool.OpGrow && set.Bound > 0 {
			set.BoundAt = cp.now
		}
		cp.effects.List = true // of an operation that another has taken the place of
		return
	}
	switch op := &set.Op; {
	case e.Kind == pool.OpModel:
		cp.recordModelAnswer(set, e)
	case e.Err != nil && e.Kind == pool.OpGrow:
		cp.recordRefusal(set, e.Err)
		cp.effects.List = true
	case e.Err != nil:
		tries := set.Blocked.Tries + 1
		set.Blocked = pool.Block{Code: string(e.Err.Code), Message: e.Err.Message, Tries: tries, Until: cp.now.Add(blockFor(e.Err, tries))}
		*op = pool.Op{}
		cp.effects.List = true
	case e.Token != "":
		if op.Kind == pool.OpGrow && op.Token == "" {
			cp.recordAcceptance(set)
			cp.effects.List = true // what it makes is seen at once
		}
		op.Token, op.PollAt = e.Token, cp.now.Add(e.After)
	case e.Kind == pool.OpGrow:
		cp.recordGrant(set)
		cp.effects.List = true
	case e.Kind == pool.OpDrop:
		*set = pool.Set{Name: set.Name, Size: set.Size, Spot: set.Spot, WroteAt: set.WroteAt, FullAt: set.FullAt, Breaker: set.Breaker}
		cp.syncLadder()
	default:
		set.Unbacked, set.Requests, *op = false, nil, pool.Op{}
		cp.effects.List = true
	}
}
