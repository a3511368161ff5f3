package scheduler

import (
	"fmt"
	"slices"
	"sort"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// waits moves the jobs on that come after others.
type waits struct {
	*turn
	jobs *jobStates
}

// A job may come after others of its pool: it is held until all of them have
// ended as it asks, and cancelled when one of them has ended otherwise. What became of a job that
// is not live any more is asked for (Effects.Ask) and answered with Known: when
// the waiting job is taken in, when a process takes the pool up, and with each
// tick, so that no lost answer leaves a job waiting for ever. A job that ends is
// seen by the step itself.

// askAtOnce bounds what one step asks.
const askAtOnce = 200

// outcome is the end of a job that others wait for.
type outcome struct {
	id    string
	state job.State
}

// holdForOthers lets a job wait for those it comes after.
func (q *line) holdForOthers(j *Job) {
	q.awaiting++
	j.awaits = true
	for _, id := range j.waitsFor() {
		q.after[id] = append(q.after[id], j)
	}
}

// stopHolding takes a job out of those that wait for others.
func (q *line) stopHolding(j *Job) {
	q.awaiting--
	j.awaits = false
	for _, id := range j.waitsFor() {
		rest := slices.DeleteFunc(q.after[id], func(other *Job) bool { return other == j })
		if q.after[id] = rest; len(rest) == 0 {
			delete(q.after, id)
		}
	}
}

// recordEnd takes in what became of a job.
func (ws *waits) recordEnd(e pool.JobEnd) {
	ws.outcomes = append(ws.outcomes, outcome{e.ID, e.State})
}

// followEnds moves the jobs on that waited for what has ended, as far as there
// is room; the rest follows in the next step.
func (ws *waits) followEnds() {
	for len(ws.outcomes) > 0 {
		o := ws.outcomes[0]
		for len(ws.line.after[o.id]) > 0 {
			if !ws.hasRoom() {
				return
			}
			ws.followEnd(ws.line.after[o.id][0], o)
		}
		ws.outcomes = ws.outcomes[1:]
	}
}

func (ws *waits) followEnd(j *Job, o outcome) {
	var left []string
	for _, text := range j.Waits {
		d, _ := job.ParseDependency(text)
		if d.ID != o.id {
			left = append(left, text)
		} else if !d.Met(o.state) {
			on := ""
			if d.On != job.OnSuccess {
				on = " on " + string(d.On)
			}
			ws.jobs.cancel(j, fmt.Sprintf("it comes after job %s%s, which ended as %s", o.id, on, o.state))
			return
		}
	}
	ws.line.stopHolding(j)
	j.Waits = left
	ws.jobs.enterWaiting(j)
	ws.writeJob(j)
}

// waitsFor lists the ids of the jobs that a job waits for.
func (j *Job) waitsFor() []string {
	ids := make([]string, len(j.Waits))
	for i, text := range j.Waits {
		d, _ := job.ParseDependency(text)
		ids[i] = d.ID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// waitsText is the sentence of a job that waits for others.
func waitsText(j *Job) string {
	ids := j.waitsFor()
	if len(ids) == 1 {
		return "it comes after job " + ids[0] + ", which has not ended"
	}
	return fmt.Sprintf("it comes after job %s and %d more, which have not ended", ids[0], len(ids)-1)
}

// lookUpEnds asks what became of the jobs that others wait for.
func (ws *waits) lookUpEnds() {
	ids := make([]string, 0, len(ws.line.after))
	for id := range ws.line.after {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	// With more than can be asked at once, each tick goes on where the last ended.
	if len(ids) > askAtOnce {
		at := sort.SearchStrings(ids, ws.asked)
		ids = append(ids[at:], ids[:at]...)[:askAtOnce]
		ws.asked = ids[len(ids)-1] + "\x00"
	}
	ws.effects.LookUp = append(ws.effects.LookUp, ids...)
}
