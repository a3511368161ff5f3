package scheduler

import (
	"fmt"
	"slices"
	"sort"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// waits moves on the jobs that come after others.
type waits struct {
	*turn
	jobs *jobStates
}

// A job may come after other jobs: it is held until all of them have ended as it asks, and
// cancelled when one of them has ended in another way. The step itself sees a live job of
// the pool end. For a job that is not live any more, or of another pool, the pool asks how
// it ended (Effects.LookUp), and the answer is the event JobEnd. It asks when it takes the
// waiting job in, when a process begins to drive the pool, when another pool says that a
// job has ended (end_notices.go), and with each tick, so that no job waits for ever after a
// lost answer.

// maxLookUps bounds the jobs that lookUpEnds asks about.
const maxLookUps = 200

// outcome says how a job has ended that others may wait for.
type outcome struct {
	id        string
	state     job.State
	forgotten bool // nobody knows any more how it has ended
}

// forOthers is the heap of all jobs that wait for others. It has none: line.after has them.
var forOthers = &jobHeap{}

// awaits reports whether a job waits for others.
func (j *Job) awaits() bool { return j.heap == forOthers }

// holdForOthers makes a job wait for the jobs it comes after.
func (ln *line) holdForOthers(j *Job) {
	ln.awaiting++
	j.heap = forOthers
	for _, id := range j.waitsFor() {
		ln.after[id] = append(ln.after[id], j)
	}
}

// stopHolding ends a job's wait for others.
func (ln *line) stopHolding(j *Job) {
	ln.awaiting--
	j.heap = nil
	for _, id := range j.waitsFor() {
		rest := slices.DeleteFunc(ln.after[id], func(other *Job) bool { return other == j })
		if ln.after[id] = rest; len(rest) == 0 {
			delete(ln.after, id)
		}
	}
}

// recordEnd takes in how a job has ended.
func (ws *waits) recordEnd(e pool.JobEnd) {
	ws.outcomes = append(ws.outcomes, outcome{e.ID, e.State, e.Forgotten})
}

// followEnds moves on the jobs that waited for jobs that have ended, as far as there is
// room. The next step does the rest.
func (ws *waits) followEnds() {
	for len(ws.outcomes) > 0 {
		o := ws.outcomes[0]
		for _, j := range slices.Clone(ws.line.after[o.id]) {
			if !ws.hasRoom() {
				return
			}
			ws.followEnd(j, o)
		}
		ws.outcomes = ws.outcomes[1:]
	}
}

// followEnd lets a job wait no longer for one that has ended, or cancels it if the end is
// not the one it asks for.
func (ws *waits) followEnd(j *Job, o outcome) {
	var left []string
	for _, text := range j.Waits {
		d, _ := job.ParseDependency(text)
		if d.ID != o.id {
			left = append(left, text)
		} else if o.forgotten && d.On != job.OnAny {
			ws.jobs.cancel(j, fmt.Sprintf("it comes after job %s, and nobody knows any more how that has ended", o.id))
			return
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

// waitsText says for which jobs a job waits.
func waitsText(j *Job) string {
	ids := j.waitsFor()
	switch len(ids) {
	case 0: // no row says so; the simulation makes one, to see that it is caught
		return "the jobs that it comes after have ended"
	case 1:
		return "it comes after job " + ids[0] + ", which has not ended"
	}
	return fmt.Sprintf("it comes after job %s and %d more, which have not ended", ids[0], len(ids)-1)
}

// lookUpEnds asks how the jobs have ended that others wait for.
func (ws *waits) lookUpEnds() {
	ids := make([]string, 0, len(ws.line.after))
	for id := range ws.line.after {
		if ws.Jobs.WithID(id) == nil {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	// If there are too many, each tick asks on from where the last one stopped.
	if len(ids) > maxLookUps {
		at := sort.SearchStrings(ids, ws.lookUpFrom)
		ids = append(ids[at:], ids[:at]...)[:maxLookUps]
		ws.lookUpFrom = ids[len(ids)-1] + "\x00"
	}
	ws.lookUp(ids)
}

// lookAt asks how jobs have ended that others wait for and that another pool says have
// ended.
func (ws *waits) lookAt(ids []string) {
	for _, id := range ids {
		if ws.Jobs.WithID(id) == nil && len(ws.line.after[id]) > 0 {
			ws.effects.LookAt = append(ws.effects.LookAt, id)
		}
	}
}

// lookUp asks how jobs have ended, except those that are live in this state. The rows of
// this step are written only if the state is current. So a step that ends such a job
// comes later, and knows who waits for it. A member that has not begun has no row: the
// pool asks for it.
func (t *turn) lookUp(ids []string) {
	for _, id := range ids {
		if t.Jobs.WithID(id) == nil {
			t.effects.LookUp = append(t.effects.LookUp, id)
		}
	}
}
