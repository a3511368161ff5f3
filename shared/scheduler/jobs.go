package scheduler

import (
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// jobStates takes jobs in, puts them back in line and ends them.
type jobStates struct {
	*turn
	messages   *messages
	endNotices *endNotices
	sweeping   memberFollower

	refused   []pool.Refusal // jobs that cannot be taken
	cancelled int            // jobs that a CancelAll has asked to end
}

// memberFollower is what jobStates needs of the sweeps.
type memberFollower interface {
	recordMemberEnd(w *sweep, m *Job)
	cancel(of *Job, reason string)
}

// submit takes a job in, or says why not. A job that is there already is left
// as it is.
func (js *jobStates) submit(e pool.Submit) {
	if _, ended := js.jobRows[pool.DoneKey(e.Order)]; ended || js.Jobs.Get(e.Order) != nil {
		return
	}
	if err := js.refusal(e.Spec); err != nil {
		js.refused = append(js.refused, pool.Refusal{Order: e.Order, ID: e.ID, Err: err})
		return
	}
	j := newJob(&pool.Job{
		Order:       e.Order,
		ID:          e.ID,
		Spec:        e.Spec,
		SubmittedAt: e.At,
		NotBefore:   e.Spec.NotBefore,
		Waits:       slices.Compact(slices.Sorted(slices.Values(e.Spec.After))),
	})
	js.add(j)
	js.enterWaiting(j)
	js.lookUp(j.waitsFor())
}

// enterWaiting puts a job that has no place where it waits, and says what for.
func (js *jobStates) enterWaiting(j *Job) {
	j.State, j.Reason = job.Held, ""
	switch {
	case j.NotBefore.Equal(untilReleased):
		j.Reason = holdText(j.ID)
	case len(j.Waits) > 0:
		j.Reason = waitsText(j)
	case j.NotBefore.After(js.now):
		j.Reason = "not before " + j.NotBefore.Format(time.RFC3339)
	case js.Head.Down:
		j.Reason = js.downReason()
	default:
		j.State = job.Queued
	}
	js.startWaiting(j, js.now)
}

// refusal says why a job can never run in this pool; nil when it can.
func (js *jobStates) refusal(spec job.Spec) *fault.Error {
	if js.Head.Deleting {
		return fault.New(fault.Conflict, "pool", "pool %q is being deleted; name another pool, or create it again when it is gone", spec.Pool)
	}
	return Refuses(js.Head.Spec, spec)
}

// cancel ends a job that waits, or asks its node to end it. What the node
// reports wins, so a cancel may come too late.
func (js *jobStates) cancel(j *Job, reason string) {
	if j.Cancel != "" {
		return
	}
	if j.Spec.Sweep != nil {
		js.sweeping.cancel(j, reason)
		return
	}
	js.open(j)
	j.Cancel, j.CancelAt = reason, js.now
	if j.State == job.Assigned || j.State == job.Running {
		js.messages.askToEnd(j, reason)
		js.writeJob(j)
		return
	}
	js.stopWaiting(j)
	js.finish(j, job.Cancelled, job.ExitCancelled, reason, js.now)
}

// cancelAll ends the jobs of a team or a user. It reports whether there was room
// for all of them.
func (js *jobStates) cancelAll(e pool.CancelAll) bool {
	for _, j := range js.liveJobs() {
		s := &j.Spec
		if s.Index != nil || j.Cancel != "" || e.Team != "" && s.Team != e.Team || e.User != "" && s.User != e.User {
			continue // the members go with their sweep
		}
		if !js.hasRoom() {
			return false
		}
		js.cancel(j, e.Reason)
		if j.Session != nil {
			j.Session.EndsBy = pool.EndAdmin
		}
		js.cancelled++
	}
	return true
}

// requeue puts a job back in line, not before the given time.
func (js *jobStates) requeue(j *Job, notBefore time.Time, reason string) {
	j.State, j.Reason, j.NotBefore = job.Queued, reason, notBefore
	if notBefore.After(js.now) {
		j.State = job.Held
	}
	js.writeJob(j)
	js.startWaiting(j, js.now)
}

// finish ends a job for good.
func (js *jobStates) finish(j *Job, state job.State, exitCode int, reason string, at time.Time) {
	j.State, j.ExitCode, j.Reason, j.EndedAt = state, exitCode, reason, at
	w := js.sweepOf(j)
	js.remove(j)
	if w != nil && w.job != j {
		js.sweeping.recordMemberEnd(w, j)
	}
	if len(js.line.after[j.ID]) > 0 {
		js.outcomes = append(js.outcomes, outcome{id: j.ID, state: state})
	}
	js.endNotices.notifyEnd(j)
}

// add adds a new job's row.
func (js *jobStates) add(j *Job) {
	js.addJob(j)
	js.addToSweep(j)
	js.jobRows[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order), Value: j.Job, Insert: true}
}

// remove moves a job that has ended from the live rows to the finished ones.
func (js *jobStates) remove(j *Job) {
	js.removeJob(j)
	js.removeFromSweep(j)
	if c, ok := js.jobRows[pool.JobKey(j.Order)]; ok && c.Insert {
		delete(js.jobRows, pool.JobKey(j.Order)) // it never was a live row
	} else {
		js.jobRows[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order)}
	}
	js.jobRows[pool.DoneKey(j.Order)] = pool.Change{Key: pool.DoneKey(j.Order), Value: j.Job, Insert: true}
}
