package drive

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// maxEnded is how many orders of ended jobs an actor remembers. When there are more, it
// forgets them all and looks the jobs up instead.
const maxEnded = 10_000

// actor is one pool in this process. The call that visits it owns all fields but spec.
type actor struct {
	name string
	free chan struct{}             // holds a token while nobody visits
	spec atomic.Pointer[pool.Spec] // as last loaded or written, for readers that do not visit

	copyOfPool
	ended map[string]struct{} // orders of jobs that ended since the copy was loaded

	// mustResend: nodes may not have all of their work. This is so when this process begins
	// to drive the pool, because the process before may have been killed between a commit
	// and its effects; after a message could not be sent; and while it is not known whether
	// a step was committed.
	mustResend bool
	tally      *Tally // the last one that somebody asked for; nil = none
	doorsSent  doorTimes
	calls      pool.Effects // to Azure, decided by committed steps and not made yet
}

// copyOfPool is what a process knows of a pool. It has three states: missing (state is
// nil: it must be loaded), outdated (it must catch up before it is used), and current as
// far as this process knows. A failed step leaves it outdated, since the step has changed it.
type copyOfPool struct {
	state    *scheduler.State
	version  pool.Version // of the pool that the copy shows
	outdated bool         // the rows may say something else
	suspect  []string     // keys of rows that a failed commit may or may not have written
	loaded   time.Time    // after state was read, by the clock of this process
}

// forgetState drops the copy: the next visit loads it.
func (c *copyOfPool) forgetState() { c.state = nil }

// markOutdated says that the copy must catch up before it is used.
func (c *copyOfPool) markOutdated() { c.outdated = true }

// actor returns the pool's actor in this process.
func (d *Driver) actor(name string) *actor {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.pools[name]
	if a == nil {
		a = &actor{name: name, free: make(chan struct{}, 1), mustResend: true}
		a.unlock()
		d.pools[name] = a
	}
	return a
}

// lock waits until nobody else visits.
func (a *actor) lock(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		select {
		case <-a.free:
			return nil
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return fmt.Errorf("pool %q is busy: %w", a.name, err)
}

func (a *actor) unlock() { a.free <- struct{}{} }

// takeCalls returns the calls that are due, and removes them from the actor.
func (a *actor) takeCalls() pool.Effects {
	calls := a.calls
	a.calls = pool.Effects{}
	return calls
}

// keepCalls runs after a failed visit. It keeps the calls that may be made later, after
// dropOldRemovals has looked at them. The others may be wrong later; a step decides them
// again.
func (a *actor) keepCalls() {
	a.calls = pool.Effects{Remove: a.calls.Remove, LookUp: a.calls.LookUp, LookAt: a.calls.LookAt}
}

// dropOldRemovals keeps each removal once, and only while the pool still has that node,
// under the same number of instance, on its way out: meanwhile another process may have
// deleted the set, and a set that is made again numbers its instances from the beginning.
func (a *actor) dropOldRemovals() {
	if a.state == nil {
		a.calls.Remove = nil
		return
	}
	seen := map[string]bool{}
	a.calls.Remove = slices.DeleteFunc(a.calls.Remove, func(n *pool.Node) bool {
		now := a.state.Nodes[n.VMID]
		old := seen[n.VMID] || now == nil || now.InstanceID != n.InstanceID || now.DeleteAt.IsZero() || now.State == pool.NodeGone
		seen[n.VMID] = true
		return old
	})
}

// load reads the pool, or what has changed in it, unless the copy is current. Without a
// pool, events that create one get an empty state.
func (d *Driver) load(ctx context.Context, a *actor, events []pool.Event) error {
	if a.state != nil && a.outdated {
		if err := d.catchUp(ctx, a); err != nil {
			return err
		}
	}
	if a.state != nil {
		return nil
	}
	began := d.now()
	var jobs scheduler.Rows
	part, version, err := d.store.LoadInto(ctx, a.name, &jobs)
	if fault.CodeOf(err) == fault.NotFound && createsPool(events) {
		part, version, err = &pool.Partition{}, pool.Version{}, nil
	}
	if err != nil {
		a.spec.Store(nil)
		return err
	}
	if part.Head.Seq > 0 {
		a.spec.Store(&part.Head.Spec)
	}
	a.copyOfPool = copyOfPool{
		state:   scheduler.NewStateOf(part.Head, part.Nodes, &jobs, began),
		version: version,
		loaded:  d.now(), // not before: another process may have taken a job in and ended it while this one loaded
	}
	a.ended = map[string]struct{}{}
	return nil
}

// createsPool reports whether the events may create a pool that is not there.
func createsPool(events []pool.Event) bool {
	if len(events) == 0 {
		return false
	}
	_, applies := events[0].(pool.Apply)
	return applies
}

// catchUp brings the copy up to date from what was written since its version. Where the
// store cannot say, it drops the copy.
func (d *Driver) catchUp(ctx context.Context, a *actor) error {
	began := d.now()
	live := a.state.Jobs.Len() + len(a.state.Nodes)
	delta, version, ok, err := d.store.ChangesSince(ctx, a.name, a.version, a.suspect, live)
	if err != nil {
		return err
	}
	if !ok {
		a.forgetState()
		return nil
	}
	a.calls.LookUp = append(a.calls.LookUp, a.state.CatchUp(delta.Head, delta.Nodes, delta.Jobs, delta.Gone, began)...)
	a.version, a.outdated, a.suspect = version, false, nil
	a.spec.Store(&delta.Head.Spec)
	a.rememberEnded(delta.Ended, d.now())
	return nil
}

// rememberEnded notes jobs that have ended, so that a late copy of their message needs
// no look at their finished rows.
func (a *actor) rememberEnded(orders []string, now time.Time) {
	for _, order := range orders {
		a.ended[order] = struct{}{}
	}
	if len(a.ended) > maxEnded {
		a.ended, a.loaded = map[string]struct{}{}, now
	}
}

// addNewJobs adds the jobs that are really new to the events. A job may have been taken
// in and ended before; its finished row or its id says so. Neither has to be read for an
// id that was registered after the state was loaded: if another process has taken the
// job in since then, it has changed the head, and this commit fails.
func (d *Driver) addNewJobs(ctx context.Context, a *actor, events []pool.Event, jobs []Submission) ([]pool.Event, error) {
	events = slices.Clip(events) // the slice is the caller's
	for _, j := range jobs {
		if _, ended := a.ended[j.Order]; ended || a.state.Jobs.Get(j.Order) != nil {
			continue
		}
		if j.Registered.IsZero() || !j.Registered.After(a.loaded) {
			ended, err := d.hasEnded(ctx, a.name, j.Submit)
			if err != nil {
				return nil, err
			}
			if ended {
				continue
			}
		}
		events = append(events, j.Submit)
	}
	return events, nil
}

// hasEnded reports whether a job that is not live has ended. Its finished row says so,
// or its id if that row is gone.
func (d *Driver) hasEnded(ctx context.Context, name string, j pool.Submit) (bool, error) {
	_, err := d.store.FinishedJob(ctx, name, j.Order)
	if fault.CodeOf(err) != fault.NotFound {
		return err == nil, err
	}
	states, err := d.store.EndStates(ctx, []string{j.ID})
	switch end := states[j.ID]; {
	case err != nil:
		return false, err
	case end.State == job.Rejected:
		return false, fault.New(fault.Throttled, "id", "the id %q was given back while its job was on its way; it comes again", j.ID)
	case end.State == "" || end.Pool != name:
		return false, nil
	}
	return true, nil
}

// maxChanges bounds the rows of a transaction besides the head and the row of the change log.
const maxChanges = 98

// commit writes the rows of one step.
func (d *Driver) commit(ctx context.Context, a *actor, changes []pool.Change) error {
	a.state.Head.Seq++
	a.state.Head.Nonce = uuid.NewString()
	share := pool.AddBundles(changes, maxChanges, a.state.LiveJob)
	a.state.Head.Bundled = share || a.state.Head.Bundled && a.state.Jobs.Len() > 0
	version, err := d.store.Commit(ctx, a.name, a.version, a.state.Head, changes)
	if err != nil {
		a.markOutdated()
		a.suspect = append(a.suspect, pool.ChangedKeys(changes)...)
		if fault.CodeOf(err) != fault.Conflict {
			a.mustResend = true // it may have been written, and then nobody has performed its effects
		}
		return err
	}
	a.version = version
	a.state.ConfirmStep()
	spec := a.state.Head.Spec
	a.spec.Store(&spec)
	var ended []string
	for _, c := range changes {
		if j, ok := c.Value.(*pool.Job); ok && j.State.Final() {
			ended = append(ended, j.Order)
		}
	}
	a.rememberEnded(ended, d.now())
	return nil
}
