package scheduler

import (
	"cmp"
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// explainPlaced says what a job on a node does or waits for.
func (ex *explainer) explainPlaced(j *Job) (reason, unblocks string) {
	name := j.Current().Node
	if more := j.Spec.Nodes - 1; more > 0 {
		name += fmt.Sprintf(" and %d more", more)
	}
	if n := ex.lostNodeOf(j); n != nil {
		why := cmp.Or(n.Reason, "its VM is being deleted")
		return fmt.Sprintf("its node %s is %s: %s; what ran there is over when the VM is gone", n.Name, n.State, why),
			"Azure's word that the VM is gone; nothing has to be done"
	}
	const answer = "the node's answer, or the end of the node"
	switch b := j.Broken(); {
	case j.Cancel != "":
		return fmt.Sprintf("node %s was asked to end it: %s", name, j.Cancel), answer
	case j.State == job.Assigned && j.Requeue && j.CancelAt.Sub(j.Current().AssignedAt) >= ex.timing.AssignedFor:
		return fmt.Sprintf(
				"node %s has not begun it, and was asked to give it back %s ago",
				name,
				ex.now.Sub(j.CancelAt).Round(time.Second),
			),
			fmt.Sprintf(
				"the node's answer; without one by %s the node gets nothing more, and is deleted when nothing else runs on it",
				stamp(j.CancelAt.Add(ex.timing.AssignedFor)),
			)
	case j.Requeue:
		return fmt.Sprintf("node %s was asked to end it, and it goes back in line then", name), answer
	case b != nil:
		end := endText(b.State, b.Cause)
		return fmt.Sprintf("rank %d of it ended as %s on node %s, and the others were asked to end", b.Rank, end, b.Node), answer
	case ex.before(j) > 0:
		return fmt.Sprintf("it waits on node %s for its turn, after %s", name, countText(ex.before(j), "other job", "", "")), ex.turnUnblocks(j)
	case j.State == job.Assigned:
		at := j.Current().AssignedAt
		return fmt.Sprintf("it was given to node %s %s ago, which has not begun it yet", name, ex.now.Sub(at).Round(time.Second)),
			fmt.Sprintf("the node's answer; without one it is sent again, and asked back at %s", stamp(at.Add(ex.timing.AssignedFor)))
	}
	if j.Session != nil {
		return ex.explainSession(j)
	}
	return fmt.Sprintf("it has been running on node %s since %s", name, stamp(j.Current().StartedAt)), ""
}

// turnUnblocks says what a job waits for that waits on its node for its turn.
func (ex *explainer) turnUnblocks(j *Job) string {
	if until := j.Current().AssignedAt.Add(ex.timing.AheadFor); until.After(ex.now) {
		return fmt.Sprintf("the end of what is before it; if it has not begun by %s, it goes back in line", stamp(until))
	}
	return "the end of what is before it, or the node's answer: what has not begun in time goes back in line"
}

// lostNodeOf is a node of the job that is given up or being deleted; nil: there is none.
func (ex *explainer) lostNodeOf(j *Job) *Node {
	for _, p := range j.Assignments() {
		if n := ex.Nodes[p.VMID]; n != nil && (n.State == pool.NodeLost || n.State == pool.NodeFailed || n.State == pool.NodeDeleting) {
			return n
		}
	}
	return nil
}
