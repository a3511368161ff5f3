package servicebus

import (
	"cmp"
	"sync"
	"time"
)

// A Standard namespace may spend so many credits per second: one for each message that is
// sent, delivered or peeked, one for each other request to a management link (such as the
// renewal of a lock), and ten for each request to the administration. The service's price
// list of credits has no line for the end of a message (complete, abandon, defer,
// dead-letter), so that costs none here.
const (
	CreditsPerSecond = 1000
	managementCost   = 10
)

// busyCondition is the condition with which the service throttles.
const busyCondition = "com.microsoft:server-busy"

func (s *Server) busy() string {
	return "The request was terminated because the namespace " + namespace{s}.Info().Name +
		" is being throttled. Error code : 50009. Please wait 2 seconds and try again."
}

// RateStats are counts since the start, of a namespace with rates. Without rates all are 0.
type RateStats struct {
	Sends          RequestCount // deliveries of senders, each with one message or a batch
	Management     RequestCount // requests to $management links
	Administration RequestCount // requests over HTTP

	Credits     int64 // spent
	Delayed     int64 // times that messages for a receiver waited for the next second
	FullSeconds int64 // seconds in which a request was refused or a receiver waited
}

// RequestCount counts requests, and those of them that were refused because of the rates.
type RequestCount struct{ Requests, Refused int64 }

// rates counts the credits of the current second. nil has no limit.
type rates struct {
	now   func() time.Time
	limit int // credits per second

	mu     sync.Mutex
	second int64
	spent  int
	full   int64 // the last second that counts as full
	stats  RateStats
}

func newRates(now func() time.Time, limit int) *rates {
	return &rates{now: now, limit: cmp.Or(limit, CreditsPerSecond)}
}

// spendOn takes the credits of a request. It returns false if the request must be refused.
// kind selects the count in which the request appears.
func (r *rates) spendOn(kind func(*RateStats) *RequestCount, n int) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	count := kind(&r.stats)
	count.Requests++
	if r.spend(n) {
		return true
	}
	count.Refused++
	return false
}

// Kinds of requests for spendOn.
func ofSends(s *RateStats) *RequestCount          { return &s.Sends }
func ofManagement(s *RateStats) *RequestCount     { return &s.Management }
func ofAdministration(s *RateStats) *RequestCount { return &s.Administration }

// spendOnDelivery takes the credits of messages that a receiver gets. It returns false if
// they must wait for the next second.
func (r *rates) spendOnDelivery(n int) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spend(n) {
		return true
	}
	r.stats.Delayed++
	return false
}

// spend takes credits. It returns false if the second has too few left. A request that
// needs more than a whole second passes if it is the first, and the seconds after it pay
// the rest. The caller holds mu.
func (r *rates) spend(n int) bool {
	if second := r.now().Unix(); second != r.second {
		passed := min(max(second-r.second, 1), 1<<30)
		r.spent = int(max(int64(r.spent)-passed*int64(r.limit), 0))
		r.second = second
	}
	if r.spent > 0 && r.spent+n > r.limit {
		if r.full != r.second {
			r.full = r.second
			r.stats.FullSeconds++
		}
		return false
	}
	r.spent += n
	r.stats.Credits += int64(n)
	return true
}

// untilNext is the time until the next second begins.
func (r *rates) untilNext() time.Duration {
	now := r.now()
	return now.Truncate(time.Second).Add(time.Second).Sub(now)
}

// RateStats returns the counts of the rates so far.
func (s *Server) RateStats() RateStats {
	if s.rates == nil {
		return RateStats{}
	}
	s.rates.mu.Lock()
	defer s.rates.mu.Unlock()
	return s.rates.stats
}
