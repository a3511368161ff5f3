package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/pool"
)

// The instances that a scale set was asked for and does not list yet, and how often it
// may be asked. An instance is on its way from its request on, and its time to come up
// begins there, independent of the state of its operation.

// takeOverPending turns what a row of an earlier version says of instances that are not
// listed yet into a request.
func (cp *capacity) takeOverPending(set *pool.Set) {
	if set.PendingSince.IsZero() {
		return
	}
	asked := set.Op.Target
	if !set.Unbacked {
		asked = max(asked, set.Capacity)
	}
	if set.Requests == nil {
		set.AddRequest(asked-cp.censusOf(set).here(), set.PendingSince)
	}
	set.PendingSince = time.Time{}
}

// reconcile compares the pending requests with the capacity in a list whose instances have
// just been taken in, and for which Azure was asked at a time. A capacity counts the instances that exist and that are coming. It
// is not known whether it counts those that are leaving, so it gives two bounds.
func (cp *capacity) reconcile(set *pool.Set, capacity int, at time.Time) {
	lags := at.Sub(set.GrantedAt) < cp.timing.MissingFor
	if set.Unbacked {
		// The instances that a failed call has made are listed by now.
		if set.Op.Kind == "" && !lags && at.Sub(set.UnbackedAt) >= cp.timing.MissingFor {
			set.Requests = nil
		}
		return
	}
	c := cp.censusOf(set)
	set.AddRequest(max(capacity-c.here()-c.going, 0)-set.Pending(), cp.now)
	if unanswered := set.Op.Kind == pool.OpGrow && set.Op.Token == ""; !unanswered && !lags {
		set.WithdrawRequests(set.Pending() - max(capacity-c.stays(), 0))
	}
	// Instances that Azure has accepted and not made before the boot deadline do not
	// come: they are capacity without instances.
	late := 0
	for len(set.Requests) > 0 && cp.now.Sub(set.Requests[0].At) > cp.timing.BootDeadline {
		late += set.Requests[0].N
		set.Requests = set.Requests[1:]
	}
	if late > 0 {
		set.Unbacked, set.UnbackedAt = true, cp.now
		set.Blocked = cp.blockNeverMade(late)
	}
}

// noteBound notes that Azure may have taken a call for nodes.
//
// A call writes a capacity, and Azure fills it up. If a node had left before the call and the
// pool has not noticed, Azure makes one more than the pool has asked for. A list that is
// newer than the call shows it.
func (cp *capacity) noteBound(set *pool.Set, op *pool.Op) {
	if op.Kind == pool.OpGrow {
		set.Bound, set.BoundAt = max(set.Bound, op.Target), cp.now
	}
}

// unseen is how many instances a set may have, or get, beside its nodes and those that it
// was asked for: in the place of nodes that have left.
func (s *State) unseen(set *pool.Set) int {
	most := set.Bound
	if set.Op.Kind == pool.OpGrow && set.Op.Token == "" {
		most = max(most, set.Op.Target)
	}
	return max(most-s.censusOf(set).stays()-set.Pending(), 0)
}

// unbackedBeyond is how many instances the next write to a set brings beside its nodes and
// those that it was asked for, whatever the write asks for: a call failed after Azure had
// taken it, the set kept the capacity, and no write lowers a capacity under which nodes run.
func (s *State) unbackedBeyond(set *pool.Set) int {
	if !set.Unbacked {
		return 0
	}
	return max(max(set.Capacity, set.Bound)-s.censusOf(set).stays()-set.Pending(), 0)
}

// room is how many more nodes the pool may have.
func (s *State) room() int { return s.Head.Spec.Nodes.Max - s.census().counted() - s.pending() }

// unseenBeside is how many instances the sets but one may have that the pool has not seen.
// They count for that one: what is asked of itself takes the place of its own.
func (s *State) unseenBeside(set *pool.Set) int {
	n := 0
	for i := range s.Head.Sets {
		if other := &s.Head.Sets[i]; other.Name != set.Name {
			n += s.unseen(other)
		}
	}
	return n
}

// Azure limits the writes (PUT and PATCH) of each scale set: 12 at once, and 4 more in a
// minute (the published limits of Compute). A write beyond the limit makes the wait
// longer. So two of the 12 are left for repeats: the first few writes go at once, then
// each pause is twice as long as the one before, up to the time in which one more write
// is allowed. Nodes that are wanted during a pause are asked for with the next write.
const (
	writesAtOnce = 5  // without a pause
	writesInAll  = 10 // until the pause is writeEvery
	writeEvery   = 15 * time.Second
)

// mayWriteAt is when the set's capacity may be written next.
func mayWriteAt(set *pool.Set, now time.Time) time.Time {
	used := int((set.FullAt.Sub(now) + writeEvery - 1) / writeEvery)
	if used < writesAtOnce {
		return now
	}
	return later(now, set.WroteAt.Add(writeEvery>>max(writesInAll-used, 0)))
}

// countWrite notes that the set's capacity is written now.
func countWrite(set *pool.Set, now time.Time) {
	set.WroteAt, set.FullAt = now, later(set.FullAt, now).Add(writeEvery)
}

// mayReplaceAt is when a new request may replace what is in flight: an accepted operation
// at once, a call without an answer after it has had time for one; zero: not before the
// operation has ended.
func mayReplaceAt(op *pool.Op, now time.Time) time.Time {
	switch {
	case op.Kind == pool.OpDrop:
		return time.Time{}
	case op.Kind == "" || op.Token != "":
		return now
	}
	return later(now, op.AskedAt.Add(writeEvery))
}

// mayAskAt is the earliest time at which the set may be asked for more; zero: not before
// the operation in flight has ended.
func mayAskAt(set *pool.Set, now time.Time) time.Time {
	at := mayReplaceAt(&set.Op, now)
	if at.IsZero() {
		return at
	}
	return later(at, mayWriteAt(set, now))
}

// mayAskNow reports whether the next step may ask the set for more.
func (cp *capacity) mayAskNow(set *pool.Set) bool {
	at := mayAskAt(set, cp.now)
	return !at.IsZero() && !at.After(cp.now)
}

// nextRequestText says when the next request goes to one of the sets that should give
// more.
func (cp *capacity) nextRequestText(more map[string]int) string {
	var next time.Time
	for i := range cp.Head.Sets {
		set := &cp.Head.Sets[i]
		if at := mayAskAt(set, cp.now); more[set.Name] > 0 && !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return fmt.Sprintf("the next request, at %s at the latest: Azure takes so many in a minute; nothing has to be done", stamp(next))
}
