package pool

import (
	"fmt"
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
	// badStarts is how many attempts in a row a node may fail to start, or lose,
	// before it counts as broken: of one it may be the job's fault, hardly of three.
	badStarts = 3
	// lookAtBroken is how long a broken node is kept, so that somebody can see what
	// is wrong with it. It is billed meanwhile.
	lookAtBroken = time.Hour
)

// free reports whether an attempt's end costs the job no retry.
func (j *Job) free(end job.AttemptState) bool {
	switch end {
	case job.AttemptEvicted:
		return j.ended(end) <= freeEvictions
	case job.AttemptNodeLost:
		return j.lostInARow() <= freeLosses
	}
	return false
}

// released is when a job may start that waits for somebody to release it.
var released = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// holdBack keeps a job from taking down more nodes.
func (st *step) holdBack(j *Job) {
	st.again(j, released, fmt.Sprintf("held, since %d nodes in a row were lost under it, the last of them %s; look at what it does to a node, then `dsvm job release %s`, or cancel it",
		j.lostInARow(), j.current().Node, j.ID))
}

// release lets a job that is held back have one more try.
func (st *step) releaseJob(order string) {
	j := st.Jobs[order]
	if j == nil || j.VMID != "" || !j.NotBefore.Equal(released) {
		return
	}
	st.leave(j)
	st.again(j, time.Time{}, "released")
}

// ended counts the attempts that ended in a state.
func (j *Job) ended(in job.AttemptState) int {
	n := 0
	for _, a := range j.Attempts {
		if a.State == in {
			n++
		}
	}
	return n
}

// lostInARow counts the last attempts whose node was lost.
func (j *Job) lostInARow() int {
	n := 0
	for i := len(j.Attempts) - 1; i >= 0 && j.Attempts[i].State == job.AttemptNodeLost; i-- {
		n++
	}
	return n
}

// blame counts what an attempt's end says about its node, and takes a node out
// of use that breaks one job after another.
func (st *step) blame(n *Node, end job.AttemptState, began bool) {
	if end == job.AttemptStartFailed && began {
		return // it failed over its own source
	}
	switch end {
	case job.AttemptStartFailed, job.AttemptAgentRestarted:
		n.Breaks++
	case job.AttemptSucceeded, job.AttemptFailed, job.AttemptTimedOut:
		if n.Breaks == 0 {
			return
		}
		n.Breaks = 0
	default:
		return
	}
	st.touch(n)
	if n.Breaks >= badStarts && (n.State == NodeReady || n.State == NodeBusy) {
		st.setNode(n, NodeQuarantined, fmt.Sprintf("it broke %d attempts in a row, the last of them with: %s; it is kept until %s", n.Breaks,
			end, st.now.Add(lookAtBroken).UTC().Format(time.RFC3339)))
	}
}

// quarantined looks after a node that is out of use: it goes when it has been
// looked at long enough and nothing runs on it.
func (st *step) quarantined(n *Node) {
	if len(n.jobs) == 0 && (st.Head.Deleting || st.Head.Down || st.now.Sub(n.Since) >= lookAtBroken) {
		st.remove(n)
	}
}
