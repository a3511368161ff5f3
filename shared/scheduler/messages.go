package scheduler

import (
	"cmp"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// messages sends work items to the agents of nodes: what to run, and what to end.
type messages struct{ *turn }

// askToEnd asks the nodes of the job's current attempt to end it.
func (ms *messages) askToEnd(j *Job, reason string) {
	for _, p := range j.Assignments() {
		ms.askAssignmentToEnd(p, reason)
	}
}

// askAssignmentToEnd asks one node to end its part of an attempt.
func (ms *messages) askAssignmentToEnd(p pool.Assignment, reason string) {
	if n := ms.Nodes[p.VMID]; n != nil {
		ms.Head.N++
		ms.send(n, protocol.WorkItem{N: ms.Head.N, Cancel: &protocol.Cancel{Target: p.N, Reason: reason}})
	}
}

// assignment is the work item of the job's current attempt, or of one rank of it.
func assignment(j *Job, number int64) protocol.WorkItem {
	a := j.Current()
	w := &protocol.Assignment{
		Job: j.ID, Attempt: a.Number, Name: j.Spec.Name, Team: j.Spec.Team, User: j.Spec.User,
		Command: j.Spec.Command, Script: j.Spec.Script, Args: j.Spec.Args, Workdir: j.Spec.Workdir, Env: j.Spec.Env,
		Secrets: j.Spec.Secrets, Source: j.Spec.Source,
		CPUs: j.Spec.Resources.CPUs, Memory: int64(j.Spec.Resources.Memory), Stop: j.Spec.Stop, GPUs: a.GPUs, Index: j.Spec.Index,
		TimeoutSeconds: int64(time.Duration(j.Spec.Timeout) / time.Second),
	}
	if s := j.Session; s != nil {
		w.Session = &protocol.Session{User: j.Spec.User, UID: s.UID, Home: s.Home}
	}
	if r := j.Rank(number); r != nil {
		w.GPUs, w.Gang = r.GPUs, gang(a, number)
	}
	return protocol.WorkItem{N: number, Assign: w}
}

// resend sends again the assignments and cancels that are older than before and that no
// node has answered. An assignment keeps its number, so that a node that has it ignores
// it; a cancel may arrive twice.
func (ms *messages) resend(before time.Time) {
	for _, n := range ms.sortedNodes() {
		for _, number := range numbers(n) {
			j := n.jobs[number]
			if !j.HasBegun(number) && !j.Current().AssignedAt.After(before) {
				ms.send(n, assignment(j, number))
			}
			if (j.Cancel != "" || j.Requeue) && !j.CancelAt.After(before) || j.Broken() != nil && !j.Broken().EndedAt.After(before) {
				ms.askAssignmentToEnd(pool.Assignment{VMID: n.VMID, N: number}, cmp.Or(j.Cancel, "the attempt is over"))
			}
		}
	}
}

// resendTo sends a node again the assignments that it has neither seen nor begun.
func (ms *messages) resendTo(n *Node) {
	for _, number := range numbers(n) {
		if j := n.jobs[number]; !j.HasBegun(number) && number > n.Seen {
			ms.send(n, assignment(j, number))
		}
	}
}
