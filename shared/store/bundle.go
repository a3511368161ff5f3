package store

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// bundledJob is a job in the row of a bundle. It has the fields of pool.Job, in their order;
// the compiler holds that. The names are part of the row format.
type bundledJob struct {
	Order       string            `json:"order"`
	ID          string            `json:"id"`
	Spec        job.Spec          `json:"spec"`
	State       job.State         `json:"state"`
	Reason      string            `json:"reason,omitempty"`
	SubmittedAt time.Time         `json:"submittedAt,omitzero"`
	NotBefore   time.Time         `json:"notBefore,omitzero"`
	Waits       []string          `json:"waits,omitempty"`
	Cancel      string            `json:"cancel,omitempty"`
	CancelAt    time.Time         `json:"cancelAt,omitzero"`
	Requeue     bool              `json:"requeue,omitempty"`
	Retries     int               `json:"retries,omitempty"`
	Attempts    []job.Attempt     `json:"attempts,omitempty"`
	Progress    *pool.Progress    `json:"progress,omitempty"`
	Subscribers []pool.Subscriber `json:"subscribers,omitempty"`
	VMID        string            `json:"vmid,omitempty"`
	N           int64             `json:"n,omitempty"`
	Bundled     bool              `json:"-"`
	Session     *pool.Session     `json:"session,omitempty"`
	ExitCode    int               `json:"exitCode,omitempty"`
	EndedAt     time.Time         `json:"endedAt,omitzero"`
	Archived    *pool.Archived    `json:"-"`
	ConflictAt  time.Time         `json:"-"`
}

// kindBundle is the Kind of a bundle's row. Its State, Team and User are those of its jobs,
// if all have the same, so that lists of jobs pass over bundles that have none for them.
const (
	kindBundle  = "bundle"
	severalMark = "\t" // if the jobs do not have the same: no team or user has such a name
)

// isInBundle reports whether a change is written with its bundle alone.
func isInBundle(c *pool.Change) bool {
	j, isLive := c.Value.(*pool.Job)
	return c.Bundle != nil && (!isLive || j.Bundled)
}

// bundleOperation writes a bundle, or deletes it when it is empty.
func bundleOperation(partition string, b *pool.Bundle) (table.Operation, error) {
	if len(b.Jobs) == 0 {
		return table.Operation{Kind: table.Delete, Row: table.KeysOnly(partition, b.Key), Match: table.Any}, nil
	}
	row, err := encodeBundle(partition, b)
	return table.Operation{Kind: table.Put, Row: row}, err
}

func encodeBundle(partition string, b *pool.Bundle) ([]byte, error) {
	jobs := make([]*bundledJob, len(b.Jobs))
	for i, j := range b.Jobs {
		jobs[i] = (*bundledJob)(j)
	}
	text, err := table.Compact(jobs)
	if err != nil {
		return nil, err
	}
	e := table.NewRow(partition, b.Key)
	e.Text("Kind", kindBundle)
	e.Text("Team", sameIn(b.Jobs, func(j *pool.Job) string { return j.Spec.Team }))
	e.Text("User", sameIn(b.Jobs, func(j *pool.Job) string { return j.Spec.User }))
	e.Text("State", sameIn(b.Jobs, func(j *pool.Job) string { return string(j.State) }))
	if !e.Long("Jobs", text) {
		return nil, fault.New(fault.Internal, "", "%d small jobs do not fit into one row", len(jobs))
	}
	return e.JSON(), nil
}

// sameIn is what all jobs have, or severalMark.
func sameIn(jobs []*pool.Job, of func(*pool.Job) string) string {
	for _, j := range jobs {
		if of(j) != of(jobs[0]) {
			return severalMark
		}
	}
	return of(jobs[0])
}

func decodeBundle(raw []byte) ([]*pool.Job, error) {
	var row struct{ Jobs string }
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	text, err := table.LongText(raw, "Jobs", row.Jobs)
	if err != nil {
		return nil, err
	}
	var bundled []*bundledJob
	if err := table.DecodeText(raw, "its jobs", text, &bundled); err != nil {
		return nil, err
	}
	jobs := make([]*pool.Job, len(bundled))
	for i, j := range bundled {
		if j == nil {
			return nil, table.Damaged(raw, fmt.Errorf("job %d of it is missing", i))
		}
		jobs[i] = (*pool.Job)(j)
		jobs[i].Bundled = true
	}
	return jobs, nil
}

// decodeJobs reads a row of live jobs: one job, or a bundle.
func decodeJobs(raw []byte) ([]*pool.Job, error) {
	key, err := table.DecodeKey(raw)
	if err != nil {
		return nil, err
	}
	if pool.IsBundleKey(key) {
		return decodeBundle(raw)
	}
	j, err := decodeJob(raw)
	if err != nil {
		return nil, err
	}
	return []*pool.Job{j}, nil
}

// sharedMark ends a key in the change log if the job is, or was, in a bundle.
const sharedMark = "~"

// loggedKeys are the keys that the change log has of a transaction.
func loggedKeys(changes []pool.Change) []string {
	keys := pool.ChangedKeys(changes)
	shared := map[string]bool{}
	for i := range changes {
		if isInBundle(&changes[i]) {
			shared[changes[i].Key] = true
		}
	}
	for i, key := range keys {
		if shared[key] {
			keys[i] += sharedMark
		}
	}
	return keys
}

// matches reports whether a live job passes the filter. A query lets bundles through with
// jobs that do not.
func (f *JobFilter) matches(j *pool.Job) bool {
	return (f.Team == "" || f.Team == j.Spec.Team) && (f.User == "" || f.User == j.Spec.User) &&
		(f.Since.IsZero() || !j.SubmittedAt.Before(f.Since)) && (f.Until.IsZero() || j.SubmittedAt.Before(f.Until)) &&
		(len(f.States) == 0 || slices.Contains(f.States, j.State))
}

// ofLive is the filter for the rows of live jobs, and for bundles that may have some. No
// bundle has members of a sweep. Table Storage takes 15 comparisons in one query: these are
// 12 at most, and 3 are in the range.
func (f *JobFilter) ofLive() string {
	if f.Sweep != "" {
		return f.odata(false)
	}
	s := " and Kind ne '" + kindMember + "'" + f.ofBundles()
	if times := f.ofTimes(); times != "" {
		s += " and (Kind eq '" + kindBundle + "' or (" + strings.TrimPrefix(times, " and ") + "))"
	}
	return s
}

// ofBundles is the part of ofLive that is also about bundles.
func (f *JobFilter) ofBundles() (s string) {
	either := func(name string, values ...string) {
		terms := make([]string, 0, len(values)+1)
		for _, value := range append(values, severalMark) {
			terms = append(terms, fmt.Sprintf("%s eq '%s'", name, table.Quote(value)))
		}
		s += " and (" + strings.Join(terms, " or ") + ")"
	}
	if f.Team != "" {
		either("Team", f.Team)
	}
	if f.User != "" {
		either("User", f.User)
	}
	var states []string
	for _, state := range []job.State{job.Held, job.Queued, job.Assigned, job.Running} { // no row is of another one
		if slices.Contains(f.States, state) {
			states = append(states, string(state))
		}
	}
	switch {
	case len(f.States) == 0 || len(states) == 4:
	case len(states) == 0:
		either("State", string(job.Submitted))
	default:
		either("State", states...)
	}
	return s
}
