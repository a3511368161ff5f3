package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// maxAttempts bounds the attempts a job's row keeps; older ones are in the
// ledger.
const maxAttempts = 100

// submit takes a job in, or says why not. A job that is there already is left
// as it is.
func (st *step) submit(e pool.Submit) {
	if _, ended := st.jobs[pool.DoneKey(e.Order)]; ended || st.Jobs[e.Order] != nil {
		return
	}
	if err := st.refuse(e.Spec); err != nil {
		st.refused = append(st.refused, pool.Refusal{Order: e.Order, ID: e.ID, Err: err})
		return
	}
	j := &Job{Job: &pool.Job{
		Order:       e.Order,
		ID:          e.ID,
		Spec:        e.Spec,
		SubmittedAt: e.At,
		NotBefore:   e.Spec.NotBefore,
		Waits:       slices.Compact(slices.Sorted(slices.Values(e.Spec.After))),
	}}
	st.insert(j)
	st.enter(j)
	st.effects.LookUp = append(st.effects.LookUp, j.waitsFor()...)
}

// enter puts a job that has no place where it waits, and says what for.
func (st *step) enter(j *Job) {
	j.State, j.Reason = job.Held, ""
	switch {
	case len(j.Waits) > 0:
		j.Reason = waitsFor(j)
	case j.NotBefore.After(st.now):
		j.Reason = "not before " + j.NotBefore.Format(time.RFC3339)
	case st.Head.Down:
		j.Reason = st.downReason()
	default:
		j.State = job.Queued
	}
	st.wait(j, st.now)
}

// refuse says why a job can never run in this pool; nil when it can.
func (st *step) refuse(spec job.Spec) *fault.Error {
	if st.Head.Deleting {
		return fault.New(fault.Conflict, "pool", "pool %q is being deleted; name another pool, or create it anew when it is gone", spec.Pool)
	}
	return Refuses(st.Head.Spec, spec)
}

// Refuses says why no node of a pool can ever run a job; nil when one can.
func Refuses(of pool.Spec, spec job.Spec) *fault.Error {
	if spec.Nodes > of.Nodes.Max {
		return fault.New(fault.Invalid, "nodes", "the job asks for %d nodes, pool %q never has more than %d; ask for fewer, or have `nodes.max` raised", spec.Nodes, spec.Pool, of.Nodes.Max)
	}
	if err := refusesSize(&of, spec); err != nil {
		return err
	}
	l := of.LimitOf(spec.Team)
	if all := spec.Total(); l.Jobs != nil && *l.Jobs < 1 || l.CPUs != nil && *l.CPUs < all.CPUs || l.GPUs != nil && *l.GPUs < all.GPUs {
		return fault.New(fault.Invalid, "team", "the limits of pool %q never let team %q run a job of this size; ask for less, or have `limits` changed", spec.Pool, spec.Team)
	}
	return nil
}

// refusesSize says why no size of the pool has room for a job; nil when one has.
func refusesSize(s *pool.Spec, spec job.Spec) *fault.Error {
	var largest pool.Set
	for _, name := range s.Sizes {
		set := pool.Set{Size: name}
		has := set.Resources()
		if has.CPUs == 0 || fits(has, job.Resources{}, spec.Resources) {
			return nil // or the size is not known; its nodes will tell
		}
		if of := largest.Resources(); has.GPUs > of.GPUs || has.GPUs == of.GPUs && has.CPUs > of.CPUs {
			largest = set
		}
	}
	has, want := largest.Resources(), spec.Resources
	for _, r := range []struct {
		field, unit string
		want, has   any
		tooMuch     bool
		ask         string
	}{
		{"cpus", "cpus", want.CPUs, has.CPUs, want.CPUs > has.CPUs, "fewer"},
		{"gpus", "gpus", want.GPUs, has.GPUs, want.GPUs > has.GPUs, "fewer"},
		{"memory", "of memory", want.Memory, has.Memory, want.Memory > has.Memory, "less"},
	} {
		if r.tooMuch {
			return fault.New(fault.Invalid, "resources."+r.field, "the job asks for %v %s, a node of pool %q (%s) has %v; ask for %s or use a pool of a larger size",
				r.want, r.unit, spec.Pool, largest.Size, r.has, r.ask)
		}
	}
	return fault.New(fault.Invalid, "resources", "the job asks for more than any one size of pool %q has; ask for less or use another pool", spec.Pool)
}

// cancel ends a job that waits, or asks its node to end it. What the node
// reports wins, so a cancel may come too late.
func (st *step) cancel(j *Job, reason string) {
	if j.Cancel != "" {
		return
	}
	if j.Spec.Sweep != nil {
		st.cancelSweep(j, reason)
		return
	}
	j.Cancel, j.CancelAt = reason, st.now
	if j.State == job.Assigned || j.State == job.Running {
		st.askToEnd(j, reason)
		st.write(j)
		return
	}
	st.leave(j)
	st.finish(j, job.Cancelled, job.ExitCancelled, reason, st.now)
}

// cancelAll ends the jobs of a team or a user. It reports whether there was room
// for all of them.
func (st *step) cancelAll(e pool.CancelAll) bool {
	for _, j := range st.liveJobs() {
		s := &j.Spec
		if s.Index != nil || j.Cancel != "" || e.Team != "" && s.Team != e.Team || e.User != "" && s.User != e.User {
			continue // the members go with their sweep
		}
		if !st.room() {
			return false
		}
		st.cancel(j, e.Reason)
		st.cancelled++
	}
	return true
}

// askToEnd sends the cancel of the job's current attempt to its nodes.
func (st *step) askToEnd(j *Job, reason string) {
	for _, p := range j.Assignments() {
		st.askPlace(p, reason)
	}
}

func (st *step) askPlace(p pool.Assignment, reason string) {
	if n := st.Nodes[p.VMID]; n != nil {
		st.Head.N++
		st.send(n, protocol.WorkItem{N: st.Head.N, Cancel: &protocol.Cancel{Target: p.N, Reason: reason}})
	}
}

// assign starts the job's next attempt: on one node, or a gang's on several.
func (st *step) assign(j *Job, on []*Node) {
	number := 1
	if last := j.Current(); last != nil {
		number = last.Number + 1
	}
	a := job.Attempt{Number: number, Node: on[0].Name, VMID: on[0].VMID, State: job.AttemptAssigned, AssignedAt: st.now}
	j.VMID, j.N, j.State, j.Reason = on[0].VMID, st.Head.N+1, job.Assigned, ""
	for i, n := range on {
		st.Head.N++
		gpus := n.indexes(j.Spec.Resources.GPUs)
		if j.Spec.Nodes == 0 {
			a.GPUs = gpus
			break
		}
		a.Ranks = append(a.Ranks, job.Rank{Rank: i, Node: n.Name, VMID: n.VMID, Address: cmp.Or(n.Address, n.Name), N: st.Head.N, First: st.Head.N,
			State: job.AttemptAssigned, GPUs: gpus})
	}
	j.Attempts = append(j.Attempts, a)
	if len(j.Attempts) > maxAttempts {
		j.Attempts = j.Attempts[len(j.Attempts)-maxAttempts:]
	}
	st.occupy(j)
	st.write(j)
	for i, n := range on {
		if n.State == pool.NodeReady {
			st.setNode(n, pool.NodeBusy, "")
		}
		st.send(n, assignment(j, j.N+int64(i)))
	}
}

// assignment is the work item of the job's current attempt, or of one rank of it.
func assignment(j *Job, number int64) protocol.WorkItem {
	a := j.Current()
	w := &protocol.Assignment{
		Job: j.ID, Attempt: a.Number, Name: j.Spec.Name, Team: j.Spec.Team, User: j.Spec.User,
		Command: j.Spec.Command, Script: j.Spec.Script, Workdir: j.Spec.Workdir, Env: j.Spec.Env, Source: j.Spec.Source,
		CPUs: j.Spec.Resources.CPUs, Memory: int64(j.Spec.Resources.Memory), Stop: j.Spec.Stop, GPUs: a.GPUs, Index: j.Spec.Index, TimeoutSeconds: int64(time.Duration(j.Spec.Timeout) / time.Second),
	}
	if r := j.Rank(number); r != nil {
		w.GPUs, w.Gang = r.GPUs, gang(a, number)
	}
	return protocol.WorkItem{N: number, Assign: w}
}

// over takes in how the job's current attempt ended on a node.
func (st *step) over(j *Job, n *Node, f protocol.Finished) {
	if j.Rank(f.N) != nil {
		st.rankOver(j, n, f)
		return
	}
	a := j.Current()
	if !f.StartedAt.IsZero() {
		a.StartedAt = f.StartedAt
	}
	a.State, a.ExitCode, a.Cause, a.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.EndedAt
	st.enterAttempt(j, a, n)
	st.release(j, n, f.N, a.GPUs)
	st.blame(n, j, f)
	st.concluded(j, f)
}

// concluded takes in how the job's current attempt ended on all its nodes, and
// decides whether another follows.
func (st *step) concluded(j *Job, f protocol.Finished) {
	a := j.Current()
	a.State, a.ExitCode, a.Cause, a.Reason, a.EndedAt = job.AttemptState(f.State), f.ExitCode, f.Cause, f.Reason, f.EndedAt
	st.use(j)
	st.left(j)
	switch {
	case a.State == job.AttemptSucceeded:
		st.finish(j, job.Succeeded, 0, "", a.EndedAt)
	case j.Cancel != "":
		st.finish(j, job.Cancelled, job.ExitCancelled, j.Cancel, a.EndedAt)
	case j.Requeue:
		j.Requeue = false
		st.again(j, time.Time{}, "put back in line: "+a.Reason)
	case j.free(a):
		st.again(j, st.pauseBefore(j), "put back in line: "+a.Reason)
	case lost(a) && !j.goesOn(a):
		st.holdBack(j)
	case j.Retries < j.Spec.Retry.Max && j.Spec.Retry.Covers(a.State, a.ExitCode):
		j.Retries++
		st.again(j, st.now.Add(time.Duration(j.Spec.Retry.Backoff)),
			fmt.Sprintf("attempt %d ended as %s with exit code %d; retry %d of %d", a.Number, a.State, a.ExitCode, j.Retries, j.Spec.Retry.Max))
	case a.State == job.AttemptTimedOut:
		st.finish(j, job.TimedOut, a.ExitCode, a.Reason, a.EndedAt)
	case a.State == job.AttemptCancelled:
		st.finish(j, job.Cancelled, a.ExitCode, a.Reason, a.EndedAt)
	default:
		st.finish(j, job.Failed, a.ExitCode, a.Reason, a.EndedAt)
	}
}

// never takes an assignment back that its node does not have: the attempt did
// not happen, and the job goes back to its place in line.
func (st *step) never(j *Job, n *Node, number int64, reason string) {
	if r := j.Rank(number); r != nil {
		st.rankNever(j, n, r, reason)
		return
	}
	st.release(j, n, number, j.Current().GPUs)
	st.left(j)
	j.Attempts = j.Attempts[:len(j.Attempts)-1]
	if j.Cancel != "" {
		st.finish(j, job.Cancelled, job.ExitCancelled, j.Cancel, st.now)
		return
	}
	j.Requeue = false
	st.again(j, time.Time{}, reason)
}

// again puts a job back in line, not before the given time.
func (st *step) again(j *Job, notBefore time.Time, reason string) {
	j.State, j.Reason, j.NotBefore = job.Queued, reason, notBefore
	if notBefore.After(st.now) {
		j.State = job.Held
	}
	st.write(j)
	st.wait(j, st.now)
}

// finish ends a job for good.
func (st *step) finish(j *Job, state job.State, exitCode int, reason string, at time.Time) {
	j.State, j.ExitCode, j.Reason, j.EndedAt = state, exitCode, reason, at
	w := st.sweepOf(j)
	st.end(j)
	if w != nil && w.job != j {
		st.memberEnded(w, j)
	}
	if len(st.queue.after[j.ID]) > 0 {
		st.outcomes = append(st.outcomes, outcome{j.ID, state})
	}
}

// release takes a job off its node; a node without work is idle from now on.
func (st *step) release(j *Job, n *Node, number int64, gpus []int) {
	st.free(j, n, number, gpus)
	if len(n.jobs) == 0 && n.State == pool.NodeBusy {
		st.setNode(n, pool.NodeReady, "")
	}
}
