package scheduler

import (
	"fmt"
	"sort"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// schedule carries out the pool's own schedule: at downAt its nodes leave, and
// until upAt nothing is placed and waiting jobs are held.
func (st *step) schedule() {
	sched := st.Head.Spec.Schedule
	if sched == nil {
		st.setDown(false)
		return
	}
	down, since, _ := sched.Window(st.now)
	if since.After(st.Head.DownSince) {
		if !st.takeDown(*sched) {
			return
		}
		st.Head.DownSince = since
	}
	st.setDown(down)
}

// takeDown lets every node go: an idle one at once, a busy one as onRunning
// says. It reports whether there was room for all of it.
func (st *step) takeDown(sched pool.Schedule) bool {
	for _, n := range st.sorted() {
		if !st.room() {
			return false
		}
		switch n.State {
		case pool.NodeReady:
			st.setNode(n, pool.NodeDraining, downForTheNight)
		case pool.NodeBusy:
			for _, number := range numbers(n) {
				if !st.room() {
					return false
				}
				st.interrupt(n.jobs[number], sched.OnRunning)
			}
			st.setNode(n, pool.NodeDraining, downForTheNight)
		}
	}
	return true
}

// interrupt treats a running job as the schedule's onRunning says.
func (st *step) interrupt(j *Job, onRunning string) {
	const reason = "the pool goes down by its schedule"
	switch onRunning {
	case "requeue":
		if j.Cancel == "" && !j.Requeue {
			j.Requeue, j.CancelAt = true, st.now
			st.askToEnd(j, reason)
			st.write(j)
		}
	case "kill":
		st.cancel(j, reason)
	}
}

// setDown marks the waiting jobs as held or queued when the pool goes down or
// comes up, as far as there is room; the rest follows in the next step.
func (st *step) setDown(down bool) {
	if st.Head.Down == down && !st.marking {
		return
	}
	st.Head.Down, st.marking = down, true
	state, reason := job.Queued, ""
	if down {
		state, reason = job.Held, st.downReason()
	} else {
		st.undrain()
	}
	done := true
	st.queue.each(func(j *Job) bool {
		if j.State == state || j.Progress != nil && j.State == job.Running {
			return true // a sweep that has begun goes on showing that
		}
		if done = st.room(); done {
			j.State, j.Reason = state, reason
			st.write(j)
		}
		return done
	})
	st.marking = !done
}

// downForTheNight is why a node leaves that may be taken back in the morning.
const downForTheNight = "taken down by the pool's schedule"

// undrain takes nodes back that were to leave for the night and still work.
func (st *step) undrain() {
	for _, n := range st.sorted() {
		if n.State == pool.NodeDraining && n.Reason == downForTheNight && len(n.jobs) > 0 && st.room() {
			st.setNode(n, pool.NodeBusy, "")
		}
	}
}

// downReason is the sentence that a held job shows.
func (st *step) downReason() string {
	if st.Head.Spec.Schedule == nil {
		return "the pool is down" // its schedule was taken from it in this very step, which ends that
	}
	_, _, until := st.Head.Spec.Schedule.Window(st.now)
	return fmt.Sprintf("the pool is down by its schedule until %s", until.UTC().Format(time.RFC3339))
}

// wake finds the next instant at which time alone changes what the pool does,
// and has a tick scheduled for it unless one that is early enough is on its way.
func (st *step) wake() {
	next := st.nextChange()
	if !next.IsZero() {
		next = later(next, st.now)
		pending := st.Head.WakeAt.After(st.now) && !st.Head.WakeAt.After(next)
		if !pending {
			st.Head.WakeAt = next
			st.effects.WakeAt = next
		}
	}
	if len(st.entries) > 0 && !st.Head.RecordAt.After(st.now) {
		st.Head.RecordAt = st.now.Add(st.rules.RecordDelay)
		st.effects.RecordAt = st.Head.RecordAt
	}
}

// nextChange is the earliest of the pool's own deadlines; zero when none is set.
func (st *step) nextChange() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	c := st.census()
	for i := range st.Head.Sets {
		set := &st.Head.Sets[i]
		if set.Op.Token != "" {
			at(set.Op.PollAt)
		}
		if set.Blocked.Until.After(st.now) && (st.queue.waiting() > 0 || st.Head.Deleting) {
			at(set.Blocked.Until)
		}
		if set.Breaker.ProbeAt.After(st.now) && (st.queue.waiting() > 0 || st.Head.Spec.Nodes.Min > 0) {
			at(set.Breaker.ProbeAt)
		}
	}
	if !st.growAt.IsZero() {
		at(st.growAt)
	}
	missing := false
	for _, n := range st.Nodes {
		missing = missing || !n.MissingAt.IsZero() && n.State != pool.NodeGone
		if n.State == pool.NodeReady && c.working+c.coming > st.Head.Spec.Nodes.Min {
			at(n.Since.Add(time.Duration(st.Head.Spec.IdleTimeout)))
		}
	}
	if len(st.queue.later.jobs) > 0 && !st.queue.later.jobs[0].NotBefore.Equal(released) {
		at(st.queue.later.jobs[0].NotBefore)
	}
	if c.coming+c.going+st.pending() > 0 || missing || st.Head.Deleting {
		at(st.now.Add(st.rules.PollEvery))
	}
	if s := st.Head.Spec.Schedule; s != nil && (c.here() > 0 || st.queue.waiting() > 0) {
		at(s.Next(st.now))
	}
	return next
}

// liveJobs lists the live jobs in their order.
func (s *State) liveJobs() []*Job {
	list := make([]*Job, 0, len(s.Jobs))
	for _, j := range s.Jobs {
		list = append(list, j)
	}
	sort.Slice(list, func(i, k int) bool { return list[i].Order < list[k].Order })
	return list
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
