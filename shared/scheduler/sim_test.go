package scheduler_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// The simulation runs the real Step in a world of its own: rows that survive and
// are written under the head's version, several drivers with copies of them that
// grow old, messages that come twice, late and out of order, a scale set that
// refuses, gives in part, fails and loses instances, agents that crash, hang and
// come back, services that are away, clocks that disagree. After every step the
// checker (sim_check_test.go) looks for what must never be.

var simSteps = flag.Int64("sim.steps", 20_000, "steps of the simulation")

// world is one pool with everything around it, in one goroutine.
type world struct {
	rng    *rand.Rand
	now    time.Time
	rules  scheduler.Timing
	faults bool

	rows    map[string][]byte // what is committed
	seq     int64             // of the head's row
	edits   [][]string        // keys that each version has changed, by seq - 1
	drivers []*driver

	instances map[string]*vm // by VMID
	nextID    int
	nextOp    int
	sets      map[string]*scaleSet  // by pool.Set.Name
	ops       map[string]*operation // accepted ones that somebody may ask about, by token
	clean     bool                  // nothing ever goes wrong here
	events    []mail                // on their way to the pool
	late      []mail                // effects of a driver that is slow
	work      map[string][]workMail
	awayUntil map[string]time.Time
	upgradeAt time.Time // when all agents start again

	jobs      map[string]*wish // by order, of all that was ever submitted
	succeeded map[string]*vm   // by order and rank, where it has succeeded
	steps     int64
	checker   *checker
	mutate    func(*world, *scheduler.State, *scheduler.Result)
	dropped   bool // the pool's rows may go; see sim_delete_test.go
	noHolds   bool // of a mutation: what nodes hold does not reach the pool
}

// driver is a process that drives the pool.
type driver struct {
	state *scheduler.State // nil: to be loaded
	seq   int64            // of the head it knows
	taken bool
	skew  time.Duration // of its clock
}

type mail struct {
	event pool.Event
	at    time.Time
	do    func() // instead of an event
}

type workMail struct {
	items []protocol.WorkItem
	at    time.Time
}

// scaleSet is one of the pool's in Azure.
type scaleSet struct {
	capacity int
	token    *operation   // the last one that was accepted
	darkTill time.Time    // the machines that are made until then boot, and never report
	listing  *pool.Listed // a list that lags
	listedAt time.Time
}

// set finds a scale set; one that nobody has asked for is empty.
func (w *world) set(name string) *scaleSet {
	if w.sets[name] == nil {
		w.sets[name] = &scaleSet{}
	}
	return w.sets[name]
}

type operation struct {
	doneAt    time.Time
	fails     bool
	preempted bool  // a later one took its place
	makes     []*vm // it goes on as long as one of them sticks
}

// wish is what was submitted, and how the world lets it go.
type wish struct {
	spec     job.Spec
	failures int    // attempts that fail first
	done     string // key of its row when it has ended
}

func newWorld(seed int64, faults bool, drivers int) *world {
	rules := scheduler.DefaultTiming
	rules.PollEvery, rules.BootDeadline, rules.DeleteAgain, rules.RecordDelay = 2*time.Second, 4*time.Minute, 20*time.Second, 2*time.Second
	rules.IntervalLength, rules.RememberGone, rules.AssignedFor = 2*time.Minute, 10*time.Minute, 2*time.Minute
	w := &world{rng: rand.New(rand.NewSource(seed)), now: monday, rules: rules, faults: faults,
		rows: map[string][]byte{}, instances: map[string]*vm{}, sets: map[string]*scaleSet{}, ops: map[string]*operation{}, clean: !faults, work: map[string][]workMail{}, awayUntil: map[string]time.Time{},
		jobs: map[string]*wish{}, succeeded: map[string]*vm{}}
	w.checker = newChecker(w)
	w.upgradeAt = w.now.Add(time.Duration(20+w.rng.Intn(300)) * time.Second)
	for range drivers {
		w.drivers = append(w.drivers, &driver{})
	}
	if faults && seed%3 == 0 {
		for i, d := range w.drivers {
			d.skew = time.Duration(i) * time.Second
		}
		w.checker.slack = time.Duration(drivers) * time.Second
	}
	return w
}

// chance is true once in n, when faults are on.
func (w *world) chance(n int) bool { return w.faults && w.rng.Intn(n) == 0 }

// away reports whether a service cannot be reached; sometimes it begins to be so.
func (w *world) away(service string) bool {
	if w.chance(1500) {
		w.awayUntil[service] = w.now.Add(time.Duration(1+w.rng.Intn(40)) * time.Second)
	}
	return w.faults && w.now.Before(w.awayUntil[service])
}

// deliver sends an event to the pool, sometimes late and sometimes twice.
func (w *world) deliver(e pool.Event) {
	at := w.now
	if w.chance(10) {
		at = at.Add(time.Duration(w.rng.Intn(20)) * time.Second)
	}
	w.events = append(w.events, mail{event: e, at: at})
	if w.chance(10) {
		w.events = append(w.events, mail{event: e, at: at.Add(time.Duration(w.rng.Intn(90)) * time.Second)})
	}
}

// back brings events again, as Service Bus does when they were not completed.
func (w *world) back(events []pool.Event) {
	for _, e := range events {
		w.events = append(w.events, mail{event: e, at: w.now.Add(time.Duration(1+w.rng.Intn(5)) * time.Second)})
	}
}

// drive has one of the drivers take the events to the pool.
func (w *world) drive(events ...pool.Event) {
	d := w.drivers[w.rng.Intn(len(w.drivers))]
	if w.chance(40) || w.away("tables") {
		d.state = nil // killed before, or without its rows; the messages come again
		w.back(events)
		return
	}
	listed := false
	for rounds := 0; len(events) > 0 || rounds == 0; rounds++ {
		if rounds > 60 {
			w.checker.fail("rest", "the pool never comes to rest")
			return
		}
		calls, ok := w.turn(d, events)
		if !ok {
			w.back(events)
			return
		}
		calls.List = calls.List && !listed
		listed = listed || calls.List
		events = w.call(calls)
	}
}

// turn is drive.turn: steps until nothing is left to do. It is false when the
// driver died on the way.
func (w *world) turn(d *driver, events []pool.Event) (calls pool.Effects, ok bool) {
	for conflicts := 0; ; conflicts++ {
		again, alive := w.stepsOf(d, events, &calls)
		if !alive {
			d.state = nil
			return calls, false
		}
		if !again {
			return calls, true
		}
		if conflicts > 20 {
			w.checker.fail("rest", "the head never stands still")
			return calls, true
		}
	}
}

func (w *world) stepsOf(d *driver, events []pool.Event, calls *pool.Effects) (again, alive bool) {
	if d.state == nil {
		d.state, d.seq = w.load(), w.seq
	}
	queue := events
	if !d.taken {
		queue = append([]pool.Event{pool.Loaded{}}, queue...)
	}
	for wrote := false; ; {
		queue = w.unfinished(queue)
		res := scheduler.Step(d.state, queue, w.now.Add(d.skew), w.rules)
		w.steps++
		if w.mutate != nil {
			w.mutate(w, d.state, &res)
		}
		if res.Changed {
			if d.seq != w.seq {
				w.catchUp(d, res.Changes) // another driver was first
				w.checker.seen["conflict"]++
				return true, true
			}
			if w.chance(200) {
				return false, false // the transaction was refused, or never sent
			}
			w.commit(d, res.Changes)
			w.checker.step(d.state, &res)
			wrote = true
			if w.chance(60) {
				return false, false // killed between the commit and the effects
			}
			if w.faults && !w.checker.ok() {
				return false, true
			}
		}
		d.taken = true
		w.effects(res.Effects, calls)
		queue = res.Rest
		if res.More {
			continue
		}
		if !wrote && d.seq != w.seq {
			w.catchUp(d, nil)
			return true, true
		}
		return false, true
	}
}

// catchUp brings a driver's state up to date, mostly without loading all of it; as
// the rows tell, so does it.
func (w *world) catchUp(d *driver, wanted []pool.Change) {
	if w.rng.Intn(4) == 0 {
		d.state = nil
		return
	}
	keys := map[string]bool{}
	for _, key := range pool.ChangedKeys(wanted) {
		keys[key] = true
	}
	for _, edit := range w.edits[d.seq:] {
		for _, key := range edit {
			keys[key] = true
		}
	}
	var nodes []*pool.Node
	var jobs []*pool.Job
	var gone []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		row, there := w.rows[key]
		switch {
		case !there:
			gone = append(gone, key)
		case strings.HasPrefix(key, "node!"):
			n := &pool.Node{}
			unpack(row, n)
			nodes = append(nodes, n)
		default:
			j := &pool.Job{}
			unpack(row, j)
			jobs = append(jobs, j)
		}
	}
	var head pool.Head
	unpack(w.rows[pool.HeadKey], &head)
	for _, id := range d.state.CatchUp(head, nodes, jobs, gone, w.now.Add(d.skew)) {
		if row, ended := w.rows[pool.DoneKey(orderOf(id))]; ended {
			var j pool.Job
			unpack(row, &j)
			w.deliver(pool.JobEnd{ID: id, State: j.State})
		}
	}
	d.seq = w.seq
}

// effects sends the messages of a step; a slow driver sends them after others
// have sent theirs.
func (w *world) effects(e pool.Effects, calls *pool.Effects) {
	send := func() {
		for _, vmid := range slices.Sorted(maps.Keys(e.Work)) {
			w.work[vmid] = append(w.work[vmid], workMail{e.Work[vmid], w.now.Add(time.Duration(w.rng.Intn(2)) * time.Second)})
		}
	}
	if w.chance(20) {
		w.late = append(w.late, mail{do: send, at: w.now.Add(time.Duration(w.rng.Intn(5)) * time.Second)})
	} else {
		send()
	}
	if at := e.WakeAt; !at.IsZero() && !w.chance(20) {
		w.events = append(w.events, mail{event: pool.Tick{At: at}, at: at})
	}
	if at := e.RecordAt; !at.IsZero() && !w.chance(20) {
		w.late = append(w.late, mail{do: w.record, at: at})
	}
	for name, c := range e.Sets {
		if calls.Sets == nil {
			calls.Sets = map[string]*pool.SetCalls{}
		}
		if calls.Sets[name] == nil {
			calls.Sets[name] = &pool.SetCalls{}
		}
		all := calls.Sets[name]
		all.Set, all.Grow, all.Shrink, all.Drop = c.Set, max(all.Grow, c.Grow), all.Shrink || c.Shrink, all.Drop || c.Drop
		if c.Poll != "" {
			all.Poll, all.PollKind = c.Poll, c.PollKind
		}
	}
	calls.Remove = append(calls.Remove, e.Remove...)
	calls.List = calls.List || e.List
	calls.DropRows = calls.DropRows || e.DropRows
	calls.Fence = append(calls.Fence, e.Fence...)
	calls.LookUp = append(calls.LookUp, e.LookUp...)
}

// call makes the calls to the scale set and brings the answers.
func (w *world) call(calls pool.Effects) (events []pool.Event) {
	away := w.away("compute")
	unreachable := fault.New(fault.Internal, "", "it cannot be reached")
	for _, name := range slices.Sorted(maps.Keys(calls.Sets)) {
		c, set := calls.Sets[name], w.set(name)
		answer := func(kind string, token string, err *fault.Error) {
			events = append(events, pool.Answered{Set: name, Kind: kind, Token: token, After: 2 * time.Second, Err: err})
		}
		if c.Grow > 0 {
			events = append(events, w.grow(c.Set, c.Grow, away))
		}
		switch {
		case c.Shrink && away:
			answer(pool.OpShrink, "", unreachable)
		case c.Shrink:
			set.capacity = w.there(name)
			answer(pool.OpShrink, "", nil)
		}
		switch {
		case c.Drop && away:
			answer(pool.OpDrop, "", unreachable)
		case c.Drop:
			if n := w.there(name); n > 0 {
				w.checker.fail("busy node", "set %s is to be deleted with %d instances", name, n)
			}
			delete(w.sets, name)
			answer(pool.OpDrop, "", nil)
		}
		if c.Poll != "" && !away {
			e := pool.Answered{Set: name, Kind: c.PollKind, Of: c.Poll, After: 2 * time.Second}
			switch op := w.ops[c.Poll]; {
			case op == nil: // it is not known any more
			case op.preempted:
				e.Err = fault.New(fault.Preempted, "", "preempted by a more recent operation")
				w.checker.seen["operation preempted"]++
			case w.now.Before(op.doneAt) || w.sticks(op):
				e.Token = c.Poll
			case op.fails:
				e.Err = fault.New(fault.NoCapacity, "", "allocation failed")
			}
			if e.Token == "" {
				delete(w.ops, c.Poll)
			}
			events = append(events, e)
		}
	}
	if len(calls.Remove) > 0 {
		var asked []string
		for _, n := range calls.Remove {
			asked = append(asked, n.VMID)
			if v := w.instances[n.VMID]; v != nil && v.dieAt.IsZero() && !away {
				took := 3
				if w.chance(20) {
					took = 60
				}
				v.dieAt = w.now.Add(time.Duration(took) * time.Second)
				w.set(v.set).capacity--
			}
		}
		if away {
			events = append(events, pool.Answered{Kind: pool.OpRemove, Nodes: asked, Err: unreachable})
		}
	}
	for _, vmid := range calls.Fence {
		v := w.instances[vmid]
		taken := v == nil || v.hung
		if v != nil && taken {
			v.fenced = true
		}
		events = append(events, pool.Fenced{VMID: vmid, Taken: taken})
	}
	for _, id := range calls.LookUp {
		if row, ended := w.rows[pool.DoneKey(orderOf(id))]; ended && !w.chance(10) {
			var j pool.Job
			unpack(row, &j)
			events = append(events, pool.JobEnd{ID: id, State: j.State})
		}
	}
	if calls.DropRows {
		w.dropRows()
	}
	if calls.List && !away {
		for _, name := range slices.Sorted(maps.Keys(w.sets)) {
			if !w.chance(30) { // that one could not be listed
				events = append(events, w.list(name))
			}
		}
	}
	return events
}

// there counts the instances of a set.
func (w *world) there(set string) int {
	n := 0
	for _, v := range w.instances {
		if v.set == set {
			n++
		}
	}
	return n
}

// orderOf is the order of the job or member with an id.
func orderOf(id string) string {
	if sweep, index, ok := job.MemberOf(id); ok {
		return job.MemberOrder(strings.TrimPrefix(sweep, "job-"), index)
	}
	return strings.TrimPrefix(id, "job-")
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

// record copies the ledger rows that wait, and says so.
func (w *world) record() {
	var seqs []int64
	for key, row := range w.rows {
		if strings.HasPrefix(key, "log!") {
			var l pool.Log
			unpack(row, &l)
			w.checker.record(l.Entries)
			seqs = append(seqs, l.Seq)
		}
	}
	sort.Slice(seqs, func(i, k int) bool { return seqs[i] < seqs[k] })
	if len(seqs) > 0 && !w.chance(10) {
		w.deliver(pool.Recorded{Seqs: seqs})
	}
}

// commit writes the rows as a transaction would, and refuses what it would.
func (w *world) commit(d *driver, changes []pool.Change) {
	d.state.Head.Seq++
	w.seq = d.state.Head.Seq
	d.seq = w.seq
	w.edits = append(w.edits, pool.ChangedKeys(changes))
	if len(changes) > 99 {
		w.checker.fail("rows", "a transaction of %d rows", len(changes)+1)
	}
	for _, c := range changes {
		_, there := w.rows[c.Key]
		switch {
		case c.Insert && there:
			w.checker.fail("rows", "row %s was inserted twice", c.Key)
		case c.Value == nil && !there && strings.HasPrefix(c.Key, "log!"):
			// recorded by somebody else already; the store leaves it out
		case c.Value == nil && !there:
			w.checker.fail("rows", "row %s was deleted and is not there", c.Key)
		case c.Value == nil:
			delete(w.rows, c.Key)
		default:
			row, err := json.Marshal(c.Value)
			if err != nil {
				panic(err)
			}
			w.rows[c.Key] = row
		}
	}
	w.rows[pool.HeadKey], _ = json.Marshal(d.state.Head)
}

// load builds the state from the rows, as a new process does.
func (w *world) load() *scheduler.State {
	var head pool.Head
	if row := w.rows[pool.HeadKey]; row != nil {
		unpack(row, &head)
	}
	var nodes []*pool.Node
	var jobs []*pool.Job
	for key, row := range w.rows {
		if key < pool.LiveFrom || key >= pool.LiveTo {
			continue
		}
		switch key[:4] {
		case "node":
			var n pool.Node
			unpack(row, &n)
			nodes = append(nodes, &n)
		case "job!":
			var j pool.Job
			unpack(row, &j)
			jobs = append(jobs, &j)
		}
	}
	sort.Slice(nodes, func(i, k int) bool { return nodes[i].VMID < nodes[k].VMID })
	sort.Slice(jobs, func(i, k int) bool { return jobs[i].Order < jobs[k].Order })
	return scheduler.NewState(head, nodes, jobs, w.now)
}

func unpack(row []byte, into any) {
	if err := json.Unmarshal(row, into); err != nil {
		panic(err) // what was written can be read
	}
}

// second lets one second pass everywhere.
func (w *world) second() {
	w.now = w.now.Add(time.Second)
	for _, v := range w.sorted() {
		w.live(v)
	}
	w.overtake()
	var late []mail
	for _, m := range w.late {
		if m.at.After(w.now) {
			late = append(late, m)
		} else {
			m.do()
		}
	}
	w.late = late
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
	if w.now.Second() == 30 {
		w.operate()
	}
	if w.now.Second() == 0 {
		due = append(due, pool.Tick{At: w.now})
		w.record() // the timer that makes up for lost wake-ups
		if w.rows[pool.HeadKey] != nil {
			w.checker.processes(w.load())
		}
	}
	if w.faults {
		w.rng.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	}
	for len(due) > 0 && w.checker.ok() {
		n := len(due)
		if w.faults {
			n = 1 + w.rng.Intn(n) // in several batches, by several drivers
		}
		w.drive(due[:n]...)
		due = due[n:]
	}
}

// operate is somebody who looks at the pool now and then: held jobs are released,
// and sometimes a node is released, drained or deleted.
func (w *world) operate() {
	if w.faults && w.rng.Intn(2) == 0 {
		return
	}
	s := w.load()
	for _, order := range slices.Sorted(maps.Keys(s.Jobs)) {
		if s.Jobs[order].NotBefore.Year() == 9999 {
			w.deliver(pool.Release{Order: order})
		}
	}
	for _, vmid := range slices.Sorted(maps.Keys(s.Nodes)) {
		if w.chance(40) {
			w.deliver(pool.NodeRequest{VMID: vmid, Verb: []pool.Verb{pool.VerbRelease, pool.VerbDrain, pool.VerbDelete}[w.rng.Intn(3)]})
		}
	}
}

// simSpec is the pool of the simulation: nodes of 64 cpus and 4 GPUs.
func simSpec(seed int64) pool.Spec {
	three, eight, four := 3, 100, 4
	s := pool.Spec{Name: "p", Kind: "batch", OS: "linux", Sizes: []string{"Standard_NC64as_T4_v3"}, Capacity: "regular",
		Nodes: pool.Range{Max: 5}, IdleTimeout: job.Duration(30 * time.Second), Pack: seed%5 != 4, Weights: map[string]int{"a": 2, "default": 1},
		Limits: pool.Limits{Team: map[string]pool.Limit{"a": {Jobs: &three}, "b": {CPUs: &eight, GPUs: &four}}}}
	if seed%4 == 3 {
		s.Schedule = &pool.Schedule{DownAt: "09:03", UpAt: "09:05", TimeZone: "UTC", OnRunning: []string{"wait", "requeue", "kill"}[seed/4%3]}
	}
	if seed%6 == 5 {
		s.Nodes.Min = 1
	}
	switch seed % 3 {
	case 1:
		s.Sizes = append(s.Sizes, "Standard_NC16as_T4_v3") // 16 cpus and 1 GPU
	case 2:
		s.Sizes, s.Capacity = []string{"Standard_NC64as_T4_v3", "Standard_D64s_v5"}, "spot-then-regular"
	}
	return s
}

// submit brings n jobs of all kinds.
func (w *world) submit(n int) {
	for range n {
		number := len(w.jobs)
		order := fmt.Sprintf("01%024d", number)
		r := w.rng
		s := job.Spec{ID: "job-" + order, Pool: "p", Name: order, Team: string("abc"[r.Intn(3)]), User: string("uv"[r.Intn(2)]), Priority: []job.Priority{job.High, job.Normal, job.Low}[r.Intn(3)],
			Resources: job.Resources{CPUs: 1 + r.Intn(64), GPUs: max(0, r.Intn(8)-3)}, Retry: job.Retry{Max: 50, Backoff: job.Duration(5 * time.Second)}}
		if r.Intn(2) == 0 {
			s.Timeout = job.Duration(time.Duration(60+r.Intn(100)) * time.Second)
		}
		if r.Intn(4) == 0 {
			s.Resources.Memory = job.Bytes(r.Intn(400)) * job.Gi
		}
		switch r.Intn(8) {
		case 0:
			s.Nodes = 2 + r.Intn(3)
			s.Team, s.Resources.CPUs, s.Resources.GPUs = "c", 1+r.Intn(32), r.Intn(2)
		case 1:
			s.Sweep = &job.Sweep{Count: 1 + r.Intn(16), Parallel: r.Intn(3), MaxFails: max(0, r.Intn(6)-2)}
			s.Resources.CPUs = 1 + r.Intn(16)
		}
		switch r.Intn(8) {
		case 0, 1:
			s.Retry.Max = 0
		case 2:
			s.Retry.On = []string{"agentRestarted", "exitCode:3", "evicted"}
		}
		for range r.Intn(3) {
			if number > 0 {
				s.After = append(s.After, fmt.Sprintf("job-01%024d%s", r.Intn(number), []string{"", "", ":any", ":failure"}[r.Intn(4)]))
			}
		}
		if r.Intn(10) == 0 {
			s.NotBefore = w.now.Add(time.Duration(r.Intn(60)) * time.Second)
		}
		w.jobs[order] = &wish{spec: s, failures: r.Intn(3), done: pool.DoneKey(order)}
		w.deliver(pool.Submit{Order: order, ID: s.ID, At: w.now, Spec: s})
		if r.Intn(12) == 0 {
			w.events = append(w.events, mail{event: pool.Cancel{Order: order, Reason: "no more"}, at: w.now.Add(time.Duration(r.Intn(60)) * time.Second)})
		}
		if s.Sweep != nil && r.Intn(4) == 0 {
			w.events = append(w.events, mail{event: pool.Cancel{Order: job.MemberOrder(order, r.Intn(s.Sweep.Count)), Reason: "not this one"}, at: w.now.Add(time.Duration(r.Intn(60)) * time.Second)})
		}
	}
}

// open counts the jobs that have not ended.
func (w *world) open() int {
	n := 0
	for _, wanted := range w.jobs {
		if _, done := w.rows[wanted.done]; !done {
			n++
		}
	}
	return n
}

// play lets a world live: waves of jobs among faults, then the faults end, and
// everything has to come to rest. It returns what is wrong, or "".
func (w *world) play(seed int64) string {
	faults := w.faults
	w.faults = false
	w.drive(pool.Apply{Spec: simSpec(seed)})
	w.faults = faults
	const waves, wave = 3, 25
	for i := range waves {
		w.submit(wave)
		for range 100 {
			w.second()
		}
		if i == 1 && w.rng.Intn(3) == 0 {
			w.deliver(pool.CancelAll{User: "u", Reason: "gone home"})
		}
	}
	w.faults = false
	for range 3 * 3600 {
		if !w.checker.ok() {
			return w.checker.problem
		}
		if w.second(); w.open() == 0 && len(w.instances) == simSpec(seed).Nodes.Min {
			for range 130 { // what is still under way comes in, and the instances' end is seen
				w.second()
			}
			return w.checker.end()
		}
	}
	w.checker.fail("rest", "after three hours %d jobs are open, %d instances are there, head %+v", w.open(), len(w.instances), w.load().Head)
	return w.checker.problem
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	var steps, seed atomic.Int64
	var mu sync.Mutex
	seen := map[string]int{}
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for steps.Load() < *simSteps {
				s := seed.Add(1) - 1
				w := newWorld(s, s%8 != 7, 1+int(s%4))
				if problem := w.play(s); problem != "" {
					t.Fatalf("seed %d, after %d steps: %s", s, w.steps, problem)
				}
				steps.Add(w.steps)
				mu.Lock()
				for what, n := range w.checker.seen {
					seen[what] += n
				}
				mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		t.Logf("%d steps in %d worlds, nothing violated; seen %v", steps.Load(), seed.Load(), seen)
		for _, what := range []string{"journal lost", "start stuck", "conflict", "node lost", "node failed", "breaker opened", "operation preempted", "node draining", "node gone", "job held", "job timedOut", "job cancelled", "job succeeded",
			"job attempt nodeLost", "job attempt evicted", "job attempt agentRestarted", "job attempt startFailed", "job failed", "node quarantined", "sweep held", "sweep failed",
			"gang succeeded", "gang attempt evicted", "gang attempt failed", "sweep succeeded", "sweep cancelled"} {
			if seen[what] == 0 && !t.Failed() {
				t.Errorf("never seen: %s", what)
			}
		}
	})
}

// ledgerKey tells a node's entries from those of attempts.
func ledgerKey(e usage.Entry) string { return e.Kind + " " + e.Key }
