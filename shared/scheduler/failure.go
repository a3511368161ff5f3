package scheduler

import (
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
)

// What a lost attempt costs its job. When a node is at fault: blame.go. When the pool
// stops buying nodes that do not come up: breaker.go.

const (
	// freeEvictions is after how many evictions a job still goes back in line without
	// spending a retry: enough for a bad day of Spot, few enough that a job that never
	// succeeds does not go on for ever.
	freeEvictions = 10
	// freeLosses is the same for attempts that were lost in other ways. After more of
	// them in a row, perhaps the job itself breaks the nodes, and it is held until
	// somebody has looked at it.
	freeLosses = 3
)

// isLost reports whether an attempt failed and, as far as can be seen, not by the fault of
// its job: its node was lost, its agent ended before it did, or its node could not start
// it. A failed start without a cause, or with an unknown one, counts as the job's fault,
// see job.Cause.
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

// isFree reports whether the end of the last attempt costs the job no retry.
func (j *Job) isFree(a *job.Attempt) bool {
	return a.State == job.AttemptEvicted && j.countEnds(a.State) <= freeEvictions || isLost(a) && j.countLostInARow() <= freeLosses
}

// mayGoOn reports whether a job whose attempts were lost too often for free is tried again
// at the cost of a retry. It is after a restart of an agent that its `retry.on` names,
// because then its owner has thought of that case.
func (j *Job) mayGoOn(a *job.Attempt) bool {
	r := j.Spec.Retry
	return a.State == job.AttemptAgentRestarted && len(r.On) > 0 && j.Retries < r.Max && r.Covers(a.State, a.ExitCode)
}

// untilReleased is the NotBefore of a job that waits until somebody releases it.
var untilReleased = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// holdBack holds a job until somebody releases it, so that it does not break more nodes.
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

// countLostInARow counts the lost attempts at the end of the list, up to the latest one
// that was not lost.
func (j *Job) countLostInARow() int {
	n := 0
	for i := len(j.Attempts) - 1; i >= 0 && isLost(&j.Attempts[i]); i-- {
		n++
	}
	return n
}

// The ladder. A scale set holds one size and one priority, so a pool has a set for
// each rung of its ladder: with `capacity: spot-then-regular`, all sizes as Spot, then
// all as regular. The pool asks the best rung that can give any for the nodes that the
// line needs. After a refusal it leaves a rung alone for a while, and asks the next one.
// A set is made when it is first used. Its name says its size and kind, so that it is
// found again after the spec has changed.

// regularAfter is the number of evictions after which a job asks for regular nodes, if
// the pool has any: it was unlucky, or it runs longer than Spot nodes last.
const regularAfter = 3

// wantsRegular reports whether a job has been evicted too often to go on with Spot.
func (j *Job) wantsRegular() bool { return j.countEnds(job.AttemptEvicted) >= regularAfter }
