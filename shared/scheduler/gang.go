package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// A gang is a job that runs on several nodes at once, a rank on each. It is placed
// on all of them in one step or on none, so that no two gangs can hold nodes that
// the other one waits for; while it is the first in line, its nodes are kept for it
// one by one (see reserve). The first rank that ends in any other way than well ends
// the attempt on all nodes, and gives the attempt its state.

// Ports that rank 0 may be asked to listen on: below those that systems give out
// by themselves.
const (
	firstPort = 20000
	ports     = 12000
)

// recordRankEnd takes in how one rank of a gang ended.
func (as *attempts) recordRankEnd(j *Job, n *Node, f protocol.Finished) {
	a, r := j.Current(), j.Rank(f.N)
	r.State, r.ExitCode, r.Cause, r.Reason, r.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.Reason, f.EndedAt
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
	// The last one: the attempt ends as the rank did that broke it, or well.
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

// reassignRank sends a rank again, under a new number, that its node does not have:
// the others wait for it.
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

// gang is what each rank learns about the others.
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
