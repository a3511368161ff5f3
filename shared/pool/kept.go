package pool

import (
	"time"

	"dsvmpools/shared/job"
)

// Kept is what is still known of a job whose rows have gone, beside its end.
type Kept struct {
	StartedAt time.Time // of its first attempt that started
	Attempts  int       // how many it had
}

// NewKept is a job whose rows have gone, as its id remembers it: j has what readers
// of a finished job look at.
func NewKept(j Job, k Kept) *Job {
	j.kept = &k
	return &j
}

// Kept is what is known of a job whose rows have gone; nil: they are there.
func (j *Job) Kept() *Kept { return j.kept }

// Tries is how many attempts a job has had, the current one included.
func (j *Job) Tries() int {
	if j.kept != nil {
		return j.kept.Attempts
	}
	return len(j.Attempts)
}

// KeepSweep adds to a job how its members have ended.
func (j *Job) KeepSweep(members int, p Progress) {
	j.Spec.Sweep, j.Progress = &job.Sweep{Count: members}, &p
}
