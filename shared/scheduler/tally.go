package scheduler

import "dsvmpools/shared/job"

// Owner is whose a job is, as its document says.
type Owner struct{ Team, User string }

// JobCounts are live jobs by state. A sweep counts as its members that have not ended.
type JobCounts struct{ Held, Queued, Assigned, Running int }

// Add adds other counts.
func (c *JobCounts) Add(other JobCounts) {
	c.Held += other.Held
	c.Queued += other.Queued
	c.Assigned += other.Assigned
	c.Running += other.Running
}

// CountByOwner counts the live jobs of each owner. All counts together are those of the head.
// The state is not changed.
func (s *State) CountByOwner() map[Owner]JobCounts {
	counts := map[Owner]JobCounts{}
	for j := range s.Jobs.All() {
		n := 1
		if j.Spec.Sweep != nil {
			n = j.Unstarted()
		}
		of := Owner{j.Spec.Team, j.Spec.User}
		c := counts[of]
		switch j.State {
		case job.Held:
			c.Held += n
		case job.Assigned:
			c.Assigned += n
		case job.Running:
			if j.Spec.Sweep != nil {
				c.Queued += n // those that have begun are jobs of their own
			} else {
				c.Running += n
			}
		default:
			c.Queued += n
		}
		counts[of] = c
	}
	return counts
}
