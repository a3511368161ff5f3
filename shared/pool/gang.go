package pool

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

// rank is the part of a gang's current attempt that has an assignment number; nil
// when the job is no gang.
func (j *Job) rank(number int64) *job.Rank {
	a := j.current()
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

// broken is the rank whose end is that of the attempt; nil while all go well.
func (j *Job) broken() *job.Rank {
	if a := j.current(); a != nil && a.Broke > 0 {
		return &a.Ranks[a.Broke-1]
	}
	return nil
}

// place is one node's part of a job's current attempt.
type place struct {
	vmid string
	n    int64
	gpus []int
}

// places lists where the current attempt has not ended; nil when the job has none.
func (j *Job) places() []place {
	if j.VMID == "" {
		return nil
	}
	a := j.current()
	if len(a.Ranks) == 0 {
		return []place{{j.VMID, j.N, a.GPUs}}
	}
	var list []place
	for _, r := range a.Ranks {
		if !r.State.Ended() {
			list = append(list, place{r.VMID, r.N, r.GPUs})
		}
	}
	return list
}

// On lists the VMIDs of the nodes that a job is on.
func (j *Job) On() []string {
	var list []string
	for _, p := range j.places() {
		list = append(list, p.vmid)
	}
	return list
}

// rankOver takes in how one rank of a gang ended.
func (st *step) rankOver(j *Job, n *Node, f protocol.Finished) {
	a, r := j.current(), j.rank(f.N)
	r.State, r.ExitCode, r.Cause, r.Reason, r.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.Reason, f.EndedAt
	if !f.StartedAt.IsZero() {
		r.StartedAt = f.StartedAt
	}
	st.enterRank(j, a, r, n)
	st.release(j, n, r.N, r.GPUs)
	st.blame(n, j, f)
	if r.State != job.AttemptSucceeded && a.Broke == 0 {
		a.Broke = 1 + r.Rank
		for _, p := range j.places() {
			st.askPlace(p, fmt.Sprintf("rank %d ended as %s", r.Rank, r.State))
		}
	}
	st.write(j)
	if len(j.places()) > 0 {
		return
	}
	// The last one: the attempt ends as the rank did that broke it, or well.
	end := protocol.Finished{State: string(job.AttemptSucceeded), EndedAt: f.EndedAt}
	if b := j.broken(); b != nil {
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
	if j.Cancel != "" || j.Requeue || j.broken() != nil {
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
