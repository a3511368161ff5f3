package scheduler

import (
	"fmt"

	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
)

// enterAttempt writes an ended attempt to the ledger.
func (as *attempts) enterAttempt(j *Job, a *job.Attempt, n *Node) {
	as.enter(j, n, a.Number, fmt.Sprintf("%s!%d", j.Order, a.Number),
		job.Rank{State: a.State, ExitCode: a.ExitCode, StartedAt: a.StartedAt, EndedAt: a.EndedAt})
}

// enterRank writes an ended rank of a gang's attempt to the ledger.
func (as *attempts) enterRank(j *Job, a *job.Attempt, r *job.Rank, n *Node) {
	as.enter(j, n, a.Number, fmt.Sprintf("%s!%d!%d", j.Order, a.Number, r.Rank), *r)
}

// enter adds an entry for what a job used on one node. An attempt that never started used
// nothing.
func (as *attempts) enter(j *Job, n *Node, attempt int, key string, r job.Rank) {
	if r.StartedAt.IsZero() {
		return
	}
	held := j.Spec.Resources
	if !as.Head.Spec.Pack {
		held.CPUs = max(held.CPUs, n.CPUs) // nobody else could use the rest of the node
	}
	as.entries = append(as.entries, usage.Entry{
		Kind: usage.KindAttempt, Key: key, Pool: as.Head.Spec.Name,
		Team: j.Spec.Team, User: j.Spec.User, Job: j.ID, JobName: j.Spec.Name, Attempt: attempt,
		State: string(r.State), ExitCode: r.ExitCode, Node: n.Name, VMID: n.VMID, Size: n.Size, Spot: n.Spot,
		CPUs: held.CPUs, NodeCPUs: n.CPUs, GPUs: held.GPUs, NodeGPUs: n.GPUs, Memory: int64(held.Memory), NodeMem: int64(n.Memory),
		From: r.StartedAt, To: r.EndedAt,
		Price: n.Price, Currency: n.Currency, Labels: j.Spec.Labels,
	})
}
