package servicebus

import (
	"sync"
	"time"
)

// A Standard namespace may spend so many credits per second: one for each
// message sent, received or peeked, and ten for each request to the
// administration.
const (
	creditsPerSecond = 1000
	managementCost   = 10
)

// busyCondition is the condition with which the service throttles.
const busyCondition = "com.microsoft:server-busy"

func (s *Server) busy() string {
	return "The request was terminated because the namespace " + namespace{s}.Info().Name +
		" is being throttled. Error code : 50009. Please wait 2 seconds and try again."
}

// rates counts the credits of the current second. nil has no limit.
type rates struct {
	now func() time.Time

	mu     sync.Mutex
	second int64
	spent  int
}

// spendCredits takes credits. It returns false if the second has too few left. A
// call that needs more than a whole second passes if it is the first.
func (r *rates) spendCredits(n int) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if second := r.now().Unix(); second != r.second {
		r.second, r.spent = second, 0
	}
	if r.spent > 0 && r.spent+n > creditsPerSecond {
		return false
	}
	r.spent += n
	return true
}

// untilNext is the time until the next second begins.
func (r *rates) untilNext() time.Duration {
	now := r.now()
	return now.Truncate(time.Second).Add(time.Second).Sub(now)
}
