package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// A gang is a job that runs on several nodes at once, with one rank on each. One step
// places it on all of them or on none, so that no two gangs hold nodes that the other
// waits for. While it is first in line, nodes are reserved for it one after the other
// (see reserveNodes). The first rank that does not succeed ends the attempt on all nodes,
// and gives the attempt its state.

// Ports that rank 0 may have to listen on. They are below the ports that systems assign
// themselves.
const (
	firstPort = 20000
	ports     = 12000
)

// recordRankEnd takes in how one rank of a gang ended.
func (as *attempts) recordRankEnd(j *Job, n *Node, f protocol.Finished) {
	a, r := j.Current(), j.Rank(f.N)
	r.State, r.ExitCode, r.Cause, r.Reason, r.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.Reason, f.EndedAt
	r.LogsCut = f.LogsCut
	if !f.StartedAt.IsZero() {
		r.StartedAt = f.StartedAt
	}
	as.enterRank(j, a, r, n)
	as.releaseNode(j, n, r.N, r.GPUs)
	as.failures.blameNode(n, j, f)
	if r.State != job.AttemptSucceeded && a.Broke == 0 {
		a.Broke = 1 + r.Rank
		for _, p := range j.Assignments() {
			as.messages.askAssignmentToEnd(p, fmt.Sprintf("rank %d ended as %s", r.Rank, r.State))
		}
	}
	as.writeJob(j)
	if len(j.Assignments()) > 0 {
		return
	}
	// This was the last rank: the attempt ends as the first failed rank did, or succeeds.
	end := protocol.Finished{State: string(job.AttemptSucceeded), EndedAt: f.EndedAt}
	if b := j.Broken(); b != nil {
		end.State, end.ExitCode, end.Cause = string(b.State), b.ExitCode, b.Cause
		end.Reason = fmt.Sprintf("rank %d on node %s ended first", b.Rank, b.Node)
		if b.Reason != "" {
			end.Reason += ": " + b.Reason
		}
	}
	as.concludeAttempt(j, end)
}

// reassignRank sends a rank that its node does not have once more, under a new number,
// because the others wait for it. If the attempt is to end, the rank ends instead.
func (as *attempts) reassignRank(j *Job, n *Node, r *job.Rank, reason string) {
	if j.Cancel != "" || j.Requeue || j.Broken() != nil {
		as.recordRankEnd(j, n, protocol.Finished{
			N:        r.N,
			State:    string(job.AttemptCancelled),
			ExitCode: job.ExitCancelled,
			Reason:   reason,
			EndedAt:  as.now,
		})
		return
	}
	delete(n.jobs, r.N)
	as.Head.N++
	if j.N == r.N {
		j.N = as.Head.N
	}
	r.N, r.State, r.StartedAt = as.Head.N, job.AttemptAssigned, time.Time{}
	n.jobs[r.N] = j
	as.writeJob(j)
	as.send(n, assignment(j, r.N))
}

// gang is what the work item of a rank says about the others.
func gang(a *job.Attempt, number int64) *protocol.Gang {
	g := &protocol.Gang{Port: firstPort + int(a.Ranks[0].First%ports)}
	for _, r := range a.Ranks {
		g.Hosts = append(g.Hosts, r.Address)
		if r.N == number {
			g.Rank = r.Rank
		}
	}
	return g
}
