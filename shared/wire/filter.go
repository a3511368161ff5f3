package wire

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// JobFilter narrows a list of jobs; an empty field stands for any.
type JobFilter struct {
	Pool   string
	Team   string
	User   string
	States []job.State       // any of them
	Sweep  string            // id of the sweep whose members to list; without it they are left out
	Name   string            // a part of the name, or a pattern with * and ? for the whole of it
	Labels map[string]string // all of them
	Since  time.Time         // submitted then or later
	Until  time.Time         // submitted before
}

// JobSort is what a list of jobs is sorted by: the largest first, those without it last.
type JobSort string

const (
	BySubmitted JobSort = "submitted" // also for ""
	ByStarted   JobSort = "started"
	ByEnded     JobSort = "ended"
	ByTook      JobSort = "took"
)

// JobSorts are all of them.
var JobSorts = []JobSort{BySubmitted, ByStarted, ByEnded, ByTook}

// JobQuery asks for a page of a list of jobs.
type JobQuery struct {
	JobFilter
	Sort     JobSort
	Reverse  bool   // the smallest first
	Limit    int    // 1 to MaxLimit
	Continue string // "" = from the beginning
	Count    bool   // say how many there are in all
	Short    bool   // without attempts, with why and cost
}

// JobPage is a page of jobs. It may have fewer of them than asked for, even none, and not
// be the last.
type JobPage struct {
	Jobs     []*pool.Job
	Continue string // "" = it is the last
	Total    *int   // how many jobs pass the filter; nil = nobody asked
	AtLeast  bool   // there are more than Total: nobody has counted on
}

// Active stands for all states of jobs that have not ended, in a filter.
const Active = "active"

// ActiveStates are those.
var ActiveStates = []job.State{job.Submitted, job.Held, job.Queued, job.Assigned, job.Running}

// MaxCounted is how far the jobs of a list are counted.
const MaxCounted = 10_000

// JobList is the answer to a request for jobs.
type JobList struct {
	List[Job]
	Total   *int `json:"total,omitempty"`   // where it was asked for
	AtLeast bool `json:"atLeast,omitempty"` // there are more than Total
}

// JobRow is what a row of a list may have besides: why the job waits, and what it has cost.
type JobRow struct {
	Why  string // "" = it does not wait, or nobody has looked
	Cost *Cost  // nil = it has not begun, or its use is not kept
}

// NewShortJobList is the shape of a page of jobs without their attempts, with what their rows have
// besides.
func NewShortJobList(p JobPage, rows []JobRow) JobList {
	out := NewJobList(p)
	for i := range out.Items {
		out.Items[i].Attempts = []Attempt{}
		out.Items[i].Why, out.Items[i].Cost = rows[i].Why, rows[i].Cost
	}
	return out
}

// NewJobList is the shape of a page of jobs.
func NewJobList(p JobPage) JobList {
	items := make([]Job, len(p.Jobs))
	for i, j := range p.Jobs {
		items[i] = NewJob(j)
	}
	return JobList{List: NewList(items, p.Continue), Total: p.Total, AtLeast: p.AtLeast}
}
