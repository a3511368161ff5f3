package scheduler

import (
	"cmp"
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// attempts starts the attempts of jobs on nodes, and records how they end.
type attempts struct {
	*turn
	messages *messages
	nodes    *nodeStates
	failures *failures
	jobs     *jobStates
}

// maxAttempts bounds the attempts in a job's row. Older ones are in the ledger.
const maxAttempts = 100

// assignJob starts the job's next attempt: on one node, or a gang's on several.
func (as *attempts) assignJob(j *Job, on []*Node) {
	number := 1
	if last := j.Current(); last != nil {
		number = last.Number + 1
	}
	a := job.Attempt{Number: number, Node: on[0].Name, VMID: on[0].VMID, State: job.AttemptAssigned, AssignedAt: as.now}
	j.VMID, j.N, j.State, j.Reason = on[0].VMID, as.Head.N+1, job.Assigned, ""
	for i, n := range on {
		as.Head.N++
		gpus := n.indexes(j.Spec.Resources.GPUs)
		if j.Spec.Nodes == 0 {
			a.GPUs = gpus
			break
		}
		a.Ranks = append(a.Ranks, job.Rank{
			Rank:    i,
			Node:    n.Name,
			VMID:    n.VMID,
			Address: cmp.Or(n.Address, n.Name),
			N:       as.Head.N,
			First:   as.Head.N,
			State:   job.AttemptAssigned,
			GPUs:    gpus,
		})
	}
	j.onNode = &onNode{}
	j.Attempts = append(j.Attempts, a)
	if len(j.Attempts) > maxAttempts {
		j.Attempts = j.Attempts[len(j.Attempts)-maxAttempts:]
	}
	as.occupyNodes(j)
	as.writeJob(j)
	if j.Session != nil && on[0].Slot == 0 {
		on[0].Slot = as.freeSlot()
		as.touchNode(on[0])
	}
	for i, n := range on {
		if n.State == pool.NodeReady {
			as.nodes.setState(n, pool.NodeBusy, "")
		}
		as.send(n, assignment(j, j.N+int64(i)))
	}
}

// recordAttemptEnd takes in how the job's current attempt ended on a node.
func (as *attempts) recordAttemptEnd(j *Job, n *Node, f protocol.Finished) {
	if j.Rank(f.N) != nil {
		as.recordRankEnd(j, n, f)
		return
	}
	as.runTimes.learn(j, f)
	a := j.Current()
	if !f.StartedAt.IsZero() {
		a.StartedAt = f.StartedAt
	}
	a.State, a.ExitCode, a.Cause, a.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.EndedAt
	a.LogsCut = f.LogsCut
	as.enterAttempt(j, a, n)
	as.releaseNode(j, n, f.N, a.GPUs)
	as.failures.blameNode(n, j, f)
	as.concludeAttempt(j, f)
}

// concludeAttempt takes in how the job's current attempt ended as a whole, and decides
// whether the job has another one.
func (as *attempts) concludeAttempt(j *Job, f protocol.Finished) {
	a := j.Current()
	a.State, a.ExitCode, a.Cause, a.Reason, a.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.Reason, f.EndedAt
	as.addUse(j)
	as.clearPlace(j)
	if j.Session != nil {
		as.concludeSession(j, a)
		return
	}
	switch {
	case a.State == job.AttemptSucceeded:
		as.jobs.finish(j, job.Succeeded, 0, "", a.EndedAt)
	case j.Cancel != "":
		as.jobs.finish(j, job.Cancelled, job.ExitCancelled, j.Cancel, a.EndedAt)
	case j.Requeue:
		j.Requeue = false
		as.jobs.requeue(j, time.Time{}, "put back in line: "+a.Reason)
	case j.isFree(a):
		as.jobs.requeue(j, as.failures.pauseBeforeRetry(j), "put back in line: "+a.Reason)
	case isLost(a) && !j.mayGoOn(a):
		as.jobs.holdBack(j)
	case j.Retries < j.Spec.Retry.Max && j.Spec.Retry.Covers(a.State, a.ExitCode):
		j.Retries++
		reason := fmt.Sprintf("attempt %d ended as %s with exit code %d; retry %d of %d",
			a.Number, a.State, a.ExitCode, j.Retries, j.Spec.Retry.Max)
		as.jobs.requeue(j, as.now.Add(time.Duration(j.Spec.Retry.Backoff)), reason)
	case a.State == job.AttemptTimedOut:
		as.jobs.finish(j, job.TimedOut, a.ExitCode, a.Reason, a.EndedAt)
	case a.State == job.AttemptCancelled:
		as.jobs.finish(j, job.Cancelled, a.ExitCode, a.Reason, a.EndedAt)
	default:
		as.jobs.finish(j, job.Failed, a.ExitCode, a.Reason, a.EndedAt)
	}
}

// concludeSession takes in how the attempt of a session ended. One that nobody could use yet
// goes to another node, as a job does that has not begun; the others do not move.
func (as *attempts) concludeSession(j *Job, a *job.Attempt) {
	s := j.Session
	switch {
	case j.Cancel != "":
		as.jobs.finish(j, job.Cancelled, job.ExitCancelled, j.Cancel, a.EndedAt)
	case s.ReadyAt.IsZero() && (j.Requeue || j.isFree(a)):
		pause := time.Time{}
		if !j.Requeue {
			pause = as.failures.pauseBeforeRetry(j)
		}
		j.Requeue = false
		as.jobs.requeue(j, pause, "put back in line: "+a.Reason)
	case a.State == job.AttemptSucceeded || a.State == job.AttemptCancelled:
		s.EndsBy = pool.EndUser
		as.jobs.finish(j, job.Succeeded, 0, a.Reason, a.EndedAt)
	default:
		s.EndsBy = endedBy(a.State)
		as.jobs.finish(j, job.Failed, a.ExitCode, a.Reason, a.EndedAt)
	}
}

// endedBy says what has ended a session that nobody asked to end.
func endedBy(state job.AttemptState) string {
	switch {
	case state == job.AttemptEvicted:
		return pool.EndEvicted
	case state == job.AttemptStartFailed:
		return pool.EndStartFailed
	}
	return pool.EndNodeLost
}

// freeSlot is the lowest number of a relay's entity that no node has. A node keeps its own
// until its VM is known to be gone: until then it may listen there.
func (s *State) freeSlot() int {
	taken := map[int]bool{}
	for _, n := range s.Nodes {
		if n.State != pool.NodeGone {
			taken[n.Slot] = true
		}
	}
	slot := 1
	for taken[slot] {
		slot++
	}
	return slot
}

// unassignJob takes back an assignment that its node does not have: the attempt did not
// happen, and the job goes back to its place in line.
func (as *attempts) unassignJob(j *Job, n *Node, number int64, reason string) {
	if r := j.Rank(number); r != nil {
		as.reassignRank(j, n, r, reason)
		return
	}
	as.releaseNode(j, n, number, j.Current().GPUs)
	as.clearPlace(j)
	j.Attempts = j.Attempts[:len(j.Attempts)-1]
	if j.Cancel != "" {
		as.jobs.finish(j, job.Cancelled, job.ExitCancelled, j.Cancel, as.now)
		return
	}
	j.Requeue = false
	as.jobs.requeue(j, time.Time{}, reason)
}

// releaseNode takes a job off its node; a node without work is idle from now on.
func (as *attempts) releaseNode(j *Job, n *Node, number int64, gpus []int) {
	as.freeNode(j, n, number, gpus)
	if len(n.jobs) == 0 && n.State == pool.NodeBusy {
		as.nodes.setState(n, pool.NodeReady, "")
	}
}

// endForgotten ends an attempt that its node does not have any more but may have run.
func (as *attempts) endForgotten(j *Job, n *Node, number int64) {
	began := j.Current().StartedAt
	if r := j.Rank(number); r != nil {
		began = r.StartedAt
	}
	as.recordAttemptEnd(j, n, protocol.Finished{
		N:         number,
		State:     string(job.AttemptAgentRestarted),
		ExitCode:  job.ExitAgentRestarted,
		Cause:     job.CauseJournalLost,
		Reason:    "the journal of its node's agent is lost, and with it what became of the attempt",
		StartedAt: began,
		EndedAt:   as.now,
	})
}

// endOn is how a job's attempt ends on a node whose VM is gone. If the pool had already
// asked for the job back, it does not count as lost.
func (j *Job) endOn(n *Node) (job.AttemptState, int) {
	switch {
	case j.Requeue:
		return job.AttemptCancelled, job.ExitCancelled
	case n.Evicted:
		return job.AttemptEvicted, job.ExitEvicted
	}
	return job.AttemptNodeLost, job.ExitNodeLost
}
