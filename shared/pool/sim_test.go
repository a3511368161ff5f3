package pool_test

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// world is a pool with everything around it, in one goroutine and with its own
// clock: rows that survive, messages that come twice and late, a scale set that
// creates and loses instances, agents that crash. Step is the real one.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	rules pool.Rules

	rows  map[string][]byte // what is committed
	state *pool.State       // nil: the process was killed

	instances map[string]*vm // by VMID
	nextID    int
	capacity  int
	events    []mail                // on their way to the pool
	work      map[string][]workMail // on their way to the nodes, in order

	submitted map[string]int // order -> wanted number of failures first
	succeeded map[string]*vm // order -> where an attempt has succeeded
	faults    bool
}

type mail struct {
	event pool.Event
	at    time.Time
}

type workMail struct {
	items []protocol.WorkItem
	at    time.Time
}

// vm is an instance with its agent.
type vm struct {
	vmid, id string
	bootAt   time.Time
	booted   bool
	dieAt    time.Time // deletion under way
	boots    int
	seen     int64
	held     map[int64]*run
	drops    map[int64]bool
	reportAt time.Time
	stopped  bool
	evicted  bool
}

// run is an assignment that an agent holds until it is acknowledged.
type run struct {
	assign   protocol.Assignment
	n        int64
	started  time.Time
	endAt    time.Time
	finished *protocol.Finished
}

func newWorld(t *testing.T, seed int64, faults bool) *world {
	rules := pool.DefaultRules
	rules.PollEvery = 2 * time.Second
	return &world{t: t, rng: rand.New(rand.NewSource(seed)), now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), rules: rules,
		rows: map[string][]byte{}, instances: map[string]*vm{}, work: map[string][]workMail{},
		submitted: map[string]int{}, succeeded: map[string]*vm{}, faults: faults}
}

// chance is true once in n, when faults are on.
func (w *world) chance(n int) bool { return w.faults && w.rng.Intn(n) == 0 }

// deliver sends an event to the pool, sometimes late and sometimes twice.
func (w *world) deliver(e pool.Event) {
	at := w.now
	if w.chance(10) {
		at = at.Add(time.Duration(w.rng.Intn(20)) * time.Second)
	}
	w.events = append(w.events, mail{e, at})
	if w.chance(10) {
		w.events = append(w.events, mail{e, at.Add(time.Duration(w.rng.Intn(90)) * time.Second)})
	}
}

// drive runs the pool as the driver does: step, commit, effects; a kill may
// come between any two of them.
func (w *world) drive(events ...pool.Event) {
	if w.chance(40) {
		w.state = nil // killed before; the messages come again
		for _, e := range events {
			w.deliver(e)
		}
		return
	}
	if w.state == nil {
		w.state = w.load()
		events = append([]pool.Event{pool.Loaded{}}, events...)
	}
	events = w.unfinished(events)
	listed := false
	for rounds := 0; len(events) > 0 || rounds == 0; rounds++ {
		if rounds > 50 {
			w.t.Fatal("the pool never comes to rest")
		}
		queue, calls := events, pool.Effects{}
		events = nil
		for more := true; more; {
			queue = w.unfinished(queue)
			res := pool.Step(w.state, queue, w.now, w.rules)
			if len(res.Changes) > 98 { // beside the head and the edit
				w.t.Fatalf("a transaction of %d rows", len(res.Changes)+2)
			}
			w.state.Head.Seq++
			w.commit(res.Changes)
			w.check(res.Effects)
			if w.chance(60) {
				w.state = nil // killed between the commit and the effects
				return
			}
			for vmid, items := range res.Effects.Work {
				w.work[vmid] = append(w.work[vmid], workMail{items, w.now})
			}
			if at := res.Effects.WakeAt; !at.IsZero() && !w.chance(20) {
				w.events = append(w.events, mail{pool.Tick{At: at}, at})
			}
			calls.Grow = max(calls.Grow, res.Effects.Grow)
			calls.Remove = append(calls.Remove, res.Effects.Remove...)
			calls.List = calls.List || res.Effects.List
			calls.Fence = append(calls.Fence, res.Effects.Fence...)
			calls.Ask = append(calls.Ask, res.Effects.Ask...)
			queue, more = res.Rest, res.More
		}
		if calls.Grow > 0 {
			if w.chance(5) {
				events = append(events, pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.Throttled, "", "slow down")})
			} else {
				w.grow(calls.Grow)
				events = append(events, pool.Answered{Kind: pool.OpGrow})
			}
		}
		for _, n := range calls.Remove {
			if v := w.instances[n.VMID]; v != nil && v.dieAt.IsZero() {
				v.dieAt = w.now.Add(3 * time.Second)
				w.capacity--
			}
		}
		for _, vmid := range calls.Fence {
			v := w.instances[vmid]
			events = append(events, pool.Fenced{VMID: vmid, Taken: v == nil || !v.booted})
		}
		for _, id := range calls.Ask {
			if row, ended := w.rows[pool.DoneKey(strings.TrimPrefix(id, "job-"))]; ended && !w.chance(10) {
				var j pool.Job
				read(w.t, row, &j)
				events = append(events, pool.Known{ID: id, State: j.State})
			}
		}
		if calls.List && !listed && !w.chance(10) {
			listed = true
			events = append(events, w.list())
		}
	}
}

// unfinished leaves out jobs that have ended, as the driver does.
func (w *world) unfinished(events []pool.Event) []pool.Event {
	var kept []pool.Event
	for _, e := range events {
		if s, ok := e.(pool.Submit); ok {
			if _, ended := w.rows[pool.DoneKey(s.Order)]; ended {
				continue
			}
		}
		kept = append(kept, e)
	}
	return kept
}

func (w *world) grow(target int) {
	for ; w.capacity < target; w.capacity++ {
		v := &vm{vmid: fmt.Sprintf("vm-%04d", w.nextID), id: fmt.Sprint(w.nextID), bootAt: w.now.Add(time.Duration(2+w.rng.Intn(5)) * time.Second),
			held: map[int64]*run{}, drops: map[int64]bool{}}
		w.nextID++
		w.instances[v.vmid] = v
	}
}

func (w *world) list() pool.Listed {
	l := pool.Listed{Exists: true, Capacity: w.capacity}
	for _, v := range w.sorted() {
		inst := pool.Instance{VMID: v.vmid, ID: v.id, Name: "set_" + v.id, Provisioning: "Creating"}
		if v.booted {
			inst.Provisioning, inst.Power = "Succeeded", "running"
		}
		if !v.dieAt.IsZero() {
			inst.Provisioning = "Deleting"
		}
		l.Instances = append(l.Instances, inst)
	}
	return l
}

func (w *world) sorted() []*vm {
	var list []*vm
	for _, v := range w.instances {
		list = append(list, v)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].vmid < list[j].vmid })
	return list
}

// second lets one second pass everywhere.
func (w *world) second() {
	w.now = w.now.Add(time.Second)
	for _, v := range w.sorted() {
		w.live(v)
	}
	var due []pool.Event
	kept := w.events[:0]
	for _, m := range w.events {
		if m.at.After(w.now) {
			kept = append(kept, m)
		} else {
			due = append(due, m.event)
		}
	}
	w.events = kept
	if w.now.Second() == 0 {
		due = append(due, pool.Tick{At: w.now})
	}
	if w.faults {
		w.rng.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	}
	if len(due) > 0 {
		w.drive(due...)
	}
}

// live is one second of a VM and its agent.
func (w *world) live(v *vm) {
	if !v.dieAt.IsZero() && !w.now.Before(v.dieAt) {
		delete(w.instances, v.vmid)
		return
	}
	if w.chance(2000) {
		delete(w.instances, v.vmid) // behind our back
		w.capacity--
		return
	}
	if !v.booted {
		if w.now.Before(v.bootAt) {
			return
		}
		v.booted = true
		v.boots++
		w.report(v, protocol.ReportItem{Ready: &protocol.Ready{Name: "set_" + v.id, CPUs: 4, Boot: fmt.Sprint(v.boots)}})
	}
	if w.chance(300) { // the agent crashes and comes back
		for _, r := range v.held {
			if r.finished == nil && !r.started.IsZero() {
				w.end(v, r, "agentRestarted", job.ExitAgentRestarted)
			}
		}
		v.boots++
		w.report(v, protocol.ReportItem{Ready: &protocol.Ready{Name: "set_" + v.id, CPUs: 4, Boot: fmt.Sprint(v.boots)}}, holds(v))
	}
	if !v.evicted && v.dieAt.IsZero() && w.chance(300) {
		v.evicted, v.dieAt = true, w.now.Add(time.Duration(w.rng.Intn(30))*time.Second)
		w.capacity--
		w.report(v, protocol.ReportItem{Leaving: &protocol.Leaving{Event: "Preempt", At: v.dieAt, Reason: "evicted"}})
		for _, r := range v.held {
			if r.finished == nil {
				w.end(v, r, "evicted", job.ExitEvicted)
			}
		}
	}
	for _, m := range w.work[v.vmid] {
		for _, item := range m.items {
			w.take(v, item)
		}
		if w.chance(10) {
			for _, item := range m.items {
				w.take(v, item)
			}
		}
	}
	w.work[v.vmid] = nil
	for _, r := range v.held {
		if r.finished == nil && !r.endAt.After(w.now) {
			w.runOut(v, r)
		}
	}
	if !v.stopped && !w.now.Before(v.reportAt) {
		v.reportAt = w.now.Add(time.Minute)
		items := []protocol.ReportItem{holds(v)}
		for _, r := range v.held {
			if r.finished != nil {
				items = append(items, protocol.ReportItem{Finished: r.finished})
			}
		}
		w.report(v, items...)
	}
}

func holds(v *vm) protocol.ReportItem {
	h := &protocol.Holds{}
	for n := range v.held {
		h.N = append(h.N, n)
	}
	return protocol.ReportItem{Holds: h}
}

func (w *world) report(v *vm, items ...protocol.ReportItem) {
	if v.stopped {
		return
	}
	w.deliver(pool.Reported{At: w.now, Report: protocol.Report{V: 1, Pool: "p", VMID: v.vmid, Seen: v.seen, Items: items}})
}

// take is what an agent does with one item.
func (w *world) take(v *vm, item protocol.WorkItem) {
	for _, n := range item.Ack {
		delete(v.held, n)
	}
	if item.Stop != "" {
		v.stopped = true
	}
	if item.N == 0 || item.N <= v.seen {
		return
	}
	v.seen = item.N
	switch {
	case item.Assign != nil:
		r := &run{assign: *item.Assign, n: item.N, started: w.now, endAt: w.now.Add(time.Duration(w.rng.Intn(40)) * time.Second)}
		if !v.evicted {
			w.alone(v, r)
		}
		v.held[item.N] = r
		if v.evicted {
			r.started = time.Time{}
			w.end(v, r, "evicted", job.ExitEvicted)
			return
		}
		if v.drops[item.N] {
			r.started = time.Time{}
			w.end(v, r, "cancelled", job.ExitCancelled)
		}
	case item.Cancel != nil:
		r := v.held[item.Cancel.Target]
		if r == nil {
			v.drops[item.Cancel.Target] = true
		} else if r.finished == nil {
			w.end(v, r, "cancelled", job.ExitCancelled)
		}
	}
}

// alone checks that no other attempt of the job runs, or has succeeded, on a VM
// that is still there to tell.
func (w *world) alone(v *vm, r *run) {
	order := r.assign.Name
	if on := w.succeeded[order]; on != nil && w.instances[on.vmid] == on && !on.stopped {
		w.t.Errorf("job %s is started on %s and has succeeded on %s", order, v.vmid, on.vmid)
	}
	for _, other := range w.sorted() {
		for _, o := range other.held {
			if o.assign.Name == order && o.finished == nil && !other.stopped {
				w.t.Errorf("job %s is started on %s and still runs on %s", order, v.vmid, other.vmid)
			}
		}
	}
}

// runOut lets an attempt come to its own end.
func (w *world) runOut(v *vm, r *run) {
	order := r.assign.Name
	if r.assign.Attempt <= w.submitted[order] {
		w.end(v, r, "failed", 3)
		return
	}
	w.succeeded[order] = v
	w.end(v, r, "succeeded", 0)
}

func (w *world) end(v *vm, r *run, state string, code int) {
	r.finished = &protocol.Finished{N: r.n, State: state, ExitCode: code, StartedAt: r.started, EndedAt: w.now}
	w.report(v, protocol.ReportItem{Finished: r.finished})
}

// commit writes the rows as a transaction would, and refuses what it would.
func (w *world) commit(changes []pool.Change) {
	for _, c := range changes {
		_, there := w.rows[c.Key]
		switch {
		case c.Insert && there:
			w.t.Fatalf("row %s was inserted twice", c.Key)
		case c.Value == nil && !there:
			w.t.Fatalf("row %s was deleted and is not there", c.Key)
		case c.Value == nil:
			delete(w.rows, c.Key)
		default:
			row, err := json.Marshal(c.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			w.rows[c.Key] = row
		}
	}
	head, _ := json.Marshal(w.state.Head)
	w.rows[pool.HeadKey] = head
}

// load builds the state from the rows, as a new process does.
func (w *world) load() *pool.State {
	var head pool.Head
	read(w.t, w.rows[pool.HeadKey], &head)
	var nodes []*pool.Node
	var jobs []*pool.Job
	for key, row := range w.rows {
		if key < pool.LiveFrom || key >= pool.LiveTo {
			continue
		}
		switch key[:4] {
		case "node":
			var n pool.Node
			read(w.t, row, &n)
			nodes = append(nodes, &n)
		case "job!":
			var j pool.Job
			read(w.t, row, &j)
			jobs = append(jobs, &j)
		}
	}
	return pool.NewState(head, nodes, jobs, w.now)
}

func read(t *testing.T, row []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(row, into); err != nil {
		t.Fatal(err)
	}
}

// check looks for what must never be, after each step.
func (w *world) check(e pool.Effects) {
	used := map[string]int{}
	for _, j := range w.state.Jobs {
		if j.State == job.Assigned || j.State == job.Running {
			used[j.VMID] += j.Spec.Resources.CPUs
			if n := w.state.Nodes[j.VMID]; n == nil || n.State == pool.NodeGone {
				w.t.Fatalf("job %s is on node %s, which is gone", j.ID, j.VMID)
			}
		}
	}
	here := 0
	for _, n := range w.state.Nodes {
		if n.State != pool.NodeGone && n.State != pool.NodeDeleting {
			here++
		}
		if used[n.VMID] > n.CPUs {
			w.t.Fatalf("node %s has %d cpus and %d in use", n.VMID, n.CPUs, used[n.VMID])
		}
	}
	if e.Grow > w.state.Head.Spec.Nodes.Max {
		w.t.Fatalf("capacity %d asked for, the most is %d", e.Grow, w.state.Head.Spec.Nodes.Max)
	}
	for _, n := range e.Remove {
		if used[n.VMID] > 0 && n.State != pool.NodeLost && n.State != pool.NodeFailed && n.State != pool.NodeDeleting {
			w.t.Fatalf("busy node %s is to be deleted", n.VMID)
		}
	}
}

// submit brings n jobs, each failing so often before it succeeds.
func (w *world) submit(n int) {
	for range n {
		order := fmt.Sprintf("01%024d", len(w.submitted))
		w.submitted[order] = w.rng.Intn(3)
		var after []string
		for range w.rng.Intn(3) {
			if before := len(w.submitted) - 1; before > 0 {
				after = append(after, fmt.Sprintf("job-01%024d", w.rng.Intn(before)))
			}
		}
		w.deliver(pool.Submit{Order: order, ID: "job-" + order, At: w.now, Spec: job.Spec{
			Pool: "p", Name: order, After: after, Priority: job.Normal, Resources: job.Resources{CPUs: 1 + w.rng.Intn(4)},
			Retry: job.Retry{Max: 50, Backoff: job.Duration(5 * time.Second)},
		}})
	}
}

// done counts the finished jobs by state.
func (w *world) done() map[job.State]int {
	count := map[job.State]int{}
	for key, row := range w.rows {
		if key >= pool.DoneFrom && key < pool.DoneTo {
			var j pool.Job
			read(w.t, row, &j)
			count[j.State]++
		}
	}
	return count
}

func spec() pool.Spec {
	return pool.Spec{Name: "p", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D4s_v5"}, Capacity: "regular",
		Nodes: pool.Range{Max: 5}, IdleTimeout: job.Duration(30 * time.Second), Pack: true}
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	for _, faults := range []bool{false, true} {
		for seed := range int64(10) {
			t.Run(fmt.Sprintf("faults=%v/seed=%d", faults, seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, seed, faults)
				w.state = pool.NewState(pool.Head{}, nil, nil, w.now)
				calm := w.faults
				w.faults = false
				w.drive(pool.Apply{Spec: spec()})
				w.faults = calm
				const waves, wave = 3, 30
				for range waves {
					w.submit(wave)
					for range 120 {
						w.second()
					}
				}
				// The faults end, and everything has to come to rest.
				w.faults = false
				for i := 0; w.done()[job.Succeeded] < waves*wave || len(w.instances) > 0; i++ {
					if i > 7200 {
						t.Fatalf("after two hours: %v done, %d live, %d instances, capacity %d, head %+v",
							w.done(), len(w.state.Jobs), len(w.instances), w.capacity, w.state.Head)
					}
					w.second()
				}
			})
		}
	}
}
