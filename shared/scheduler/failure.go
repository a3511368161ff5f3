package scheduler

import (
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
)

// Failure rules: what a loss costs a job, and when a node is at fault. When the pool
// stops asking for more of what does not work: breaker.go.

const (
	// freeEvictions is how many evictions of its attempts a job is put back in line
	// for without spending a retry: enough to get through a bad day of Spot, few
	// enough that a job which never gets done does not go on for ever.
	freeEvictions = 10
	// freeLosses is the same for nodes that were lost in other ways. After more of
	// them in a row it may be the job that takes them down, and it is held until
	// somebody has had a look.
	freeLosses = 3
)

// isLost reports whether an attempt came to nothing through no fault of its job, as
// far as one can tell: its node was lost, its agent ended in the middle, or its node
// could not start it. An agent that says of no cause is of another release: its
// failed starts are the job's, see job.Cause.
func isLost(a *job.Attempt) bool {
	switch a.State {
	case job.AttemptNodeLost, job.AttemptAgentRestarted:
		return true
	case job.AttemptStartFailed:
		return a.Cause.Owner() == job.OwnerNode
	default: // the job, a user or a limit ended it
		return false
	}
}

// isFree reports whether an attempt's end costs the job no retry.
func (j *Job) isFree(a *job.Attempt) bool {
	return a.State == job.AttemptEvicted && j.countEnds(a.State) <= freeEvictions || isLost(a) && j.countLostInARow() <= freeLosses
}

// mayGoOn reports whether a job whose attempts were lost too often for free is tried
// again at the cost of a retry: when it names the restart of an agent in its
// `retry.on`, so that somebody has thought of it. The other losses break nodes.
func (j *Job) mayGoOn(a *job.Attempt) bool {
	r := j.Spec.Retry
	return a.State == job.AttemptAgentRestarted && len(r.On) > 0 && j.Retries < r.Max && r.Covers(a.State, a.ExitCode)
}

// untilReleased is when a job may start that waits for somebody to release it.
var untilReleased = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// holdBack keeps a job from taking down more nodes.
func (js *jobStates) holdBack(j *Job) {
	row := j.Attempts[len(j.Attempts)-j.countLostInARow():]
	last := &row[len(row)-1]
	on := nodeOf(last)
	if !slices.ContainsFunc(row, func(a job.Attempt) bool { return a.State != job.AttemptNodeLost }) {
		js.requeue(j, untilReleased, fmt.Sprintf("%d nodes in a row were lost under it, the last of them %s; "+
			"look at what it does to a node, then `dsvm job release %s`, or cancel it", len(row), on, j.ID))
		return
	}
	js.requeue(j, untilReleased, fmt.Sprintf("%d attempts in a row came to nothing on their nodes, the last of them on %s as %s; "+
		"look at the nodes and at what it does to them, then `dsvm job release %s`, or cancel it",
		len(row), on, endText(last.State, last.Cause), j.ID))
}

// release lets a job that is held back have one more try, and a sweep that was
// stopped go on: its failures are counted again from there.
func (js *jobStates) release(order string) {
	j := js.Jobs[order]
	if j == nil || j.VMID != "" || !j.NotBefore.Equal(untilReleased) {
		return
	}
	js.stopWaiting(j)
	if j.Spec.Sweep != nil {
		js.sweeping.resume(j)
		return
	}
	js.requeue(j, time.Time{}, "released")
}

// countEnds counts the attempts that ended in a state.
func (j *Job) countEnds(in job.AttemptState) int {
	n := 0
	for _, a := range j.Attempts {
		if a.State == in {
			n++
		}
	}
	return n
}

// countLostInARow counts the last attempts that came to nothing through no fault of the
// job.
func (j *Job) countLostInARow() int {
	n := 0
	for i := len(j.Attempts) - 1; i >= 0 && isLost(&j.Attempts[i]); i-- {
		n++
	}
	return n
}

// The ladder. A scale set holds one size and one priority, so a pool has a set for
// each rung of its ladder: with `capacity: spot-then-regular`, all sizes as Spot,
// then all as regular. The nodes that the line needs are asked for on the best rung
// that can give any; a rung that was refused is left alone for a while, and the next
// one is asked. Sets are made on first use and named for what they are, so that they
// are found again when the spec has changed.

// regularAfter is how many evictions let a job ask for regular nodes, where the pool
// has any: it has been unlucky, or takes longer than Spot lasts here.
const regularAfter = 3

// wantsRegular reports whether a job has been evicted too often to go on with Spot.
func (j *Job) wantsRegular() bool { return j.countEnds(job.AttemptEvicted) >= regularAfter }
