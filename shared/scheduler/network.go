package scheduler

import (
	"slices"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/pool"
)

// Pauses between looks at the network of a pool that fail.
const (
	networkRetry   = 10 * time.Second
	networkLongest = 10 * time.Minute
)

// network opens the nodes of a pool to people who come in beside the relay, and closes them
// again. What is to be open follows from the rows alone. Each call compares all that is there
// with all that is wanted, so that a lost call leaves nothing open that a later one does not
// close. A call that was decided earlier may come later and undo the last one: the pool looks
// once more when no such call can be under way, and now and then as long as something is open.
type network struct{ *turn }

// wanted is what is to be there now. The door of a node is open while one of its sessions lives.
func (nw *network) wanted() pool.Network {
	var want pool.Network
	ways := nw.Head.Spec.Ways()
	if len(ways) == 0 {
		return want
	}
	for _, j := range nw.liveSessions() {
		if n := nw.Nodes[j.VMID]; n != nil && n.State != pool.NodeGone && n.Listens.Inside != "" {
			want.Open = append(want.Open, n.Listens.Inside)
		}
	}
	slices.Sort(want.Open)
	want.Open = slices.Compact(want.Open)
	if slices.Contains(ways, pool.AccessBalancer) {
		want.Balancer = nw.anyAlive()
		want.Address = want.Balancer || nw.Head.Spec.Balancer.Keep && !nw.Head.Deleting
	}
	return want
}

// look has the network compared with what is wanted, if that has changed or it is time.
func (nw *network) look() {
	want, o := nw.wanted(), &nw.Head.Opening
	if o.Wanted == "" && want.IsNone() {
		return
	}
	if key := want.Key(); key != o.Wanted {
		*o = pool.Opening{Wanted: key, Since: nw.now, LookAt: nw.now, Address: o.Address}
	}
	if want.IsNone() && o.Sure {
		*o = pool.Opening{}
		return
	}
	if !o.LookAt.After(nw.now) {
		nw.effects.Network = &want
		o.LookAt = nw.now.Add(nw.timing.NetworkAgain)
	}
}

// lookNow has it compared by this step.
func (nw *network) lookNow() {
	if o := &nw.Head.Opening; o.Wanted != "" {
		o.LookAt = nw.now
	} else if len(nw.Head.Spec.Ways()) > 0 {
		*o = pool.Opening{Wanted: (&pool.Network{}).Key(), Since: nw.now, LookAt: nw.now}
	}
}

// recordAnswer takes in what came of a call.
func (nw *network) recordAnswer(e pool.Networked) {
	o := &nw.Head.Opening
	switch {
	case e.Key != o.Wanted: // it has done something else, perhaps after the last call
		*o = pool.Opening{Wanted: o.Wanted, Since: nw.now, LookAt: nw.now, Address: o.Address}
		if o.Wanted == "" {
			o.Wanted = (&pool.Network{}).Key()
		}
	case e.Err != nil:
		o.Tries++
		o.Done, o.Sure, o.Problem = false, false, e.Err.Message
		o.LookAt = nw.now.Add(backoff.After(o.Tries, networkRetry, networkLongest))
	case e.After > 0:
		o.Done, o.Sure, o.Tries, o.Problem, o.LookAt = false, false, 0, "", nw.now.Add(e.After)
	default:
		o.Done, o.Tries, o.Problem, o.Address = true, 0, "", e.Address
		if due := o.Since.Add(nw.timing.NetworkSettled); e.Began.Before(due) {
			o.LookAt = later(due, nw.now)
		} else {
			o.Sure, o.LookAt = true, nw.now.Add(nw.timing.NetworkEvery)
		}
	}
}

// isGone reports whether the pool has nothing in the network any more.
func (nw *network) isGone() bool { return nw.Head.Opening.Wanted == "" }

// nextLook is when the network is to be looked at; zero: it need not be.
func (nw *network) nextLook() time.Time {
	if o := nw.Head.Opening; o.Wanted != "" && (!o.Sure || nw.anyAlive()) {
		return o.LookAt
	}
	return time.Time{}
}
