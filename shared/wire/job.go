// Package wire holds the JSON shapes of the HTTP API, which are also what the
// command line prints with -o json, and how they are made of the project's
// nouns. It is pure: it serves nothing, calls nothing and reads no clock.
package wire

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Job is a job as people and scripts see it. Every field is always there:
// what is not known (yet) is null, or "" where it is a text.
type Job struct {
	ID          string     `json:"id"`
	Pool        string     `json:"pool"`
	Name        string     `json:"name"`
	Team        string     `json:"team"`
	User        string     `json:"user"`
	State       job.State  `json:"state"`
	Reason      string     `json:"reason"`
	ExitCode    *int       `json:"exitCode"` // null until the job has ended; null for ever when nothing of it ran
	SubmittedAt *time.Time `json:"submittedAt"`
	StartedAt   *time.Time `json:"startedAt"` // of the first attempt that started
	EndedAt     *time.Time `json:"endedAt"`
	Attempts    []Attempt  `json:"attempts"`
	Sweep       *Sweep     `json:"sweep,omitempty"`    // how far a sweep has come; of a sweep only
	Why         string     `json:"why,omitempty"`      // with fields=list: why it waits, in a sentence
	Cost        *Cost      `json:"cost,omitempty"`     // with fields=list: until now; missing = it has not begun, or it is not kept
	RerunOf     string     `json:"rerunOf,omitempty"`  // id of the job that it runs again
	Spec        *job.Spec  `json:"spec,omitempty"`     // where one job is asked for; lists leave it out
	Kept        string     `json:"kept,omitempty"`     // of a job whose rows have gone: what is still known of it
	Conflict    *Conflict  `json:"conflict,omitempty"` // where one job is asked for: another document came under its id
}

// keptOnly says of a job what is still kept when its rows have been removed.
const keptOnly = "how it ended; its document and its attempts are no longer kept"

// Conflict says that another document came to the queue under a job's id, and was rejected.
type Conflict struct {
	At time.Time `json:"at"` // of the last one
}

// Sweep is how far a sweep has come.
type Sweep struct {
	Members   int `json:"members"`
	Running   int `json:"running"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	TimedOut  int `json:"timedOut"`
	Cancelled int `json:"cancelled"`
	Percent   int `json:"percent"` // of its members that have ended, rounded down
}

// Cancelled is the answer to a request to end many jobs.
type Cancelled struct {
	Jobs int `json:"jobs"` // that were alive and have been asked to end; a sweep counts as one
}

// Attempt is one run of a job on a node.
type Attempt struct {
	Number    int              `json:"number"`
	Node      string           `json:"node"`
	State     job.AttemptState `json:"state"`
	Cause     job.Cause        `json:"cause,omitempty"` // of a start that failed: what was wrong
	Reason    string           `json:"reason"`
	ExitCode  *int             `json:"exitCode"` // null until it has ended
	StartedAt *time.Time       `json:"startedAt"`
	EndedAt   *time.Time       `json:"endedAt"`
	LogsCut   *job.LogsCut     `json:"logsCut,omitempty"` // how many bytes are missing in its logs; missing = none
	Ranks     []Rank           `json:"ranks,omitempty"`   // of a job on several nodes; Node is that of rank 0
}

// Rank is one node's part of an attempt of a job on several nodes.
type Rank struct {
	Rank      int              `json:"rank"`
	Node      string           `json:"node"`
	State     job.AttemptState `json:"state"`
	Cause     job.Cause        `json:"cause,omitempty"`
	Reason    string           `json:"reason"`
	ExitCode  *int             `json:"exitCode"` // null until it has ended
	StartedAt *time.Time       `json:"startedAt"`
	EndedAt   *time.Time       `json:"endedAt"`
	LogsCut   *job.LogsCut     `json:"logsCut,omitempty"` // how many bytes are missing in its logs; missing = none
}

// NewJob is the shape of a job in a list.
func NewJob(j *pool.Job) Job {
	out := Job{
		ID: j.ID, Pool: j.Spec.Pool, Name: j.Spec.Name, Team: j.Spec.Team, User: j.Spec.User, RerunOf: j.Spec.RerunOf,
		State: j.State, Reason: j.Reason,
		SubmittedAt: known(j.SubmittedAt), EndedAt: known(j.EndedAt),
		Attempts: make([]Attempt, len(j.Attempts)),
	}
	for i, a := range j.Attempts {
		out.Attempts[i] = newAttempt(a)
		if out.StartedAt == nil {
			out.StartedAt = out.Attempts[i].StartedAt
		}
	}
	if p := j.Progress; p != nil && j.Spec.Sweep != nil {
		all := j.Spec.Sweep.Members()
		out.Sweep = &Sweep{
			Members:   all,
			Running:   p.Running,
			Succeeded: p.Succeeded,
			Failed:    p.Failed,
			TimedOut:  p.TimedOut,
			Cancelled: p.Cancelled,
			Percent:   100 * p.Ended() / all,
		}
		out.StartedAt = known(p.StartedAt)
	}
	if k := j.Archived; k != nil {
		out.StartedAt, out.Kept = known(k.StartedAt), keptOnly
	}
	// A job that was rejected, or cancelled while it waited, has run nowhere, and of a
	// member of a sweep the code may not be kept: a 0 would read as success.
	if j.State.Final() && (j.ExitCode != 0 || j.State == job.Succeeded) {
		out.ExitCode = &j.ExitCode
	}
	return out
}

// NewJobDetail is the shape of the one job that was asked for.
func NewJobDetail(j *pool.Job) Job {
	out := NewJob(j)
	if HasDocument(j) {
		out.Spec = &j.Spec
	}
	if !j.ConflictAt.IsZero() {
		out.Conflict = &Conflict{At: j.ConflictAt}
	}
	return out
}

// HasDocument reports whether a job's document is known. Before the job is committed, after
// it was rejected and when its rows have gone, there is only what its id says.
func HasDocument(j *pool.Job) bool {
	return j.Archived == nil && j.State != job.Submitted && j.State != job.Rejected
}

func newAttempt(a job.Attempt) Attempt {
	out := Attempt{Number: a.Number, Node: a.Node, State: a.State, Cause: a.Cause, Reason: a.Reason,
		StartedAt: known(a.StartedAt), EndedAt: known(a.EndedAt), LogsCut: a.LogsCut}
	if !a.EndedAt.IsZero() {
		out.ExitCode = &a.ExitCode
	}
	for _, r := range a.Ranks {
		rank := Rank{
			Rank:      r.Rank,
			Node:      r.Node,
			State:     r.State,
			Cause:     r.Cause,
			Reason:    r.Reason,
			StartedAt: known(r.StartedAt),
			EndedAt:   known(r.EndedAt),
			LogsCut:   r.LogsCut,
		}
		if !r.EndedAt.IsZero() {
			rank.ExitCode = &r.ExitCode
		}
		out.Ranks = append(out.Ranks, rank)
		// A gang has started when its first node has.
		if rank.StartedAt != nil && a.StartedAt.IsZero() && (out.StartedAt == nil || rank.StartedAt.Before(*out.StartedAt)) {
			out.StartedAt = rank.StartedAt
		}
	}
	return out
}

// known returns nil for the zero time, and any other time in UTC.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
