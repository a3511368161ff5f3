package pool

import (
	"fmt"
	"slices"
	"sort"

	"dsvmpools/shared/job"
)

// A job may come after others of its pool: it is held until all of them have
// succeeded, and cancelled when one of them has not. What became of a job that
// is not live any more is asked for (Effects.Ask) and answered with Known: when
// the waiting job is taken in, when a process takes the pool up, and with each
// tick, so that no lost answer leaves a job waiting for ever. A job that ends is
// seen by the step itself.

// askAtOnce bounds what one step asks.
const askAtOnce = 200

// Known says how a job has ended, by its id.
type Known struct {
	ID    string
	State job.State
}

func (Known) event() {}

// outcome is the end of a job that others wait for.
type outcome struct {
	id    string
	state job.State
}

// await lets a job wait for those it comes after.
func (q *queue) await(j *Job) {
	q.awaiting++
	j.awaits = true
	for _, id := range j.Waits {
		q.after[id] = append(q.after[id], j)
	}
}

// forget takes a job out of those that wait for others.
func (q *queue) forget(j *Job) {
	q.awaiting--
	j.awaits = false
	for _, id := range j.Waits {
		rest := slices.DeleteFunc(q.after[id], func(other *Job) bool { return other == j })
		if q.after[id] = rest; len(rest) == 0 {
			delete(q.after, id)
		}
	}
}

// known takes in what became of a job.
func (st *step) known(e Known) {
	st.outcomes = append(st.outcomes, outcome{e.ID, e.State})
}

// settleWaits moves the jobs on that waited for what has ended, as far as there
// is room; the rest follows in the next step.
func (st *step) settleWaits() {
	for len(st.outcomes) > 0 {
		o := st.outcomes[0]
		for len(st.queue.after[o.id]) > 0 {
			if !st.room() {
				return
			}
			st.settleWait(st.queue.after[o.id][0], o)
		}
		st.outcomes = st.outcomes[1:]
	}
}

func (st *step) settleWait(j *Job, o outcome) {
	if o.state != job.Succeeded {
		st.cancel(j, fmt.Sprintf("it comes after job %s, which ended as %s", o.id, o.state))
		return
	}
	st.queue.forget(j)
	j.Waits = slices.DeleteFunc(slices.Clone(j.Waits), func(id string) bool { return id == o.id })
	st.enter(j)
	st.write(j)
}

// waitsFor is the sentence of a job that waits for others.
func waitsFor(j *Job) string {
	if len(j.Waits) == 1 {
		return "it comes after job " + j.Waits[0] + ", which has not ended"
	}
	return fmt.Sprintf("it comes after job %s and %d more, which have not ended", j.Waits[0], len(j.Waits)-1)
}

// ask asks what became of the jobs that others wait for.
func (st *step) ask() {
	ids := make([]string, 0, len(st.queue.after))
	for id := range st.queue.after {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	// With more than can be asked at once, each tick goes on where the last ended.
	if len(ids) > askAtOnce {
		at := sort.SearchStrings(ids, st.asked)
		ids = append(ids[at:], ids[:at]...)[:askAtOnce]
		st.asked = ids[len(ids)-1] + "\x00"
	}
	st.effects.Ask = append(st.effects.Ask, ids...)
}
