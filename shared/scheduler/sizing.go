package scheduler

import (
	"time"

	"dsvmpools/shared/pool"
)

// sizing asks for the nodes that the line needs.
type sizing struct {
	*turn
	capacity  *capacity
	placement *placement

	growAt time.Time // when nodes can be asked for that are wanted now; zero: none are left to ask for
}

// grow asks for the nodes that the waiting jobs need, in the step that sees them. A
// request takes the place of the one that is under way, since it asks for more: an
// instance that is stuck holds up nobody but itself.
func (sz *sizing) grow() {
	wanted, more := sz.plan()
	sz.Head.Wanted = wanted
	for i := range sz.Head.Sets {
		set := &sz.Head.Sets[i]
		add := more[set.Name]
		if set.QuotaLimit > 0 {
			add = min(add, max(set.QuotaLimit, sz.unbackedBeyond(set)))
		}
		// What a failed call has left in doubt is asked for again.
		again := set.Op.Kind == "" && set.Unbacked && sz.line.wanting() > 0 && sz.capacity.mayBuy(set, 1) > 0 && sz.mayAskAgain(set)
		wants := !sz.Head.Deleting && !set.Model.Fixed && (add > 0 || again)
		if wants {
			sz.markGrowAt(set)
		}
		switch {
		case wants && sz.mayAskMore(set):
			sz.askMore(set, add)
		case set.Op.Kind != "":
			sz.followOperation(set)
		case sz.capacity.mayWriteModel(set) && (len(more) == 0 || sz.unbackedBeyond(set) == 0): // the plan has taken the room
			sz.writeModel(set)
		case !sz.Head.Deleting && add == 0 && !sz.now.Before(set.Blocked.Until):
			sz.shrinkToListed(set)
		}
	}
}

// mayAskMore reports whether a set may be asked for more nodes in this step.
func (sz *sizing) mayAskMore(set *pool.Set) bool {
	return !sz.now.Before(set.Blocked.Until) && sz.capacity.mayAskNow(set)
}

// markGrowAt notes when a set can be asked that more is wanted of, where only the time
// keeps it from being asked now. The step is called again then.
func (sz *sizing) markGrowAt(set *pool.Set) {
	at := mayAskAt(set, sz.now)
	if sz.now.Before(set.Blocked.Until) || !at.After(sz.now) {
		return
	}
	if sz.growAt.IsZero() || at.Before(sz.growAt) {
		sz.growAt = at
	}
}

// askMore asks a set for so many instances beside those that it has and that are on
// their way.
func (sz *sizing) askMore(set *pool.Set, add int) {
	op := pool.Op{Kind: pool.OpGrow, Target: sz.censusOf(set).stays() + set.Pending() + add, Adds: add, AskedAt: sz.now}
	if set.Op.Kind == pool.OpGrow && set.Op.Token != "" {
		under := set.Op
		op.Under = &under
	}
	if set.Op.Token == "" {
		sz.capacity.noteBound(set, &set.Op)
	}
	if set.Breaker.Open() { // one to see; the next when this one has not come up either
		set.Breaker.ProbeAt = sz.now.Add(sz.timing.BootDeadline)
	}
	set.Used, set.Op = true, op
	set.AddRequest(add, sz.now)
	countWrite(set, sz.now)
	sz.callsOf(set).Grow = op.Target
}

// operationForgotten is after how long an operation without an answer counts as
// never asked: the process that was to ask was killed in between.
const operationForgotten = time.Minute

// operationDeadline is after how long an accepted operation is not followed any
// more: Azure gives a VM half an hour to come up, and the listing says what
// became of it.
const operationDeadline = time.Hour

// followOperation looks after the operation in flight.
func (sz *sizing) followOperation(set *pool.Set) {
	op := &set.Op
	switch {
	case op.Token != "" && sz.now.Sub(op.AskedAt) > operationDeadline:
		*op = pool.Op{}
		sz.effects.List = true
	case op.Token != "" && !sz.now.Before(op.PollAt):
		c := sz.callsOf(set)
		c.Poll, c.PollKind = op.Token, op.Kind
		op.PollAt = sz.now.Add(sz.timing.PollEvery) // in case that look is lost
	case op.Token == "" && sz.now.Sub(op.AskedAt) > operationForgotten:
		if op.Kind == pool.OpGrow {
			sz.capacity.noteBound(set, op)
			if !sz.mayRepeatRequest(set) {
				*op = pool.Op{}
				sz.effects.List = true // if it was accepted after all, the list shows what it makes
				return
			}
			op.Target = sz.censusOf(set).stays() + set.Pending()
			countWrite(set, sz.now)
		}
		if op.Kind == pool.OpDrop && !sz.isEmpty(set) {
			*op = pool.Op{} // a node has turned up since
			return
		}
		op.AskedAt = sz.now
		op.Tries++
		c := sz.callsOf(set)
		switch op.Kind {
		case pool.OpGrow:
			c.Grow = op.Target
		case pool.OpShrink:
			c.Shrink = true
		case pool.OpDrop:
			c.Drop = true
		case pool.OpModel:
			c.Model = true
		}
	}
}

// mayRepeatRequest reports whether the call of a set that had no answer may be made again.
func (sz *sizing) mayRepeatRequest(set *pool.Set) bool {
	b := &set.Breaker
	isProbe := set.Op.AskedAt.After(b.OpenedAt)
	return (!b.Open() || isProbe) && sz.mayAskAgain(set)
}

// mayAskAgain reports whether a set may be asked once more for what is on its way, and
// takes back what `nodes.max` does not allow any more. To ask again is a new decision:
// the first call may never have been made, and meanwhile the pool may have gone down, or
// a quarantined node may count again. If the first call was made, a smaller one takes
// nothing away: a call for nodes never lowers a capacity.
func (sz *sizing) mayAskAgain(set *pool.Set) bool {
	if sz.Head.Deleting || sz.Head.Down {
		return false
	}
	if excess := sz.census().counted() + sz.pending() - sz.Head.Spec.Nodes.Max; excess > 0 {
		set.WithdrawRequests(excess)
	}
	return set.Pending() > 0 && sz.unbackedBeyond(set) == 0 // otherwise Azure would bring more than is on its way
}

// shrinkToListed gives up instances that were asked for and never came: past the boot
// deadline, or when the call for them failed and nothing is wanted any more, with
// a fresh listing and nothing running, the capacity is written down to what is
// there, so that they are not awaited, and billed, for ever.
func (sz *sizing) shrinkToListed(set *pool.Set) {
	if !sz.isEmpty(set) || set.Capacity == 0 || !set.Unbacked || !set.Listed.Equal(sz.now) {
		return
	}
	set.Op = pool.Op{Kind: pool.OpShrink, AskedAt: sz.now}
	countWrite(set, sz.now)
	sz.callsOf(set).Shrink = true
}

// isEmpty reports whether no node of a set is there.
func (sz *sizing) isEmpty(set *pool.Set) bool {
	c := sz.censusOf(set)
	return c.here()+c.going == 0
}

// dropSets deletes the scale sets that are to go, and reports whether none is left. One goes
// when a list of now shows that it is empty: instances that were asked for, and that nobody
// has seen yet, would go with it.
func (sz *sizing) dropSets(which func(*pool.Set) bool) bool {
	gone := true
	for i := range sz.Head.Sets {
		set := &sz.Head.Sets[i]
		if !set.Used || !which(set) {
			continue
		}
		gone = false
		switch {
		case !sz.isEmpty(set) || !sz.capacity.mayOperate(set):
		case set.Capacity > 0 && !set.Unbacked: // its instances are on their way
		case !set.Listed.Equal(sz.now):
			sz.effects.List = true
		default:
			set.Op = pool.Op{Kind: pool.OpDrop, AskedAt: sz.now}
			sz.callsOf(set).Drop = true
		}
	}
	return gone
}
