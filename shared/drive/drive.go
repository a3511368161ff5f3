// Package drive changes pools; nothing else does. Every function that has events for a
// pool calls it: it takes the pool's state, runs one pure step at a time, commits the
// rows of the step under the version of the head, and then performs the effects. It
// never decides anything about jobs or nodes. The state that it keeps between calls is
// only a copy, which is valid while its head is current. It knows no adapter: the store,
// the bus and the fleet are ports, so that the simulation runs the same code.
package drive

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// maxConflicts is how often one visit starts again because another writer was first.
// Somebody makes progress each time, but the lock of the caller's message ends.
const maxConflicts = 20

// Step is the decision: it changes the state in place and returns what to commit and
// what to do; see scheduler.Step.
type Step func(s *scheduler.State, events []pool.Event, now time.Time, timing scheduler.Timing) scheduler.Result

// Config is what a driver is made of.
type Config struct {
	Store   Store
	Bus     Bus
	Fleet   Fleet
	Ledger  Ledger
	Doors   Doors   // nil = sessions get no door, and nobody comes in
	Network Network // nil = nobody comes in beside the relay
	Timing  scheduler.Timing
	Log     *slog.Logger
	Step    Step             // nil = scheduler.Step
	Now     func() time.Time // nil = the clock of this machine, in UTC
}

// Driver drives pools. All functions of a process share one.
type Driver struct {
	store   Store
	bus     Bus
	fleet   Fleet
	ledger  Ledger
	doors   Doors
	network Network
	timing  scheduler.Timing
	log     *slog.Logger
	step    Step
	now     func() time.Time

	mu         sync.Mutex
	pools      map[string]*actor
	subscribed map[string]time.Time // by pool and id of a job of another pool: when it was asked to be notified of the end
}

// New returns a driver that has seen no pool yet.
func New(c Config) *Driver {
	d := &Driver{
		store:   c.Store,
		bus:     c.Bus,
		fleet:   c.Fleet,
		ledger:  c.Ledger,
		doors:   c.Doors,
		network: c.Network,
		timing:  c.Timing,
		log:     c.Log,
		step:    c.Step,
		now:     c.Now,
		pools:   map[string]*actor{},

		subscribed: map[string]time.Time{},
	}
	if d.step == nil {
		d.step = scheduler.Step
	}
	if d.now == nil {
		d.now = func() time.Time { return time.Now().UTC() }
	}
	return d
}

// Submission is a job for the pool. Registered is when this very call inserted its id,
// by the clock of this process; zero when the id was there before.
type Submission struct {
	pool.Submit
	Registered time.Time
}

// Outcome is the result of a call.
type Outcome struct {
	Head      pool.Head
	Refused   []pool.Refusal
	Cancelled int // live jobs that were asked to end
}

// Drive takes the events to the pool. It returns when they are committed and their
// effects are performed. fault.NotFound: there is no such pool (and the first event is
// not an Apply). After any other error some of it may not be done, and the caller must
// bring the same events again.
func (d *Driver) Drive(ctx context.Context, name string, events ...pool.Event) (Outcome, error) {
	return d.drive(ctx, name, events, nil)
}

// Submit takes new jobs to the pool; the rules of Drive hold.
func (d *Driver) Submit(ctx context.Context, name string, jobs []Submission) (Outcome, error) {
	return d.drive(ctx, name, nil, jobs)
}

// drive visits the pool until the calls to Azure bring no more events. It lists the scale
// sets at most once.
func (d *Driver) drive(ctx context.Context, name string, events []pool.Event, jobs []Submission) (out Outcome, err error) {
	a := d.actor(name)
	listed := false
	for {
		calls, err := d.takeTurn(ctx, a, events, jobs, &out)
		if err != nil {
			return out, err
		}
		calls.List = calls.List && !listed
		if events = d.callAzure(ctx, a.name, out.Head, calls); len(events) == 0 {
			return out, nil
		}
		listed = listed || calls.List
		jobs = nil
	}
}

// takeTurn waits for the pool and brings the events to it. It returns the calls to
// Azure that are due. The caller makes them outside of the visit, so that a slow call
// keeps nobody from placing jobs.
func (d *Driver) takeTurn(ctx context.Context, a *actor, events []pool.Event, jobs []Submission, out *Outcome) (
	calls pool.Effects, err error,
) {
	if err := a.lock(ctx); err != nil {
		return calls, err
	}
	defer func() {
		if p := recover(); p != nil {
			a.forgetState()
			a.mustResend = true
			err = fmt.Errorf("driving pool %q panicked: %v\n%s", a.name, p, debug.Stack())
		}
		if err != nil {
			a.keepCalls()
		}
		a.unlock()
	}()
	for conflicts := 0; ; conflicts++ {
		outdated, err := d.runSteps(ctx, a, events, jobs, out)
		if err != nil {
			a.markOutdated()
		}
		if fault.CodeOf(err) == fault.Conflict && conflicts < maxConflicts {
			continue // the next round catches up, and starts again with all events
		}
		if err != nil {
			return calls, err
		}
		if !outdated {
			a.dropOldRemovals()
			return a.takeCalls(), nil
		}
	}
}

// runSteps runs steps until nothing is left to do. It returns true when it wrote
// nothing and the state turned out to be outdated: the caller must run all steps again.
func (d *Driver) runSteps(ctx context.Context, a *actor, events []pool.Event, jobs []Submission, out *Outcome) (outdated bool, err error) {
	if err := d.load(ctx, a, events); err != nil {
		return false, err
	}
	queue, err := d.newSessions(ctx, a, events)
	if err != nil {
		return false, err
	}
	queue, err = d.addNewJobs(ctx, a, queue, jobs)
	if err != nil {
		return false, err
	}
	if a.mustResend {
		queue = append([]pool.Event{pool.Loaded{}}, queue...)
	}
	wrote := false
	out.Refused = nil
	for more := true; more; {
		res := d.step(a.state, queue, d.now(), d.timing)
		if res.Changed {
			if err := d.commit(ctx, a, res.Changes); err != nil {
				return false, err
			}
			wrote = true
		}
		out.Refused = append(out.Refused, res.Refused...)
		out.Cancelled += res.Cancelled
		out.Head = a.state.Head
		out.Head.Sets = slices.Clone(out.Head.Sets) // the next step changes them in place
		addCalls(&a.calls, res.Effects)
		if err := d.send(ctx, a, res.Effects); err != nil {
			a.mustResend = true
			return false, err
		}
		queue, more = res.Rest, res.More
	}
	a.mustResend = false
	d.renewDoors(ctx, a, events)
	if wrote {
		return false, nil
	}
	return d.isOutdated(ctx, a)
}

// isOutdated reads the head and reports whether another process has changed the pool.
// Only a commit proves that the state is current. A caller that concludes something
// negative ("there is no such job") from steps that wrote nothing needs this check.
func (d *Driver) isOutdated(ctx context.Context, a *actor) (bool, error) {
	v, err := d.store.Head(ctx, a.name)
	if err != nil && fault.CodeOf(err) != fault.NotFound { // NotFound: another process has deleted the pool
		return false, err
	}
	if err == nil && v.Same(a.version) {
		return false, nil
	}
	a.markOutdated()
	return true, nil
}

// Spec is the spec of the pool as this process last saw it. fault.NotFound: there is no
// such pool.
func (d *Driver) Spec(ctx context.Context, name string) (pool.Spec, error) {
	a := d.actor(name)
	if spec := a.spec.Load(); spec != nil {
		return *spec, nil
	}
	if err := a.lock(ctx); err != nil {
		return pool.Spec{}, err
	}
	defer a.unlock()
	if err := d.load(ctx, a, nil); err != nil {
		return pool.Spec{}, err
	}
	return a.state.Head.Spec, nil
}
