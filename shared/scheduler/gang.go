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

// rankOver takes in how one rank of a gang ended.
func (st *step) rankOver(j *Job, n *Node, f protocol.Finished) {
	a, r := j.Current(), j.Rank(f.N)
	r.State, r.ExitCode, r.Cause, r.Reason, r.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.Reason, f.EndedAt
	if !f.StartedAt.IsZero() {
		r.StartedAt = f.StartedAt
	}
	st.enterRank(j, a, r, n)
	st.release(j, n, r.N, r.GPUs)
	st.blame(n, j, f)
	if r.State != job.AttemptSucceeded && a.Broke == 0 {
		a.Broke = 1 + r.Rank
		for _, p := range j.Assignments() {
			st.askPlace(p, fmt.Sprintf("rank %d ended as %s", r.Rank, r.State))
		}
	}
	st.write(j)
	if len(j.Assignments()) > 0 {
		return
	}
	// The last one: the attempt ends as the rank did that broke it, or well.
	end := protocol.Finished{State: string(job.AttemptSucceeded), EndedAt: f.EndedAt}
	if b := j.Broken(); b != nil {
		end.State, end.ExitCode, end.Cause, end.Reason = string(b.State), b.ExitCode, b.Cause, fmt.Sprintf("rank %d on node %s ended first", b.Rank, b.Node)
		if b.Reason != "" {
			end.Reason += ": " + b.Reason
		}
	}
	st.concluded(j, end)
}

// rankNever sends a rank again, under a new number, that its node does not have:
// the others wait for it.
func (st *step) rankNever(j *Job, n *Node, r *job.Rank, reason string) {
	if j.Cancel != "" || j.Requeue || j.Broken() != nil {
		st.rankOver(j, n, protocol.Finished{N: r.N, State: string(job.AttemptCancelled), ExitCode: job.ExitCancelled, Reason: reason, EndedAt: st.now})
		return
	}
	delete(n.jobs, r.N)
	st.Head.N++
	if j.N == r.N {
		j.N = st.Head.N
	}
	r.N, r.State, r.StartedAt = st.Head.N, job.AttemptAssigned, time.Time{}
	n.jobs[r.N] = j
	st.write(j)
	st.send(n, assignment(j, r.N))
}

// gang is what each rank is told of the others.
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
