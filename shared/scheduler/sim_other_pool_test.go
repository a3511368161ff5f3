package scheduler_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// The other pool of the world is "q". Jobs of "p" come after jobs of it, whose ends the
// world decides, and jobs of it come after jobs of "p". It answers as a pool does, and its
// messages are lost, late and doubled like all others.

const otherPool = "q"

// otherJobs are the jobs of the other pool, and those of this one that it subscribes to.
type otherJobs struct {
	rng   *rand.Rand
	jobs  map[string]*otherJob // by id
	asked map[string]bool      // ids of jobs of "p" that it has asked about: it was notified
}

// otherJob is a job of the other pool.
type otherJob struct {
	liveAt     time.Time // until then its id is registered, and its pool does not know it
	endAt      time.Time
	state      job.State
	forgotten  bool // nobody remembers it after its end
	subscribed bool // "p" is to be notified
}

func newOtherJobs(seed int64) otherJobs {
	return otherJobs{rng: rand.New(rand.NewSource(seed + 1<<32)), jobs: map[string]*otherJob{}, asked: map[string]bool{}}
}

// come makes a new job of "p" come after one of the other pool now and then, and has the
// other pool subscribe to one of "p". Somebody holds some jobs, and gives others another
// priority.
func (o *otherJobs) come(w *world, s *job.Spec, order string) {
	r := o.rng
	if r.Intn(3) == 0 {
		id := fmt.Sprintf("far-%d", r.Intn(len(o.jobs)+1))
		if o.jobs[id] == nil {
			o.jobs[id] = &otherJob{
				liveAt:    w.now.Add(time.Duration(max(0, r.Intn(20)-14)) * time.Second),
				endAt:     w.now.Add(time.Duration(10+r.Intn(120)) * time.Second),
				state:     []job.State{job.Succeeded, job.Succeeded, job.Failed, job.Cancelled, job.TimedOut}[r.Intn(5)],
				forgotten: w.faults && r.Intn(8) == 0,
			}
		}
		s.After = append(s.After, id+[]string{"", "", ":any", ":failure"}[r.Intn(4)])
	}
	if r.Intn(8) == 0 {
		w.events = append(w.events, mail{event: pool.Hold{Order: order}, at: w.now.Add(time.Duration(r.Intn(60)) * time.Second)})
	}
	if r.Intn(8) == 0 {
		p := []job.Priority{job.High, job.Normal, job.Low}[r.Intn(3)]
		w.events = append(w.events, mail{event: pool.SetPriority{Order: order, Priority: p}, at: w.now.Add(time.Duration(r.Intn(60)) * time.Second)})
	}
	if r.Intn(4) == 0 {
		id := s.ID
		if s.Sweep != nil && r.Intn(2) == 0 {
			id = job.MemberID(id, r.Intn(s.Sweep.Count))
		}
		o.asked[id] = false
		w.events = append(w.events, mail{event: pool.Subscribe{IDs: []string{id}, By: otherPool}, at: w.now.Add(time.Duration(1+r.Intn(60)) * time.Second)})
	}
}

// hasEnded reports whether a job of the other pool has ended.
func (j *otherJob) hasEnded(now time.Time) bool { return !now.Before(j.endAt) }

// pass lets a second pass in the other pool: its jobs end, and it asks again for what it
// has not been notified of.
func (o *otherJobs) pass(w *world) {
	for _, id := range slices.Sorted(maps.Keys(o.jobs)) {
		if j := o.jobs[id]; j.hasEnded(w.now) && j.subscribed {
			j.subscribed = false
			w.checker.seen["hint"]++
			if !w.chance(10) {
				w.deliver(pool.Ended{IDs: []string{id}})
			}
		}
	}
	if w.now.Second() != 20 {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(o.asked)) {
		if _, ended := w.rows[pool.DoneKey(orderOf(id))]; !ended && w.faults {
			w.deliver(pool.Subscribe{IDs: []string{id}, By: otherPool})
		}
	}
}

// endState answers for an id of the other pool.
func (o *otherJobs) endState(id string, now time.Time) pool.EndState {
	j := o.jobs[id]
	switch {
	case !j.hasEnded(now):
		return pool.EndState{Pool: otherPool}
	case j.forgotten:
		return pool.EndState{Forgotten: true}
	}
	return pool.EndState{Pool: otherPool, State: j.state}
}

// Subscribe asks the other pool to notify this one.
func (p *ports) Subscribe(ctx context.Context, name, by string, ids []string) error {
	w := p.w
	return p.call(ctx, "bus subscribe", strings.Join(ids, " "), func(*call) error {
		if name != otherPool || by != "p" {
			w.checker.fail("hint", "pool %s is asked to notify pool %s", name, by)
		}
		if w.chance(20) {
			return nil // lost
		}
		for _, id := range ids {
			j := w.others.jobs[id]
			if j == nil {
				w.checker.fail("hint", "the other pool is asked about %s, which is no job of it", id)
				return nil
			}
			if live := !w.now.Before(j.liveAt) && !j.hasEnded(w.now); !live {
				w.deliver(pool.Ended{IDs: []string{id}})
			} else {
				j.subscribed = true
			}
		}
		return nil
	})
}

// Ended notifies the other pool that jobs of this one have ended.
func (p *ports) Ended(ctx context.Context, name string, ids []string) error {
	for _, id := range ids {
		p.owed.done("notify "+name+" "+id, "")
	}
	return p.call(ctx, "bus ended", strings.Join(ids, " "), func(*call) error {
		for _, id := range ids {
			if _, asked := p.w.others.asked[id]; !asked || name != otherPool {
				p.w.checker.fail("hint", "pool %s is notified of job %s, to which it did not subscribe", name, id)
			}
			p.w.others.asked[id] = true
			p.w.checker.seen["notified"]++
		}
		return nil
	})
}

// waitsRight checks that a job that begins comes after nothing that has not ended as it asks.
func (c *checker) waitsRight(id string) {
	order := orderOf(id)
	if sweep, _, isMember := job.SweepOrder(order); isMember {
		order = sweep
	}
	for _, text := range c.w.jobs[order].spec.After {
		d, _ := job.ParseDependency(text)
		state := job.State("")
		if j := c.w.others.jobs[d.ID]; j == nil {
			if row, ended := c.w.rows[pool.DoneKey(orderOf(d.ID))]; ended {
				state = readRow[pool.Job](row).State
			}
		} else if j.hasEnded(c.w.now) {
			state = j.state
			if j.forgotten && d.On != job.OnAny {
				state = ""
			}
		}
		if !state.Final() || !d.Met(state) {
			c.fail("too early", "job %s begins, and comes after %s, which is %q", id, text, state)
		}
	}
}

// movesOn checks that, where nothing goes wrong, no job waits for one that has ended.
func (c *checker) movesOn(s *scheduler.State) {
	const within = 5 * time.Second // far less than the minute of the timer
	for j := range s.Jobs.All() {
		for _, text := range j.Waits {
			d, _ := job.ParseDependency(text)
			other := c.w.others.jobs[d.ID]
			if other == nil || !c.w.clean || j.SubmittedAt.Before(other.liveAt) {
				continue
			}
			if waited := min(c.w.now.Sub(other.endAt), c.w.now.Sub(j.SubmittedAt)); waited > within {
				c.fail("hint", "job %s still waits for %s, which ended %s ago", j.ID, d.ID, waited)
			}
		}
	}
}

// notified checks in the end that, where nothing goes wrong, the other pool was notified of
// all that it subscribes to.
func (c *checker) notified() {
	for _, id := range slices.Sorted(maps.Keys(c.w.others.asked)) {
		if c.w.clean && !c.w.others.asked[id] {
			c.fail("hint", "the other pool subscribes to job %s and was never notified of its end", id)
		}
	}
}
