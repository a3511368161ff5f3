package pool

import (
	"slices"
	"time"
)

// Ask is a number of instances that were asked for at one time.
type Ask struct {
	N  int       `json:"n"`
	At time.Time `json:"at"`
}

// maxAsks bounds what is remembered of one set. More are asked for within a boot
// deadline only while instances keep coming; the oldest are taken together then,
// with the later of their times, which gives none of them less time than it has.
const maxAsks = 24

// Pending is the number of instances that were asked for and not seen yet.
func (set *Set) Pending() int {
	n := 0
	for _, a := range set.Asks {
		n += a.N
	}
	return n
}

// Await adds n instances that are on their way from now on. (Asks is never changed
// in place: the head of before the step still holds it.)
func (set *Set) Await(n int, now time.Time) {
	if n <= 0 {
		return
	}
	set.Asks = append(slices.Clone(set.Asks), Ask{n, now})
	if len(set.Asks) > maxAsks {
		set.Asks[1].N += set.Asks[0].N
		set.Asks = set.Asks[1:]
	}
}

// TakeOldestAsk takes one instance off the oldest request and returns when that was;
// zero when nobody here has asked for it.
func (set *Set) TakeOldestAsk() time.Time {
	if len(set.Asks) == 0 {
		return time.Time{}
	}
	at := set.Asks[0].At
	set.Asks = slices.Clone(set.Asks)
	if set.Asks[0].N--; set.Asks[0].N == 0 {
		set.Asks = set.Asks[1:]
	}
	return at
}

// Withdraw takes n instances off the youngest requests.
func (set *Set) Withdraw(n int) {
	set.Asks = slices.Clone(set.Asks)
	for n > 0 && len(set.Asks) > 0 {
		last := &set.Asks[len(set.Asks)-1]
		some := min(n, last.N)
		last.N -= some
		if n -= some; last.N == 0 {
			set.Asks = set.Asks[:len(set.Asks)-1]
		}
	}
}
