package pool

import (
	"slices"
	"time"
)

// Request is a number of instances that the pool asked for at one time.
type Request struct {
	N  int       `json:"n"`
	At time.Time `json:"at"`
}

// maxRequests bounds the requests that are remembered of one set. There are more within
// a boot deadline only while instances keep coming. Then the two oldest become one, with
// the later of their times, so that no instance gets less time to come up.
const maxRequests = 24

// Pending is the number of instances that were asked for and are not listed yet.
func (set *Set) Pending() int {
	n := 0
	for _, r := range set.Requests {
		n += r.N
	}
	return n
}

// AddRequest adds n instances that are on their way from now on. (No method changes
// Requests in place: the copy of the head from before the step shares it.)
func (set *Set) AddRequest(n int, now time.Time) {
	if n <= 0 {
		return
	}
	set.Requests = append(slices.Clone(set.Requests), Request{n, now})
	if len(set.Requests) > maxRequests {
		set.Requests[1].N += set.Requests[0].N
		set.Requests = set.Requests[1:]
	}
}

// TakeOldestRequest takes one instance off the oldest request and returns when that was;
// zero: the pool did not ask for it.
func (set *Set) TakeOldestRequest() time.Time {
	if len(set.Requests) == 0 {
		return time.Time{}
	}
	at := set.Requests[0].At
	set.Requests = slices.Clone(set.Requests)
	if set.Requests[0].N--; set.Requests[0].N == 0 {
		set.Requests = set.Requests[1:]
	}
	return at
}

// WithdrawRequests takes n instances off the youngest requests.
func (set *Set) WithdrawRequests(n int) {
	set.Requests = slices.Clone(set.Requests)
	for n > 0 && len(set.Requests) > 0 {
		last := &set.Requests[len(set.Requests)-1]
		some := min(n, last.N)
		last.N -= some
		if n -= some; last.N == 0 {
			set.Requests = set.Requests[:len(set.Requests)-1]
		}
	}
}
