package drive

import (
	"context"
	"maps"
	"slices"
	"time"

	"dsvmpools/shared/pool"
)

// subscribeAgain is after what time a pool asks another one again to be notified of the end
// of the same job: as often as the timer brings ticks. A pool that grows has many more.
const subscribeAgain = 50 * time.Second

// lookUpEnded finds out how jobs that others wait for have ended, and subscribes to the
// ends of those of other pools that have not. The next tick asks again for those that
// cannot be read.
func (d *Driver) lookUpEnded(ctx context.Context, name string, e pool.Effects) []pool.Event {
	ids := slices.Concat(e.LookUp, e.LookAt)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return nil
	}
	states, err := d.store.EndStates(ctx, ids)
	if err != nil {
		d.log.Warn("looking up jobs that others wait for failed", "pool", name, "jobs", len(ids), "error", err)
		return nil
	}
	var events []pool.Event
	for _, id := range ids {
		if end := states[id]; end.State != "" || end.Forgotten {
			events = append(events, pool.JobEnd{ID: id, State: end.State, Forgotten: end.Forgotten})
		}
	}
	d.forgetAsked(name, e.LookAt)
	d.subscribe(ctx, name, e.LookUp, states)
	return events
}

// subscribe asks other pools to notify this one when jobs have ended.
func (d *Driver) subscribe(ctx context.Context, name string, ids []string, states map[string]pool.EndState) {
	byPool := map[string][]string{}
	for _, id := range ids {
		if end := states[id]; end.State == "" && end.Pool != "" && end.Pool != name {
			byPool[end.Pool] = append(byPool[end.Pool], id)
		}
	}
	for _, of := range slices.Sorted(maps.Keys(byPool)) {
		asked := d.notAskedLately(name, byPool[of])
		if len(asked) == 0 {
			continue
		}
		if err := d.bus.Subscribe(ctx, of, name, asked); err != nil {
			d.log.Warn("asking another pool to notify this one failed; its ticks find out", "pool", name, "other", of, "error", err)
		}
	}
}

// forgetAsked forgets that another pool was asked: it has answered, perhaps since it did
// not know the job yet.
func (d *Driver) forgetAsked(name string, ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.subscribed, name+" "+id)
	}
}

// notAskedLately leaves the ids for which this process has not asked for a while, and
// notes that it asks for them now.
func (d *Driver) notAskedLately(name string, ids []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	maps.DeleteFunc(d.subscribed, func(_ string, at time.Time) bool { return now.Sub(at) >= subscribeAgain })
	var left []string
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		if key := name + " " + id; d.subscribed[key].IsZero() {
			d.subscribed[key] = now
			left = append(left, id)
		}
	}
	return left
}
