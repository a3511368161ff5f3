package scheduler

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// schedule takes the pool down and lets it come up again.
type schedule struct {
	*turn
	messages *messages
	nodes    *nodeStates
	jobs     *jobStates
	sessions *sessions
}

// goesDown is the reason of what ends because of the schedule.
const goesDown = "the pool goes down by its schedule"

// enforce carries out the schedule in the pool's spec: at downAt its nodes leave, and until
// upAt no job is placed and waiting jobs are held.
func (sc *schedule) enforce() {
	sched := sc.Head.Spec.Schedule
	if sched == nil {
		sc.setDown(false)
		return
	}
	down, since, _ := sched.Window(sc.now)
	if since.After(sc.Head.DownSince) {
		if !sc.takeDown(*sched) {
			return
		}
		sc.Head.DownSince = since
	}
	sc.setDown(down)
}

// takeDown drains the ready and busy nodes; onRunning decides about their jobs. It reports whether
// there was room for all of it.
func (sc *schedule) takeDown(sched pool.Schedule) bool {
	for _, n := range sc.sortedNodes() {
		if !sc.hasRoom() {
			return false
		}
		switch n.State {
		case pool.NodeReady:
			sc.nodes.setState(n, pool.NodeDraining, downForTheNight)
		case pool.NodeBusy:
			for _, number := range numbers(n) {
				if !sc.hasRoom() {
					return false
				}
				sc.interrupt(n.jobs[number], sched.OnRunning)
			}
			sc.nodes.setState(n, pool.NodeDraining, downForTheNight)
		default: // housekeeping takes care of the others
		}
	}
	return true
}

// interrupt requeues or cancels a job, or leaves it alone, according to onRunning.
func (sc *schedule) interrupt(j *Job, onRunning string) {
	if j.Session != nil {
		if onRunning == "kill" {
			sc.sessions.warnForSchedule(j, time.Duration(sc.Head.Spec.Schedule.Grace))
		}
		return
	}
	switch onRunning {
	case "requeue":
		if j.Cancel == "" && !j.Requeue {
			j.Requeue, j.CancelAt = true, sc.now
			sc.messages.askToEnd(j, goesDown)
			sc.writeJob(j)
		}
	case "kill":
		sc.jobs.cancel(j, goesDown)
	}
}

// setDown marks the jobs in line as held when the pool goes down, and as queued when it
// comes up, as far as there is room. The next step does the rest.
func (sc *schedule) setDown(down bool) {
	if sc.Head.Down == down && !sc.marking {
		return
	}
	sc.Head.Down, sc.marking = down, true
	state, reason := job.Queued, ""
	if down {
		state, reason = job.Held, sc.downReason()
	} else {
		sc.takeNodesBack()
	}
	done := true
	sc.line.each(func(j *Job) bool {
		if !sc.isMismarked(j) {
			return true
		}
		if done = sc.hasRoom(); done {
			sc.open(j)
			j.State, j.Reason = state, reason
			sc.writeJob(j)
		}
		return done
	})
	sc.marking = !done
}

// isMismarked reports whether the row of a job in line does not say whether the pool is
// down. A sweep that has begun stays running.
func (s *State) isMismarked(j *Job) bool {
	return (j.State == job.Held) != s.Head.Down && (j.Progress == nil || j.State != job.Running)
}

// noteMarking has setDown look at the line if a job has come into it that is mismarked.
func (s *State) noteMarking(j *Job) {
	s.marking = s.marking || j.inLine() != nil && s.isMismarked(j)
}

// downForTheNight is the reason of a node that leaves by the schedule.
const downForTheNight = "taken down by the pool's schedule"

// takeNodesBack puts nodes back in use that drain by the schedule and still run jobs.
func (sc *schedule) takeNodesBack() {
	for _, n := range sc.sortedNodes() {
		if n.State == pool.NodeDraining && n.Reason == downForTheNight && len(n.jobs) > 0 && sc.hasRoom() {
			sc.nodes.setState(n, pool.NodeBusy, "")
		}
	}
}
