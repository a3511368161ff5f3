package pool

import (
	"time"

	"dsvmpools/shared/job"
)

// Archived is what is known of a job whose rows are gone, beside how it ended.
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

// ArchiveSweep makes a job a sweep of so many members, whose ends p counts.
func (j *Job) ArchiveSweep(members int, p Progress) {
	j.Spec.Sweep, j.Progress = &job.Sweep{Count: members}, &p
}
