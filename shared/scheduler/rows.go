package scheduler

import (
	"slices"

	"dsvmpools/shared/pool"
)

// Rows takes the live jobs of a pool while it is read page by page, and keeps those that wait packed
// from the beginning. So a pool with a long line never has all of its rows in memory. It is a pool.JobSink; the zero
// value is empty.
type Rows struct {
	packer packer
	jobs   []*Job
}

// packAtOnce bounds how many jobs a new state has that are not packed yet.
const packAtOnce = 1_000

// Begin forgets all jobs.
func (r *Rows) Begin() { *r = Rows{} }

// Put takes over the rows of jobs.
func (r *Rows) Put(rows ...*pool.Job) {
	r.jobs = slices.Grow(r.jobs, len(rows))
	for _, row := range rows {
		j := newJob(row)
		if row.VMID == "" && j.isPackable() {
			r.packer.pack(j)
		}
		r.jobs = append(r.jobs, j)
	}
}

// Drop forgets the jobs with these orders.
func (r *Rows) Drop(orders map[string]bool) {
	r.jobs = slices.DeleteFunc(r.jobs, func(j *Job) bool { return orders[j.Order] })
}

// Len is how many jobs there are.
func (r *Rows) Len() int { return len(r.jobs) }

// take returns the jobs, the oldest first, and forgets them.
func (r *Rows) take() []*Job {
	jobs := r.jobs
	r.jobs = nil
	slices.SortStableFunc(jobs, byOrder)
	return jobs
}
