package scheduler

import (
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/pool"
)

// holds carries out what somebody asks about jobs that wait: to hold them, to release them,
// and to give them another priority.
type holds struct {
	*turn
	jobs     *jobStates
	sweeping *sweeping
}

// holdText is the reason of a job that somebody holds.
func holdText(id string) string {
	return fmt.Sprintf("somebody holds it; `dsvm job release %s` lets it go on", id)
}

// NeedsRelease reports whether a live job waits for somebody who releases it.
func NeedsRelease(j *pool.Job) bool { return j.VMID == "" && j.NotBefore.Equal(untilReleased) }

// isHeld reports whether a job waits for somebody who releases it.
func (j *Job) isHeld() bool { return NeedsRelease(j.Job) }

// hold keeps a job that waits from starting. Of a sweep, no more members begin.
func (ho *holds) hold(order string) {
	j := ho.Jobs.Get(order)
	if j == nil || j.VMID != "" || j.Cancel != "" || j.isHeld() || j.Spec.Sweep != nil && j.Unstarted() == 0 {
		return
	}
	ho.stopWaiting(j)
	ho.jobs.requeue(j, untilReleased, holdText(j.ID))
}

// release lets a job go on that is held. One that is held back for its lost attempts gets
// one more; a sweep begins more members, whose failures are then counted from zero.
func (ho *holds) release(order string) {
	j := ho.Jobs.Get(order)
	if j == nil || !j.isHeld() {
		return
	}
	ho.stopWaiting(j)
	switch {
	case j.Spec.Sweep != nil && !j.Progress.StartedAt.IsZero():
		ho.sweeping.resume(j)
	case len(j.Attempts) > 0:
		ho.jobs.requeue(j, time.Time{}, "released")
	default: // it has never begun: it waits for what its document says
		j.NotBefore = j.Spec.NotBefore
		ho.jobs.enterWaiting(j)
		ho.writeJob(j)
	}
}

// setPriority moves a job in line. It holds for the attempts to come, and of a sweep for all
// of its members that have not ended. It reports whether there was room for all of them.
func (ho *holds) setPriority(e pool.SetPriority) bool {
	j := ho.Jobs.Get(e.Order)
	if j == nil {
		return true
	}
	all := []*Job{j}
	if j.Spec.Sweep != nil {
		for m := range ho.sweeps[j.Order].live {
			all = append(all, m)
		}
		slices.SortFunc(all, byOrder)
	}
	for _, j := range all {
		if j.Spec.Priority == e.Priority {
			continue
		}
		if !ho.hasRoom() {
			return false
		}
		if j.VMID == "" {
			ho.stopWaiting(j)
		}
		j.Spec.Priority = e.Priority
		if j.VMID == "" {
			ho.startWaiting(j, ho.now)
		}
		ho.writeJob(j)
	}
	return true
}
