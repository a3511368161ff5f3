package wire

import (
	"cmp"
	"fmt"

	"dsvmpools/shared/job"
	"dsvmpools/shared/scheduler"
)

// Explanation says why a job is where it is.
type Explanation struct {
	ID       string    `json:"id"`
	Pool     string    `json:"pool"`
	State    job.State `json:"state"`
	Reason   string    `json:"reason"`             // one sentence
	Unblocks string    `json:"unblocks,omitempty"` // what it waits for
	Place    int       `json:"place,omitempty"`    // in line, from 1, as things stand
	Waiting  int       `json:"waiting,omitempty"`  // jobs in line

	After []AfterJob `json:"after,omitempty"` // the jobs that it waits for, MaxAfterShown at most
}

// AfterJob is a job after which another one comes.
type AfterJob struct {
	ID    string    `json:"id"`
	Pool  string    `json:"pool,omitempty"`
	State job.State `json:"state,omitempty"` // "" = nothing is known of it any more
}

// MaxAfterShown bounds the jobs that an explanation looks at.
const MaxAfterShown = 10

// PoolExplanation says why a pool has the size it has.
type PoolExplanation struct {
	Name     string `json:"name"`
	State    string `json:"state"` // resting, growing, working, full, blocked, down or deleting
	Reason   string `json:"reason"`
	Unblocks string `json:"unblocks,omitempty"`
	Waiting  int    `json:"waiting"` // jobs in line
}

// NewExplanation is the explanation of a live job.
func NewExplanation(id, name string, e scheduler.Explanation) Explanation {
	out := Explanation{ID: id, Pool: name, State: job.State(e.State), Reason: e.Reason, Unblocks: e.Unblocks, Waiting: e.Waiting}
	if e.Waiting > 0 {
		out.Place = e.Ahead + 1
	}
	return out
}

// NewPoolExplanation is the explanation of a pool.
func NewPoolExplanation(name string, e scheduler.Explanation) PoolExplanation {
	return PoolExplanation{Name: name, State: e.State, Reason: e.Reason, Unblocks: e.Unblocks, Waiting: e.Waiting}
}

// ExplainEnded explains a job that is not live: ended, or not committed yet.
func ExplainEnded(j Job) Explanation {
	return Explanation{ID: j.ID, Pool: j.Pool, State: j.State, Reason: cmp.Or(j.Reason, ended(j))}
}

func ended(j Job) string {
	switch j.State {
	case job.Submitted:
		return "accepted; its pool has not looked at it yet"
	case job.Succeeded:
		return "its process ended with exit code 0"
	case job.Failed:
		if j.ExitCode != nil {
			return fmt.Sprintf("its last attempt ended with exit code %d", *j.ExitCode)
		}
		return "its last attempt failed"
	case job.Cancelled:
		return job.CancelledByRequest
	case job.TimedOut:
		return "ran longer than its timeout"
	default:
		return "no reason was recorded"
	}
}
