// Package drive is the one way in which a pool changes: whatever wakes a
// function for a pool ends in Drive, which takes the pool's state, runs one pure
// step at a time, commits its rows under the head's version, and performs the
// effects afterwards. It decides nothing itself, and holds no truth: the state
// it keeps between calls is a copy that is valid while its head is.
package drive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// Store keeps a pool's partition. Commit is one transaction under the head's
// version: fault.Conflict means that another writer has moved the head, and the
// state must catch up with Since, or be loaded again when that says false. (When the answer to a commit was lost and another
// writer came on top, the step was written all the same; the same events change
// nothing then.) The implementation retries what is safe to retry.
type Store interface {
	Load(ctx context.Context, name string) (*pool.Partition, pool.Version, error)
	Head(ctx context.Context, name string) (pool.Version, error)
	ChangesSince(ctx context.Context, name string, from pool.Version, keys []string, live int) (*pool.Delta, pool.Version, bool, error)
	Commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change) (pool.Version, error)
	FinishedJob(ctx context.Context, name, order string) (*pool.Job, error)
	// Ended says how a job of the pool has ended; fault.NotFound: it has not.
	EndState(ctx context.Context, pool, id string) (job.State, error)
	DeletePool(ctx context.Context, pool string) error
}

// Bus sends what a step decided. It owns its retries; an error means that some
// of it may not have been sent.
type Bus interface {
	// Work sends items, in order, to the session of a node.
	Work(ctx context.Context, session string, items []protocol.WorkItem) error
	// Wake has the pool driven with a tick, or its ledger recorded, at a time.
	Wake(ctx context.Context, pool string, kind string, at time.Time) error
	// Fence takes a node's session and marks it; false: its agent holds it.
	Fence(ctx context.Context, session string) (bool, error)
}

// Kinds of wake-ups.
const (
	WakeTick   = "tick"
	WakeRecord = "record"
)

// Fleet changes and lists the scale sets of a pool, by pool.Set.Name. Each call is one attempt;
// errors carry a fault code, and the step decides what follows.
type Fleet interface {
	List(ctx context.Context, pool, set string) (pool.Listed, error)
	Grow(ctx context.Context, pool string, spec pool.Spec, set pool.Set, target int) (Operation, error)
	Settle(ctx context.Context, pool, set string, listed int) (Operation, error)
	Remove(ctx context.Context, pool, set string, nodes []*pool.Node) error
	Drop(ctx context.Context, pool, set string) (Operation, error)
	Poll(ctx context.Context, token string) (Operation, error)
}

// Operation is what a call to a scale set has begun. The zero Operation has ended.
type Operation struct {
	Token string        // to look at it with Poll; "" = it has ended
	After time.Duration // when to look at it
}

// Ledger copies what a pool has noted for the ledger. It is called before the rows
// of a deleted pool go; an error keeps them where they are.
type Ledger interface {
	Record(ctx context.Context, pool string) error
}

// maxConflicts bounds how often one call begins anew because another writer was
// first: each time somebody made progress, but the message lock runs out.
const maxConflicts = 20

// maxEnded bounds the orders of ended jobs that a pool remembers; when there
// are more, the finished rows are asked instead.
const maxEnded = 10_000

// Driver drives pools. One is shared by all functions of a process.
type Driver struct {
	store  Store
	bus    Bus
	fleet  Fleet
	ledger Ledger
	rules  scheduler.Timing
	log    *slog.Logger
	step   Step
	now    func() time.Time

	mu    sync.Mutex
	pools map[string]*actor
}

// Step is the decision: it changes the state in place and says what is to be
// committed and done; see scheduler.Step.
type Step func(s *scheduler.State, events []pool.Event, now time.Time, rules scheduler.Timing) scheduler.Result

// Config is what a driver stands on.
type Config struct {
	Store  Store
	Bus    Bus
	Fleet  Fleet
	Ledger Ledger
	Rules  scheduler.Timing
	Log    *slog.Logger
	Step   Step             // nil = scheduler.Step
	Now    func() time.Time // nil = the clock of this machine, in UTC
}

// New returns a driver.
func New(c Config) *Driver {
	d := &Driver{store: c.Store, bus: c.Bus, fleet: c.Fleet, ledger: c.Ledger, rules: c.Rules, log: c.Log, step: c.Step, now: c.Now,
		pools: map[string]*actor{}}
	if d.step == nil {
		d.step = scheduler.Step
	}
	if d.now == nil {
		d.now = func() time.Time { return time.Now().UTC() }
	}
	return d
}

// actor is one pool in this process.
type actor struct {
	name    string
	turn    chan struct{}    // holds a token while nobody is at work
	state   *scheduler.State // nil: to be loaded
	version pool.Version
	spec    atomic.Pointer[pool.Spec] // as last loaded or written; for those who do not wait for their turn
	loaded  time.Time                 // when state was read, by this process's clock
	ended   map[string]struct{}       // orders of the jobs that ended since
	stale   bool                      // state may not be what the rows say
	unsure  []string                  // keys of rows that were to be written and may not be
	ask     []string                  // jobs to ask for, as catching up found
	taken   bool                      // whether this process has had the pool before
	unsent  bool                      // effects of a committed step were not performed
}

// Submission is a job to be taken in. Registered is when this very call
// inserted its id, by this process's clock; zero when the id was there before.
type Submission struct {
	pool.Submit
	Registered time.Time
}

// Outcome is what a call to Drive came to.
type Outcome struct {
	Head      pool.Head
	Refused   []pool.Refusal
	Cancelled int // jobs that were alive and have been asked to end
}

// Drive takes the events to the pool and returns when they are committed and
// their effects performed. fault.NotFound: there is no such pool (and the first
// event is not an Apply). Any other error: some of it may be undone, and the
// same events must be brought again.
func (d *Driver) Drive(ctx context.Context, name string, events ...pool.Event) (Outcome, error) {
	return d.drive(ctx, name, events, nil)
}

// Submit drives the pool with new jobs.
func (d *Driver) Submit(ctx context.Context, name string, jobs []Submission) (Outcome, error) {
	return d.drive(ctx, name, nil, jobs)
}

func (d *Driver) drive(ctx context.Context, name string, events []pool.Event, jobs []Submission) (out Outcome, err error) {
	a := d.actor(name)
	listed := false
	for {
		var calls pool.Effects
		if calls, err = d.turn(ctx, a, events, jobs, &out); err != nil {
			return out, err
		}
		calls.List = calls.List && !listed
		if events = d.call(ctx, a.name, out.Head, calls); len(events) == 0 {
			return out, nil
		}
		listed = listed || calls.List
		jobs = nil
	}
}

// turn waits for the pool and brings the events to it, step by step. It returns
// the calls to Azure that are to follow; those are made outside, so that a slow
// one keeps nobody from placing jobs.
func (d *Driver) turn(ctx context.Context, a *actor, events []pool.Event, jobs []Submission, out *Outcome) (calls pool.Effects, err error) {
	select {
	case <-a.turn:
	case <-ctx.Done():
		return calls, fmt.Errorf("pool %q is busy: %w", a.name, ctx.Err())
	}
	defer func() {
		if p := recover(); p != nil {
			a.state = nil
			err = fmt.Errorf("driving pool %q panicked: %v\n%s", a.name, p, debug.Stack())
		}
		a.turn <- struct{}{}
	}()
	for conflicts := 0; ; conflicts++ {
		again, err := d.steps(ctx, a, events, jobs, out, &calls)
		a.stale = a.stale || err != nil
		if fault.CodeOf(err) == fault.Conflict && conflicts < maxConflicts {
			continue // another writer was first: catch up and begin anew with what is left
		}
		if err != nil || !again {
			return calls, err
		}
	}
}

// steps runs the pool's steps until nothing is left to do. It reports whether
// the state turned out to be old although nothing was written, so that all of
// it has to be looked at again.
func (d *Driver) steps(ctx context.Context, a *actor, events []pool.Event, jobs []Submission, out *Outcome, calls *pool.Effects) (again bool, err error) {
	if err := d.load(ctx, a, events); err != nil {
		return false, err
	}
	calls.LookUp, a.ask = append(calls.LookUp, a.ask...), nil
	queue, err := d.withJobs(ctx, a, events, jobs)
	if err != nil {
		return false, err
	}
	if !a.taken || a.unsent {
		queue = append([]pool.Event{pool.Loaded{}}, queue...)
	}
	wrote := false
	out.Refused = nil
	for {
		res := d.step(a.state, queue, d.now(), d.rules)
		if res.Changed {
			if err := d.commit(ctx, a, res.Changes); err != nil {
				return false, err
			}
			wrote = true
		}
		a.taken = true
		out.Refused = append(out.Refused, res.Refused...)
		out.Cancelled += res.Cancelled
		out.Head = a.state.Head
		merge(calls, res.Effects)
		if err := d.send(ctx, a, res.Effects); err != nil {
			a.unsent = true
			return false, err
		}
		if queue = res.Rest; !res.More {
			break
		}
	}
	a.unsent = false
	if wrote {
		return false, nil
	}
	// Nothing was written, so nothing has proved that the state is current.
	switch v, err := d.store.Head(ctx, a.name); {
	case err != nil && fault.CodeOf(err) != fault.NotFound:
		return false, err
	case err != nil || !v.Same(a.version): // NotFound: deleted elsewhere, and perhaps to be made again
		a.stale = true
		return true, nil
	}
	return false, nil
}

// Spec is the pool's spec as last seen here; fault.NotFound: there is no such
// pool.
func (d *Driver) Spec(ctx context.Context, name string) (pool.Spec, error) {
	a := d.actor(name)
	if spec := a.spec.Load(); spec != nil {
		return *spec, nil
	}
	select {
	case <-a.turn:
		defer func() { a.turn <- struct{}{} }()
	case <-ctx.Done():
		return pool.Spec{}, fmt.Errorf("pool %q is busy: %w", name, ctx.Err())
	}
	if err := d.load(ctx, a, nil); err != nil {
		return pool.Spec{}, err
	}
	return a.state.Head.Spec, nil
}

// load reads the pool, or what has changed of it, unless its state is here and
// current.
func (d *Driver) load(ctx context.Context, a *actor, events []pool.Event) error {
	if a.state != nil && a.stale {
		if err := d.catchUp(ctx, a); err != nil {
			return err
		}
	}
	if a.state != nil {
		return nil
	}
	began := d.now()
	part, version, err := d.store.Load(ctx, a.name)
	if fault.CodeOf(err) == fault.NotFound && len(events) > 0 {
		if _, ok := events[0].(pool.Apply); ok {
			part, version, err = &pool.Partition{}, pool.Version{}, nil
		}
	}
	if err != nil {
		a.spec.Store(nil)
		return err
	}
	if part.Head.Seq > 0 {
		a.spec.Store(&part.Head.Spec)
	}
	a.state, a.version = scheduler.NewState(part.Head, part.Nodes, part.Jobs, began), version
	a.loaded, a.ended = began, map[string]struct{}{}
	a.stale, a.unsure = false, nil
	return nil
}

// catchUp brings the state here up to date from what was written since its
// version; when that cannot be told, it drops it.
func (d *Driver) catchUp(ctx context.Context, a *actor) error {
	began := d.now()
	delta, version, ok, err := d.store.ChangesSince(ctx, a.name, a.version, a.unsure, len(a.state.Jobs)+len(a.state.Nodes))
	if err != nil {
		return err
	}
	if !ok {
		a.state = nil
		return nil
	}
	a.ask = append(a.ask, a.state.CatchUp(delta.Head, delta.Nodes, delta.Jobs, delta.Gone, began)...)
	a.version, a.stale, a.unsure = version, false, nil
	a.spec.Store(&delta.Head.Spec)
	a.over(delta.Ended, began)
	return nil
}

// over remembers jobs that have ended, so that a late copy of their message needs
// no look at their finished rows.
func (a *actor) over(orders []string, now time.Time) {
	for _, order := range orders {
		a.ended[order] = struct{}{}
	}
	if len(a.ended) > maxEnded {
		a.ended, a.loaded = map[string]struct{}{}, now
	}
}

// withJobs adds the jobs that are really new to the events. A job may have been
// taken in and ended before; its finished row tells, or its id. They need not be read
// for an id that was registered after the state was loaded: whoever else took
// the job in since then has moved the head, and this commit will not stand.
func (d *Driver) withJobs(ctx context.Context, a *actor, events []pool.Event, jobs []Submission) ([]pool.Event, error) {
	for _, j := range jobs {
		if _, ended := a.ended[j.Order]; ended || a.state.Jobs[j.Order] != nil {
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
		events = append(events[:len(events):len(events)], j.Submit)
	}
	return events, nil
}

// hasEnded reports whether a job that is not live has ended: as its finished row
// says, or, when that has gone, as its id remembers.
func (d *Driver) hasEnded(ctx context.Context, name string, j pool.Submit) (bool, error) {
	_, err := d.store.FinishedJob(ctx, name, j.Order)
	if fault.CodeOf(err) != fault.NotFound {
		return err == nil, err
	}
	state, err := d.store.EndState(ctx, name, j.ID)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return false, nil
	case err != nil:
		return false, err
	case state == job.Rejected:
		return false, fault.New(fault.Throttled, "id", "the id %q was given back while its job was on its way; it comes again", j.ID)
	}
	return true, nil
}

// commit writes one step's rows.
func (d *Driver) commit(ctx context.Context, a *actor, changes []pool.Change) error {
	a.state.Head.Seq++
	a.state.Head.Nonce = uuid.NewString()
	version, err := d.store.Commit(ctx, a.name, a.version, a.state.Head, changes)
	if err != nil {
		a.stale, a.unsure = true, append(a.unsure, pool.ChangedKeys(changes)...)
		return err
	}
	a.version = version
	spec := a.state.Head.Spec
	a.spec.Store(&spec)
	var ended []string
	for _, c := range changes {
		if j, ok := c.Value.(*pool.Job); ok && j.State.Final() {
			ended = append(ended, j.Order)
		}
	}
	a.over(ended, d.now())
	return nil
}

// send performs the effects that are messages, while the pool is held: work
// for a node must leave in the order of its numbers.
func (d *Driver) send(ctx context.Context, a *actor, e pool.Effects) error {
	errs := make(chan error)
	started := 0
	start := func(f func() error) {
		started++
		go func() { errs <- f() }()
	}
	for vmid, items := range e.Work {
		start(func() error { return d.bus.Work(ctx, protocol.SessionID(a.name, vmid), items) })
	}
	if !e.WakeAt.IsZero() {
		start(func() error { return d.bus.Wake(ctx, a.name, WakeTick, e.WakeAt) })
	}
	if !e.RecordAt.IsZero() {
		start(func() error { return d.bus.Wake(ctx, a.name, WakeRecord, e.RecordAt) })
	}
	var all []error
	for range started {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// actor returns the pool's place in this process.
func (d *Driver) actor(name string) *actor {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.pools[name]
	if a == nil {
		a = &actor{name: name, turn: make(chan struct{}, 1)}
		a.turn <- struct{}{}
		d.pools[name] = a
	}
	return a
}
