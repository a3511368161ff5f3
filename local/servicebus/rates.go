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

// busyCondition and the words that come with it are how the service throttles.
const busyCondition = "com.microsoft:server-busy"

func (s *Server) busy() string {
	return "The request was terminated because the namespace " + namespace{s}.Info().Name +
		" is being throttled. Error code : 50009. Please wait 2 seconds and try again."
}

// rates counts the credits of the second that runs. nil has no limit.
type rates struct {
	now func() time.Time

	mu     sync.Mutex
	second int64
	spent  int
}

// spend takes credits. It reports false when the second has none left; a call
// that wants more than a second has is let through when it is the first.
func (r *rates) spend(n int) bool {
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

// untilNext is how long the second still runs.
func (r *rates) untilNext() time.Duration {
	now := r.now()
	return now.Truncate(time.Second).Add(time.Second).Sub(now)
}
