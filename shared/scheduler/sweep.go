package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// sweeping starts the members of sweeps and follows how they end.
type sweeping struct {
	*turn
	jobs       *jobStates
	endNotices *endNotices
}

// A sweep is one live row that stands in line for all of its members. A member
// comes into being when it is placed: it gets a row of its own, and from then on
// is a job like any other. So a sweep of a hundred thousand members costs one row
// until they start.

// sweep is a sweep with its members; derived from the rows.
type sweep struct {
	job     *Job
	live    map[*Job]struct{}
	waiting map[*Job]struct{} // those of them, and the sweep itself, that are in line or would be
}

// isFull reports whether as many members run as may at once.
func (w *sweep) isFull() bool {
	most := w.job.Spec.Sweep.Parallel
	return most > 0 && w.job.Progress.Running >= most
}

// weigh is how many jobs a job in line stands for.
func (j *Job) weigh() int {
	if j.Spec.Sweep == nil {
		return 1
	}
	n := j.Unstarted()
	if most := j.Spec.Sweep.Parallel; most > 0 {
		n = min(n, max(most-j.Progress.Running, 0))
	}
	return n
}

// sweepOf is the sweep that a job is, or is a member of; nil for others.
func (s *State) sweepOf(j *Job) *sweep {
	if j.Spec.Sweep != nil {
		return s.sweeps[j.Order]
	}
	if j.Spec.Index == nil {
		return nil
	}
	order, _, _ := job.SweepOrder(j.Order)
	return s.sweeps[order]
}

// addToSweep adds a live job to what is derived for sweeps.
func (s *State) addToSweep(j *Job) {
	if j.Spec.Sweep != nil {
		if j.Progress == nil {
			j.Progress = &pool.Progress{}
		}
		j.Progress.Running = 0 // counted again
		s.sweeps[j.Order] = &sweep{job: j, live: map[*Job]struct{}{}, waiting: map[*Job]struct{}{}}
		s.unstarted += j.Unstarted()
	} else if w := s.sweepOf(j); w != nil {
		w.live[j] = struct{}{}
	}
}

// removeFromSweep takes an ended job out of it again.
func (s *State) removeFromSweep(j *Job) {
	if w := s.sweepOf(j); w == nil {
		return
	} else if j.Spec.Sweep != nil {
		s.unstarted -= j.Unstarted()
		delete(s.sweeps, j.Order)
	} else {
		delete(w.live, j)
		delete(w.waiting, j)
	}
}

// startWaiting puts a job that has no place where it waits. A sweep of which no member
// begins any more waits for nothing, whatever its row says: it ends with its members. Of
// a sweep that has as many members running as may, none is in line.
func (s *State) startWaiting(j *Job, now time.Time) {
	if j.Spec.Sweep != nil && j.Unstarted() == 0 {
		return
	}
	if w := s.sweepOf(j); w != nil && len(j.Waits) == 0 && !j.NotBefore.After(now) {
		w.waiting[j] = struct{}{}
		if w.isFull() {
			return
		}
	}
	s.line.add(j, now)
	s.noteMarking(j)
}

// stopWaiting takes a job out of where it waits.
func (s *State) stopWaiting(j *Job) {
	s.line.remove(j)
	if w := s.sweepOf(j); w != nil {
		delete(w.waiting, j)
	}
}

// syncSweep follows up a change of what a sweep has running or left: it leaves the
// line, comes back to it, or stands there for more or fewer.
func (s *State) syncSweep(w *sweep) {
	if w.job.Unstarted() == 0 {
		s.stopWaiting(w.job) // also when it is full
	}
	if w.isFull() {
		for j := range w.waiting {
			s.line.remove(j)
		}
		return
	}
	for j := range w.waiting {
		if j.heap == nil {
			s.line.push(j)
			s.noteMarking(j)
		} else if j.Spec.Sweep != nil {
			s.line.reweigh(j)
		}
	}
}

// startMember brings the next member of a sweep into being.
func (sw *sweeping) startMember(of *Job) *Job {
	p := of.Progress
	m := newJob(&pool.Job{
		ID:          job.MemberID(of.ID, p.Next),
		Order:       job.MemberOrder(of.Order, p.Next),
		State:       job.Queued,
		Spec:        of.Spec.Member(p.Next),
		SubmittedAt: of.SubmittedAt,
	})
	if p.StartedAt.IsZero() {
		p.StartedAt, of.State, of.Reason = sw.now, job.Running, ""
	}
	p.Next++
	p.Live++
	sw.unstarted--
	p.PassSkipped()
	sw.endNotices.passToMember(of, m, p.Next-1)
	sw.jobs.add(m)
	sw.writeJob(of)
	sw.syncSweep(sw.sweeps[of.Order])
	return m
}

// skipMember cancels a member that has not come into being.
func (sw *sweeping) skipMember(order, reason string) {
	of, index, _ := job.SweepOrder(order)
	w := sw.sweeps[of]
	if w == nil || w.job.Cancel != "" || index < w.job.Progress.Next || index >= w.job.Spec.Sweep.Members() ||
		w.job.Progress.IsSkipped(index) {
		return
	}
	p := w.job.Progress
	m := newJob(&pool.Job{
		ID:          job.MemberID(w.job.ID, index),
		Order:       order,
		Spec:        w.job.Spec.Member(index),
		SubmittedAt: w.job.SubmittedAt,
	})
	p.MarkSkipped(index)
	p.Live++
	p.PassSkipped()
	sw.unstarted--
	sw.endNotices.passToMember(w.job, m, index)
	sw.jobs.add(m)
	sw.jobs.finish(m, job.Cancelled, job.ExitCancelled, reason, sw.now)
	if j := w.job; j.NotBefore.Equal(untilReleased) && j.Unstarted() == 0 && sw.Jobs.Get(j.Order) != nil {
		sw.stopWaiting(j) // nothing is left to be held
		j.State, j.Reason, j.NotBefore = job.Running, "", time.Time{}
	}
	sw.syncSweep(w)
}

// recordMemberEnd counts a member that has ended, and ends its sweep with the last.
func (sw *sweeping) recordMemberEnd(w *sweep, m *Job) {
	p := w.job.Progress
	p.Live--
	switch m.State {
	case job.Succeeded:
		p.Succeeded++
		p.Good++
	case job.TimedOut:
		p.TimedOut++
		p.Bad++
	case job.Cancelled:
		p.Cancelled++
	default:
		p.Failed++
		p.Bad++
	}
	if p.FirstFailed == "" && (m.State == job.Failed || m.State == job.TimedOut) {
		p.FirstFailed, p.FirstReason, p.ExitCode = m.ID, shorten(m.Reason), m.ExitCode
	}
	if sw.writeJob(w.job); len(w.live) == 0 && w.job.Unstarted() == 0 {
		sw.finish(w.job, m.EndedAt)
	} else if why := w.job.stopReason(); why != "" && w.job.Unstarted() > 0 {
		sw.stop(w.job, why)
	}
}

// mostReason bounds the bytes that a sweep's row keeps of a member's reason.
const mostReason = 200

func shorten(reason string) string {
	if len(reason) <= mostReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:mostReason], "") + "..."
}

// hopeless is how many members may fail, and none succeed, before a sweep that does
// not say `maxFails` is stopped: what fails ten times at first, such as a program's
// name that is misspelt, fails a hundred thousand times.
const hopeless = 10

// stopReason says why so many members have failed that no more are to begin; "" = go on.
func (j *Job) stopReason() string {
	switch p, most := j.Progress, j.Spec.Sweep.MaxFails; {
	case most > 0 && p.Bad >= most:
		return fmt.Sprintf("%s, and its `sweep.maxFails` is %d", countText(p.Bad, "member", "failed", "failed"), most)
	case most == 0 && p.Good == 0 && p.Bad >= hopeless:
		return fmt.Sprintf("%d members failed and none succeeded", p.Bad)
	}
	return ""
}

// stop holds a sweep: no more of its members begin. What has begun runs on, and is
// tried again as the sweep says.
func (sw *sweeping) stop(j *Job, why string) {
	if j.NotBefore.Equal(untilReleased) || j.Cancel != "" {
		return
	}
	sw.stopWaiting(j)
	first := fmt.Sprintf("%s, with exit code %d", j.Progress.FirstFailed, j.Progress.ExitCode)
	if j.Progress.FirstReason != "" {
		first += " (" + j.Progress.FirstReason + ")"
	}
	sw.jobs.requeue(j, untilReleased, fmt.Sprintf("%s, so no more begin. The first that failed is %s; %s not begun. "+
		"`dsvm job release %s` begins more, `dsvm job cancel %s` ends the sweep",
		why, first, countText(j.Unstarted(), "member", "has", "have"), j.ID, j.ID))
}

// resume lets a sweep that was held after its first members begin more.
func (sw *sweeping) resume(j *Job) {
	j.Progress.Bad, j.Progress.Good = 0, 0
	sw.jobs.requeue(j, time.Time{}, "")
	j.State = job.Running
}

// finish ends a sweep whose members have all ended.
func (sw *sweeping) finish(j *Job, at time.Time) {
	sw.stopWaiting(j)
	p := j.Progress
	switch bad := p.Failed + p.TimedOut; {
	case j.Cancel != "":
		p.Cancelled = j.Spec.Sweep.Members() - p.Succeeded - bad
		sw.jobs.finish(j, job.Cancelled, job.ExitCancelled, j.Cancel, at)
	case bad > 0:
		code := p.ExitCode
		if code == 0 {
			code = 1
		}
		why := fmt.Sprintf("%d of its %d members failed, the first of them %s", bad, j.Spec.Sweep.Members(), p.FirstFailed)
		sw.jobs.finish(j, job.Failed, code, why, at)
	case p.Cancelled > 0:
		why := fmt.Sprintf("%d of its %d members were cancelled", p.Cancelled, j.Spec.Sweep.Members())
		sw.jobs.finish(j, job.Cancelled, job.ExitCancelled, why, at)
	default:
		sw.jobs.finish(j, job.Succeeded, 0, "", at)
	}
}

// cancel keeps the members of a sweep from coming into being; those that
// have are cancelled one by one, by cancelMembers.
func (sw *sweeping) cancel(j *Job, reason string) {
	sw.stopWaiting(j)
	sw.unstarted -= j.Unstarted()
	j.Cancel, j.CancelAt, j.Reason = reason, sw.now, reason
	if j.NotBefore.Equal(untilReleased) { // nobody has to release it any more
		j.State, j.NotBefore = job.Running, time.Time{}
	}
	sw.writeJob(j)
	sw.ending = append(sw.ending, j.Order)
}

// cancelMembers goes on cancelling the members of cancelled sweeps, as far as there
// is room; the rest follows in the next step.
func (sw *sweeping) cancelMembers() {
	for len(sw.ending) > 0 {
		w := sw.sweeps[sw.ending[0]]
		if w == nil {
			sw.ending = sw.ending[1:]
			continue
		}
		members := make([]*Job, 0, len(w.live))
		for m := range w.live {
			if m.Cancel == "" {
				members = append(members, m)
			}
		}
		slices.SortFunc(members, byOrder)
		for _, m := range members {
			if !sw.hasRoom() {
				return
			}
			sw.jobs.cancel(m, w.job.Cancel)
		}
		if !sw.hasRoom() {
			return
		}
		if sw.sweeps[w.job.Order] != nil && len(w.live) == 0 {
			sw.finish(w.job, sw.now)
		}
		sw.ending = sw.ending[1:]
	}
}
