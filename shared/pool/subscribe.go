package pool

import "dsvmpools/shared/job"

// A job may come after jobs of other pools. Its own pool finds out how those have ended,
// from their rows, as it does for jobs of its own that have gone (Effects.LookUp). So that
// it does so at once, it subscribes to their ends: their pools remember it on the rows of
// these jobs, and notify it when they have ended. Both messages are hints: when one is lost, the
// next tick looks.

// Subscriber is a pool in which jobs come after a job of this pool.
type Subscriber struct {
	Pool   string `json:"pool"`
	Member int    `json:"member,omitempty"` // on the row of a sweep: 1 + the index of the member, which has not begun; 0 = the job itself
}

// MaxSubscribers bounds the subscribers that a row remembers. Others find the end with their
// ticks.
const MaxSubscribers = 200

// Subscribe asks a pool to notify another one when jobs have ended.
type Subscribe struct {
	IDs []string // of jobs of this pool
	By  string   // the pool to notify
}

// Ended says that jobs of another pool have ended, or are not live there: the pool looks
// up what it waits for among them.
type Ended struct{ IDs []string }

func (Subscribe) event() {}
func (Ended) event()     {}

// EndState says in which pool a job is, and how it has ended.
type EndState struct {
	Pool      string
	State     job.State // job.Rejected, too; "" = it has not ended
	Forgotten bool      // nobody remembers the id any more, and how its job has ended
}
