package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// Every call that a driver makes to a port waits here until the world lets it go on.
// The world waits until nothing in the bubble can run (synctest.Wait), sorts the calls
// that wait, draws one of them, and decides what becomes of it. Nothing else draws, so
// that a seed always gives the same history.

// process is a process with a driver. What it remembers dies with it.
type process struct {
	w      *world
	driver *drive.Driver
	skew   time.Duration // of its clock
	active int           // invocations under way

	deployment int // its release: what it would write into the model of a set
	// numbers of the last invocation before it began, and when it was killed
	beganAt, killedAt int
	failedAt          int // number of the last invocation when one of its own failed last

	mu   sync.Mutex
	dead bool

	state  *scheduler.State  // after its last step
	result *scheduler.Result // of its last step
	stepAt time.Time         // when that was, by its clock
	known  int64             // the version that it last read or wrote
	wrote  int64             // the version that it last wrote, as it knows
	idle   int               // steps since the world last let a call go on
	owed   owed              // what its steps decided and it has not done
}

// invocation is one call of a function: events or jobs on their way through a driver.
type invocation struct {
	number  int
	process *process
	events  []pool.Event
	jobs    []drive.Submission
	from    int64 // the version of the pool when it began
	cancel  context.CancelFunc
	ended   bool
	err     error
	calls   int
	calm    bool // nothing goes wrong since it began
	slow    bool // its first commit takes long
	wrote   bool
	listed  map[string]int // instances that were listed last, by set
	look    bool           // it only looks at the pool
	saw     int64          // the version that it was shown
}

// call is a call to a port that waits for the world.
type call struct {
	of     *invocation
	kind   string
	detail string
	do     func(*call) error // what it does, in the world's goroutine
	at     time.Time         // when it goes on
	done   bool              // it has worked, and its answer is on its way
	err    error             // its answer, when it has worked
	answer chan error

	// answered is called with the answer when the driver gets it, and may change it.
	answered func(error) error
}

// reads says that a call reads a version of the pool.
func (c *call) reads(seq int64) {
	c.answered = func(err error) error {
		if err == nil {
			c.of.process.known = seq
		}
		return err
	}
}

// registered reports whether an invocation has registered one of these jobs.
func (of *invocation) registered(orders []string) bool {
	return slices.ContainsFunc(of.jobs, func(j drive.Submission) bool {
		return !j.Registered.IsZero() && slices.Contains(orders, j.Order)
	})
}

// assignment is what a node is given under a number.
type assignment struct {
	vmid string
	n    int64
}

type invocationKey struct{}

// call registers a call of the driver and waits for its answer.
func (p *process) call(ctx context.Context, kind, detail string, do func(*call) error) error {
	of := ctx.Value(invocationKey{}).(*invocation)
	c := &call{of: of, kind: kind, detail: detail, do: do, answer: make(chan error, 1)}
	p.mu.Lock()
	if p.dead || ctx.Err() != nil {
		p.mu.Unlock()
		return context.Canceled
	}
	p.w.mu.Lock()
	p.w.fresh = append(p.w.fresh, c)
	p.w.mu.Unlock()
	p.mu.Unlock()
	return <-c.answer
}

// newProcess starts a process: a driver without any memory.
func (w *world) newProcess(skew time.Duration) *process {
	p := &process{w: w, skew: skew, beganAt: w.nextInvocation + 1, deployment: w.deployment}
	ports := &ports{p}
	p.driver = drive.New(drive.Config{Store: ports, Bus: ports, Fleet: ports, Ledger: ports, Doors: ports, Network: ports, Timing: w.rules, Log: slog.New(slog.DiscardHandler),
		Step: p.step, Now: func() time.Time { return w.clock().Add(p.skew) }})
	return p
}

// step is the real step, or a mutant of it. The world is at rest while it runs.
func (p *process) step(s *scheduler.State, events []pool.Event, now time.Time, timing scheduler.Timing) scheduler.Result {
	if p.isDead() {
		return scheduler.Result{}
	}
	r := scheduler.Step(s, events, now, timing)
	p.w.steps++
	if p.w.mutate != nil {
		p.w.mutate(p.w, s, &r)
	}
	p.w.checker.recalls(s, &r, now)
	if p.idle++; p.idle > 5000 {
		p.w.checker.fail("rest", "the step never comes to rest")
		return scheduler.Result{}
	}
	if p.state, p.result, p.stepAt = s, &r, now; !r.Changed { // otherwise it counts when its rows are written
		p.owed.decide(&r.Effects)
	}
	return r
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// kill ends a process: its calls never come back to it, and its messages come again.
func (w *world) kill(p *process) {
	w.checker.seen["killed"]++
	p.killedAt = w.nextInvocation + 1
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	for i, other := range w.processes {
		if other == p {
			w.processes[i] = w.newProcess(p.skew)
		}
	}
	for _, of := range w.invocations {
		if of.process == p {
			of.cancel()
		}
	}
	w.release(func(c *call) bool { return c.of.process == p })
}

// release lets calls fail at once.
func (w *world) release(which func(*call) bool) {
	var left []*call
	for _, c := range w.calls {
		if which(c) {
			c.answer <- context.Canceled
		} else {
			left = append(left, c)
		}
	}
	w.calls = left
	synctest.Wait()
}

// start has a process begin an invocation.
func (w *world) start(p *process, events []pool.Event) {
	ctx, cancel := context.WithCancel(context.Background())
	w.nextInvocation++
	of := &invocation{number: w.nextInvocation, process: p, from: w.seq, cancel: cancel, calm: !w.faults, listed: map[string]int{}}
	for _, e := range events {
		if s, ok := e.(pool.Submit); ok {
			j := w.register(p, s)
			of.jobs, of.slow = append(of.jobs, j), of.slow || w.slowReader[s.Order] && !j.Registered.IsZero()
		} else {
			of.events = append(of.events, e)
		}
	}
	w.run(of, ctx, func(ctx context.Context) (err error) {
		if len(of.events) > 0 {
			_, err = p.driver.Drive(ctx, "p", of.events...)
		}
		if len(of.jobs) > 0 && err == nil {
			_, err = p.driver.Submit(ctx, "p", of.jobs)
		}
		return err
	})
}

// look has a process show the pool as it is.
func (w *world) look(p *process) {
	ctx, cancel := context.WithCancel(context.Background())
	w.nextInvocation++
	of := &invocation{number: w.nextInvocation, process: p, from: w.seq, cancel: cancel, look: true}
	w.run(of, ctx, func(ctx context.Context) error {
		head, _, _, err := p.driver.Nodes(ctx, "p")
		of.saw = head.Seq
		return err
	})
}

// run has an invocation go on beside the world.
func (w *world) run(of *invocation, ctx context.Context, do func(context.Context) error) {
	w.invocations = append(w.invocations, of)
	of.process.active++
	go func() {
		defer of.cancel()
		err := do(context.WithValue(ctx, invocationKey{}, of))
		w.mu.Lock()
		defer w.mu.Unlock()
		of.ended, of.err = true, err
	}()
}

// register inserts a job's id, as a function does before it drives.
func (w *world) register(p *process, s pool.Submit) drive.Submission {
	j := drive.Submission{Submit: s}
	if !w.registered[s.Order] {
		w.registered[s.Order], j.Registered = true, w.now.Add(p.skew)
	}
	return j
}

// proceed starts invocations for batches of events, and lets the calls go on whose time
// has come, until all have ended or wait for a later second.
func (w *world) proceed(batches [][]pool.Event) {
	for w.checker.ok() {
		synctest.Wait()
		w.reap()
		w.admit()
		var due []*call
		for _, c := range w.calls {
			if !c.at.After(w.now) {
				due = append(due, c)
			}
		}
		// Without faults one batch comes after the other.
		if len(batches) > 0 && (len(due) == 0 || w.chance(4)) {
			p := w.processes[w.rng.Intn(len(w.processes))]
			if w.chance(40) {
				w.kill(p) // the messages come again
				w.back(batches[0])
			} else {
				w.start(p, batches[0])
			}
			batches = batches[1:]
			continue
		}
		if len(due) == 0 {
			return
		}
		c := due[0]
		if len(due) > 1 && w.faults {
			c = due[w.rng.Intn(len(due))]
		}
		w.let(c)
	}
	for _, b := range batches {
		w.back(b)
	}
}

// admit takes in the calls that were made since, in an order that no scheduler of
// goroutines has a say in.
func (w *world) admit() {
	w.mu.Lock()
	fresh := w.fresh
	w.fresh = nil
	w.mu.Unlock()
	slices.SortFunc(fresh, func(a, b *call) int {
		if n := a.of.number - b.of.number; n != 0 {
			return n
		}
		if n := strings.Compare(a.kind, b.kind); n != 0 {
			return n
		}
		return strings.Compare(a.detail, b.detail)
	})
	for _, c := range fresh {
		c.at = w.now
		if w.chance(60) { // a slow one
			most := 5
			if w.chance(6) {
				most = 40
			}
			c.at = w.now.Add(time.Duration(1+w.rng.Intn(most)) * time.Second)
			w.checker.seen["slow call"]++
		}
		if c.of.slow && c.kind == "tables commit" {
			c.of.slow, c.at = false, w.now.Add(time.Duration(4+w.rng.Intn(6))*time.Second)
		}
		if c.of.calls++; c.of.calls > 3000 {
			w.checker.fail("rest", "the pool never comes to rest")
		}
	}
	w.calls = append(w.calls, fresh...)
}

// unknown is the answer about a call that was not answered.
func unknown() error { return fault.New(fault.Internal, "", "no answer") }

// let lets one call go on, or not.
func (w *world) let(c *call) {
	p := c.of.process
	p.idle = 0
	switch {
	case c.done: // its answer has come at last
	case w.chance(500):
		w.kill(p)
		return
	case w.chance(600): // its function ran out of time
		w.checker.seen["out of time"]++
		c.of.cancel()
		synctest.Wait()
		w.release(func(other *call) bool { return other.of == c.of })
		return
	case w.away(service(c.kind)) || w.chance(400):
		c.err = unknown()
	default:
		c.err = c.do(c)
		if w.chance(400) { // killed when it had worked
			w.kill(p)
			return
		}
		if w.chance(300) {
			w.checker.seen["answer lost"]++
			c.err = unknown() // it has worked, and nobody knows
		} else if w.chance(100) {
			c.done, c.at = true, w.now.Add(time.Duration(1+w.rng.Intn(3))*time.Second)
			return
		}
	}
	if c.answered != nil {
		c.err = c.answered(c.err)
	}
	w.calls = slices.DeleteFunc(w.calls, func(other *call) bool { return other == c })
	w.answers++
	fmt.Fprintln(w.trace, w.now.Unix(), c.of.number, c.kind, c.detail, c.err == nil)
	c.answer <- c.err
}

// service is where a call goes.
func service(kind string) string {
	service, _, _ := strings.Cut(kind, " ")
	return service
}

// reap takes the invocations that have ended out of the world.
func (w *world) reap() {
	var left []*invocation
	for _, of := range w.invocations {
		w.mu.Lock()
		ended := of.ended
		w.mu.Unlock()
		if !ended {
			left = append(left, of)
			continue
		}
		p := of.process
		p.active--
		if of.err != nil || p.dead {
			if of.calm && !p.dead {
				w.checker.fail("error", "a drive fails although nothing goes wrong: %v", of.err)
			}
			w.back(of.events)
			for _, j := range of.jobs {
				w.back([]pool.Event{j.Submit})
			}
		}
		if !p.dead {
			w.checker.invocation(of)
		}
	}
	w.invocations = left
}

// stop lets everything fail that is under way, so that all goroutines end.
func (w *world) stop() {
	for _, p := range w.processes {
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()
	}
	for _, of := range w.invocations {
		of.cancel()
	}
	w.mu.Lock()
	w.calls, w.fresh = append(w.calls, w.fresh...), nil
	w.mu.Unlock()
	w.release(func(*call) bool { return true })
}
