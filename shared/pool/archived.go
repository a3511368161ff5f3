package pool

import (
	"time"

	"dsvmpools/shared/job"
)

// Archived is what is still known of a job whose rows are gone, beside its end.
type Archived struct {
	StartedAt time.Time // of its first attempt that started
	Attempts  int       // how many it had
}

// AttemptCount is how many attempts a job has had, the current one included.
func (j *Job) AttemptCount() int {
	if j.Archived != nil {
		return j.Archived.Attempts
	}
	return len(j.Attempts)
}

// ArchiveSweep adds to a job how its members have ended.
func (j *Job) ArchiveSweep(members int, p Progress) {
	j.Spec.Sweep, j.Progress = &job.Sweep{Count: members}, &p
}
