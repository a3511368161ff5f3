package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/pool"
)

// What a scale set was asked for and has not shown yet, and how often it may be
// asked. An instance counts as on its way from the request on, and its time to
// come up runs from there, whatever the operation it belongs to is doing.

// takeOverPending takes over what a row of before Asks says of instances not seen yet.
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

// reconcile compares what is awaited with the capacity of a list whose instances
// have just been taken in. A capacity counts what is there and what comes; whether
// it counts what is on its way out is not known, so it gives two bounds.
func (cp *capacity) reconcile(set *pool.Set, capacity int) {
	lags := cp.now.Sub(set.GrantedAt) < cp.timing.MissingFor
	if set.Unbacked {
		// What a failed call has brought about is seen by now.
		if set.Op.Kind == "" && !lags && cp.now.Sub(set.UnbackedAt) >= cp.timing.MissingFor {
			set.Requests = nil
		}
		return
	}
	c := cp.censusOf(set)
	set.AddRequest(max(capacity-c.here()-c.going, 0)-set.Pending(), cp.now)
	if unanswered := set.Op.Kind == pool.OpGrow && set.Op.Token == ""; !unanswered && !lags {
		set.WithdrawRequests(set.Pending() - max(capacity-c.stays(), 0))
	}
	// What Azure has accepted and not made within the time of a boot, it does not
	// make: the capacity is there on paper only.
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

// The service gives each scale set a bucket of writes (PUT and PATCH): 12 at once,
// and 4 more in a minute (the published limits of Compute). A call beyond them makes
// the wait longer, so two are left for those that have to be repeated: the first few
// leave at once, then each pause is twice as long as the one before, up to the time
// in which one more comes into the bucket. What is wanted meanwhile goes with the
// next one.
const (
	writesAtOnce = 5
	writesInAll  = 10
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

// countWrite counts a write.
func countWrite(set *pool.Set, now time.Time) {
	set.WroteAt, set.FullAt = now, later(set.FullAt, now).Add(writeEvery)
}

// mayReplaceAt is when a new request may take the place of what is in flight: of an
// operation that was accepted at once, of a call that has no answer yet when that
// has had time for one; zero: not before it is over.
func mayReplaceAt(op *pool.Op, now time.Time) time.Time {
	switch {
	case op.Kind == pool.OpDrop:
		return time.Time{}
	case op.Kind == "" || op.Token != "":
		return now
	}
	return later(now, op.AskedAt.Add(writeEvery))
}

// mayAskAt is when the set may be asked for more, as far as that is a matter of time;
// zero: not before what is in flight is over.
func mayAskAt(set *pool.Set, now time.Time) time.Time {
	at := mayReplaceAt(&set.Op, now)
	if at.IsZero() {
		return at
	}
	return later(at, mayWriteAt(set, now))
}

// mayAskNow reports whether the next step asks the set for what is wanted of it.
func (cp *capacity) mayAskNow(set *pool.Set) bool {
	at := mayAskAt(set, cp.now)
	return !at.IsZero() && !at.After(cp.now)
}

// nextRequestText says when the next of the sets is asked of which more is wanted.
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
