package pool

import (
	"dsvmpools/shared/job"
)

// Rank is the rank of a gang's current attempt that has this assignment number; nil:
// there is none, or the job is not a gang.
func (j *Job) Rank(number int64) *job.Rank {
	a := j.Current()
	if a == nil {
		return nil
	}
	for i := range a.Ranks {
		if a.Ranks[i].N == number {
			return &a.Ranks[i]
		}
	}
	return nil
}

// Broken is the rank that failed first and ends the attempt; nil: none has failed.
func (j *Job) Broken() *job.Rank {
	if a := j.Current(); a != nil && a.Broke > 0 {
		return &a.Ranks[a.Broke-1]
	}
	return nil
}

// Assignment is one node's part of a job's current attempt.
type Assignment struct {
	VMID string
	N    int64
	GPUs []int
}

// Assignments lists the parts of the current attempt that have not ended; nil: the job
// is on no node.
func (j *Job) Assignments() []Assignment {
	if j.VMID == "" {
		return nil
	}
	a := j.Current()
	if len(a.Ranks) == 0 {
		return []Assignment{{j.VMID, j.N, a.GPUs}}
	}
	var list []Assignment
	for _, r := range a.Ranks {
		if !r.State.Ended() {
			list = append(list, Assignment{r.VMID, r.N, r.GPUs})
		}
	}
	return list
}

// On lists the VMIDs of the nodes that a job is on.
func (j *Job) On() []string {
	var list []string
	for _, p := range j.Assignments() {
		list = append(list, p.VMID)
	}
	return list
}

// Current is the job's last attempt, or nil.
func (j *Job) Current() *job.Attempt {
	if len(j.Attempts) == 0 {
		return nil
	}
	return &j.Attempts[len(j.Attempts)-1]
}

// HasBegun reports whether a node has reported that it began an assignment of the job.
func (j *Job) HasBegun(number int64) bool {
	if r := j.Rank(number); r != nil {
		return r.State != job.AttemptAssigned
	}
	return j.State != job.Assigned
}
