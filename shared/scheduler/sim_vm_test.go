package scheduler_test

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/size"
)

// vm is an instance with its agent.
type vm struct {
	vmid, id string
	set      string
	model    int       // it was made with
	stageTo  time.Time // until when its agent only says how far it is
	size     string
	cpus     int
	spot     bool
	askedAt  time.Time
	bootAt   time.Time
	booted   bool
	broken   string    // "failed": Azure could not create it; "stuck": it never boots; "mute": it boots and never reports
	power    string    // "stopped" by somebody
	dieAt    time.Time // deletion under way
	boots    int
	seen     int64
	held     map[int64]*run
	drops    map[int64]bool
	reportAt time.Time
	hung     bool // its agent says and hears nothing; what it runs goes on
	wakeAt   time.Time
	fenced   bool
	stopped  bool
	evicted  bool
	sick     job.Cause // why its starts fail, most of them; "" = it is well
	skew     time.Duration

	doubt   bool                // its journal is new or was lost: it waits for the counter
	counted bool                // it has had the counter since its last start
	lost    int64               // the counter
	askAt   time.Time           // when it asks again
	past    []protocol.WorkItem // what it was given, to come again late
}

// longestHang is how long an agent may hang before it comes back.
const longestHang = 10 * time.Minute

// run is an assignment that an agent holds until it is acknowledged.
type run struct {
	assign   protocol.Assignment
	n        int64
	started  time.Time
	endAt    time.Time
	finished *protocol.Finished
	waits    bool // for its turn
	cameAt   time.Time
	stuck    bool // it does not begin
	deaf     bool // nor is it given back

	warned, saidWarned int64 // of a session: the number of its last warning, and of the one that it has reported
	saidIdle           bool  // of a session: its last verdict
}

// grow asks the scale set for a capacity.
func (w *world) grow(of pool.Set, target, deployment int) (drive.Operation, error) {
	set, none := w.set(of.Name), drive.Operation{}
	if err := w.refuseGrowth(set, deployment); err != nil {
		w.checker.refused(of.Name)
		return none, err
	}
	set.model = max(set.model, deployment)
	op := &operation{doneAt: w.now.Add(time.Duration(w.rng.Intn(10)) * time.Second), fails: w.chance(6)}
	if w.clean {
		op.doneAt = w.now.Add(time.Duration(w.rng.Intn(90)) * time.Second) // a slow one holds up nobody
	}
	if set.token != nil {
		set.token.preempted = true
	}
	if w.chance(12) {
		set.darkTill = w.now.Add(time.Duration(1+w.rng.Intn(6)) * time.Minute)
	}
	w.fillUp(of, set, op, target)
	if set.token = nil; op.fails || w.sticks(op) || w.rng.Intn(2) == 0 {
		set.token = op
		w.nextOp++
		token := fmt.Sprint("t", w.nextOp)
		w.ops[token] = op
		if w.chance(40) {
			return none, unknown() // it was accepted, and nobody knows
		}
		return drive.Operation{Token: token, After: 2 * time.Second}, nil
	}
	return none, nil
}

// refuseGrowth says why Azure refuses a call for nodes; nil: it does not.
func (w *world) refuseGrowth(set *scaleSet, deployment int) error {
	switch {
	case w.mustMakeAgain(set, deployment):
		return errFixed
	case w.chance(8):
		return fault.New(fault.Throttled, "", "slow down")
	case w.chance(15):
		refused := fault.New(fault.NoQuota, "", "the quota is used up")
		if left := w.rng.Intn(4); left < 3 {
			refused.Left = &left
		}
		return refused
	case w.chance(15):
		return fault.New(fault.NoCapacity, "", "there is none")
	}
	return nil
}

// fillUp makes the instances that a write of the capacity brings. One that fails makes a
// part of them, and the set keeps the capacity: the next write brings the others, whatever
// it asks for.
func (w *world) fillUp(of pool.Set, set *scaleSet, op *operation, target int) {
	make := 0
	if target > set.capacity || set.unbacked {
		make = max(target-set.capacity, 0) + w.missing(of.Name)
		set.capacity = max(set.capacity, target)
	}
	set.unbacked = op.fails
	if op.fails {
		make = w.rng.Intn(max(make, 1)) // in part
	}
	for range max(make, 0) {
		has, _ := size.Lookup(of.Size)
		v := &vm{vmid: fmt.Sprintf("vm-%04d", w.nextID), id: fmt.Sprint(w.nextID), set: of.Name, model: set.model, size: of.Size, cpus: has.CPUs, spot: of.Spot, askedAt: w.now, bootAt: w.now.Add(time.Duration(2+w.rng.Intn(5)) * time.Second),
			held: map[int64]*run{}, drops: map[int64]bool{}, doubt: true}
		switch {
		case w.chance(15):
			v.broken = "failed"
		case w.chance(15):
			v.broken = "stuck"
		case w.chance(40) || w.now.Before(set.darkTill):
			v.broken = "mute"
		}
		if w.chance(8) {
			v.sick = nodeCauses[w.rng.Intn(len(nodeCauses))]
		}
		if w.faults {
			v.skew = time.Duration(w.rng.Intn(20)-10) * time.Second
		}
		w.nextID++
		w.instances[v.vmid] = v
		op.makes = append(op.makes, v)
	}
	w.checker.tooMany()
}

// missing is how many instances a set counts and does not have.
func (w *world) missing(name string) int {
	n := w.set(name).capacity
	for _, v := range w.instances {
		if v.set == name && v.dieAt.IsZero() {
			n--
		}
	}
	return n
}

// unbacked is how many instances the next write to a set brings, whatever it asks for.
func (w *world) unbacked(name string) int {
	if !w.set(name).unbacked {
		return 0
	}
	return w.missing(name)
}

// overtake lets somebody else write to a scale set now and then, who leaves the
// capacity as it is: the operation under way ends as one that was overtaken.
func (w *world) overtake() {
	for _, name := range slices.Sorted(maps.Keys(w.sets)) {
		if set := w.sets[name]; set.token != nil && w.chance(200) {
			set.token.preempted, set.token = true, nil
		}
	}
}

// sticks reports whether an instance keeps an operation from ending.
func (w *world) sticks(op *operation) bool {
	for _, v := range op.makes {
		if v.broken == "stuck" && v.dieAt.IsZero() && w.instances[v.vmid] == v {
			return true
		}
	}
	return false
}

// list is what Azure says of the scale set, sometimes with a lag.
func (w *world) list(name string) pool.Listed {
	set := w.set(name)
	l := pool.Listed{Set: name, Exists: true, Capacity: set.capacity}
	for _, v := range w.sorted() {
		if v.set != name {
			continue
		}
		inst := pool.Instance{VMID: v.vmid, ID: v.id, Name: v.name(), Provisioning: "Creating", Outdated: v.model != set.model && !w.noOutdated}
		switch {
		case v.broken == "failed":
			inst.Provisioning, inst.Error = "Failed", "no reason given"
		case v.booted:
			inst.Provisioning, inst.Power = "Succeeded", "running"
			if v.power != "" {
				inst.Power = v.power
			}
		}
		if !v.dieAt.IsZero() {
			inst.Provisioning = "Deleting"
		}
		l.Instances = append(l.Instances, inst)
	}
	// Rules.MissingFor has to be longer than a list may lag.
	if set.listing != nil && w.chance(4) && w.now.Sub(set.listedAt) < w.rules.MissingFor-2*time.Second-w.checker.slack {
		return *set.listing
	}
	if w.now.Sub(set.listedAt) > 4*time.Second {
		set.listing, set.listedAt = &l, w.now
	}
	return l
}

func (w *world) sorted() []*vm {
	list := make([]*vm, 0, len(w.instances))
	for _, v := range w.instances {
		list = append(list, v)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].vmid < list[j].vmid })
	return list
}

// name is that of the instance.
func (v *vm) name() string { return pool.SetName("p", v.set) + "_" + v.id }

// runs lists what a VM holds, in order.
func (v *vm) runs() []*run {
	list := make([]*run, 0, len(v.held))
	for _, r := range v.held {
		list = append(list, r)
	}
	sort.Slice(list, func(i, k int) bool { return list[i].n < list[k].n })
	return list
}

// live is one second of a VM and its agent.
func (w *world) live(v *vm) {
	if !v.dieAt.IsZero() && !w.now.Before(v.dieAt) {
		delete(w.instances, v.vmid)
		return
	}
	if w.chance(3000) {
		if v.dieAt.IsZero() {
			w.set(v.set).capacity--
		}
		delete(w.instances, v.vmid) // behind our back
		return
	}
	if v.broken == "mute" && !w.now.Before(v.bootAt) {
		v.booted = true
	}
	if v.broken != "" || !v.booted && w.now.Before(v.bootAt) {
		return
	}
	if v.power == "" && w.chance(4000) {
		v.power = "stopped"
	}
	if v.power != "" {
		return
	}
	if !v.hung && w.chance(1500) {
		v.hung, v.wakeAt = true, w.now.Add(time.Duration(w.rng.Int63n(int64(longestHang/time.Second)))*time.Second)
	}
	if v.hung {
		if w.now.Before(v.wakeAt) {
			return
		}
		v.hung = false
		if v.fenced { // it finds that its session was taken: it kills what it runs and stays quiet
			v.stopped = true
			v.held = map[int64]*run{}
		}
	}
	if v.stopped {
		return
	}
	if !w.bootsOn(v) {
		return
	}
	if w.chance(300) || w.faults && w.now.Equal(w.upgradeAt) { // the agent crashes and comes back, or all of them are renewed
		w.restart(v)
	}
	if w.chance(500) {
		w.loseJournal(v)
	}
	if v.doubt && !w.now.Before(v.askAt) {
		w.report(v, w.ready(v), holds(v))
	}
	if !v.evicted && v.dieAt.IsZero() && w.chance(map[bool]int{true: 250, false: 800}[v.spot]) {
		v.evicted, v.dieAt = true, w.now.Add(time.Duration(w.rng.Intn(30))*time.Second)
		w.set(v.set).capacity--
		w.report(v, protocol.ReportItem{Leaving: &protocol.Leaving{Event: "Preempt", At: v.dieAt, Reason: "evicted"}})
		for _, r := range v.runs() {
			if r.finished == nil {
				w.end(v, r, "evicted", job.ExitEvicted)
			}
		}
	}
	w.hear(v)
	for _, r := range v.runs() {
		if r.finished == nil && !r.waits && !r.endAt.After(w.now) {
			w.runOut(v, r)
		}
	}
	w.takeTurns(v)
	if !w.now.Before(v.reportAt) {
		v.reportAt = w.now.Add(time.Minute)
		items := append([]protocol.ReportItem{holds(v)}, w.votes(v, true)...)
		for _, r := range v.runs() {
			if r.finished != nil {
				items = append(items, protocol.ReportItem{Finished: r.finished})
			}
		}
		w.report(v, items...)
	} else if said := w.votes(v, false); len(said) > 0 {
		w.report(v, said...)
	}
}

// restart has an agent start again: one message says all that has become of what it
// ran.
func (w *world) restart(v *vm) {
	v.boots++
	v.counted = false
	if v.doubt { // and what it was given meanwhile is forgotten
		w.checker.breaks(v.vmid, fmt.Sprint("start ", v.boots))
	}
	items := []protocol.ReportItem{w.ready(v)}
	for _, r := range v.runs() {
		switch {
		case r.finished != nil:
		case r.assign.Session != nil && !r.started.IsZero(): // it outlives its agent
		case !r.started.IsZero():
			r.finished = &protocol.Finished{N: r.n, State: string(job.AttemptAgentRestarted), ExitCode: job.ExitAgentRestarted, StartedAt: r.started, EndedAt: w.now.Add(v.skew)}
			w.checker.agentEnds(v, r, fmt.Sprint("start ", v.boots))
			items = append(items, protocol.ReportItem{Finished: r.finished})
		case r.stuck: // what does not begin does so in another life
			r.stuck, r.started, r.endAt = false, w.now.Add(v.skew), w.now.Add(10*time.Second)
		}
	}
	w.report(v, append(items, holds(v))...)
}

// startFails lets an attempt end before it has begun: over its job, or by a fault of
// the node.
func (w *world) startFails(v *vm, r *run) bool {
	var cause job.Cause
	switch {
	case v.sick != "" && w.rng.Intn(4) > 0:
		cause = v.sick
	case w.chance(100):
		cause = nodeCauses[w.rng.Intn(len(nodeCauses))]
	case w.chance(20):
		cause = jobCauses[w.rng.Intn(len(jobCauses))]
	default:
		return false
	}
	if r.started = (time.Time{}); cause == job.CauseSource { // its fetch had begun
		r.started = w.now.Add(v.skew)
	}
	r.finished = &protocol.Finished{N: r.n, State: string(job.AttemptStartFailed), ExitCode: job.ExitStartFailed, Cause: cause, StartedAt: r.started, EndedAt: w.now.Add(v.skew)}
	w.checker.agentEnds(v, r, fmt.Sprint("assignment ", r.n))
	w.report(v, protocol.ReportItem{Finished: r.finished})
	return true
}

// hear takes what is on the VM's session, in order, some of it twice.
func (w *world) hear(v *vm) {
	queue := w.work[v.vmid]
	for len(queue) > 0 && !queue[0].at.After(w.now) {
		for _, item := range queue[0].items {
			w.take(v, item)
		}
		if w.chance(10) {
			for _, item := range queue[0].items {
				w.take(v, item)
			}
		}
		queue = queue[1:]
	}
	w.work[v.vmid] = queue
}

// begin is a start of the agent.
func (w *world) begin(v *vm) {
	v.boots++
	v.counted = false
	w.report(v, w.ready(v), holds(v))
}

// ready is the first word of a start of the agent, and asks for the counter when
// there is need.
func (w *world) ready(v *vm) protocol.ReportItem {
	v.askAt = w.now.Add(10 * time.Second)
	return protocol.ReportItem{Ready: &protocol.Ready{Name: v.name(), CPUs: v.cpus, Boot: fmt.Sprint(v.boots), Counter: v.doubt,
		Features: v.features(), Listens: v.listens()}}
}

// loseJournal has an agent die and come back without its journal: what it ran is
// dead, what it knew is gone, and old messages may come again.
func (w *world) loseJournal(v *vm) {
	w.checker.seen["journal lost"]++
	var forgotten []string // the pool may conclude it from what the agent holds, before the agent has the counter
	for _, r := range v.held {
		forgotten = append(forgotten, r.assign.Job)
		if w.succeeded[rankKey(r)] == v {
			delete(w.succeeded, rankKey(r))
		}
	}
	v.held, v.drops, v.seen, v.lost, v.doubt = map[int64]*run{}, map[int64]bool{}, 0, 0, true
	for range min(len(v.past), 4) {
		again := workMail{items: []protocol.WorkItem{v.past[w.rng.Intn(len(v.past))]}}
		w.late = append(w.late, mail{at: w.now.Add(time.Duration(w.rng.Intn(60)) * time.Second), do: func() { w.work[v.vmid] = append(w.work[v.vmid], again) }})
	}
	w.begin(v)
	w.checker.breaks(v.vmid, fmt.Sprint("start ", v.boots), forgotten...)
}

func holds(v *vm) protocol.ReportItem {
	h := &protocol.Holds{Lost: v.lost}
	for _, r := range v.runs() {
		h.N = append(h.N, r.n)
	}
	return protocol.ReportItem{Holds: h}
}

func (w *world) report(v *vm, items ...protocol.ReportItem) {
	if v.stopped {
		return
	}
	if w.noHolds {
		items = slices.DeleteFunc(slices.Clone(items), func(i protocol.ReportItem) bool { return i.Holds != nil })
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
		v.held = map[int64]*run{}
	}
	if c := item.Counter; c != nil && !v.stopped && !v.counted && c.Boot == fmt.Sprint(v.boots) {
		w.checker.forgets(v)
		v.counted, v.doubt, v.lost, v.seen = true, false, max(v.lost, c.N), max(v.seen, c.N)
		w.report(v, holds(v))
	}
	if v.stopped || item.N == 0 || item.N <= v.seen {
		return
	}
	v.seen = item.N
	if v.past = append(v.past, item); item.Assign != nil && v.doubt {
		w.report(v, holds(v))
		return
	}
	switch {
	case item.Assign != nil:
		w.checker.understands(v, item.Assign)
		r := &run{assign: *item.Assign, n: item.N, cameAt: w.now, waits: true}
		v.held[item.N] = r
		if v.evicted || v.drops[item.N] {
			if v.evicted {
				w.end(v, r, "evicted", job.ExitEvicted)
			} else {
				w.end(v, r, "cancelled", job.ExitCancelled)
			}
			return
		}
		w.takeTurns(v)
	case item.Warn != nil:
		if r := v.held[item.Warn.Target]; r != nil {
			r.warned = item.N
			if item.Warn.EndsIn > 0 {
				w.checker.sessions.told[orderOf(r.assign.Job)] = struct{}{}
			}
		}
	case item.Cancel != nil:
		r := v.held[item.Cancel.Target]
		switch {
		case r == nil:
			v.drops[item.Cancel.Target] = true
		case r.finished != nil || r.stuck && r.deaf || item.Cancel.IfWaiting && !r.waits:
		default:
			w.checker.cancels(v, r, item.Cancel)
			w.end(v, r, "cancelled", job.ExitCancelled)
		}
	}
}

// takeTurns begins what waits on a VM, in its order, as there is room.
func (w *world) takeTurns(v *vm) {
	cpus := 0
	for _, r := range v.runs() {
		if r.finished == nil && !r.waits {
			cpus += r.assign.CPUs
		}
	}
	blocked := false
	for _, r := range v.runs() {
		if r.finished != nil || !r.waits {
			continue
		}
		if room := r.assign.Room; room > 0 {
			if blocked = blocked || cpus > 0 && cpus+r.assign.CPUs > room; blocked {
				w.checker.seen["waits for its turn"]++
				continue
			}
		}
		r.waits = false
		w.beginRun(v, r)
		if r.finished == nil {
			cpus += r.assign.CPUs
		}
	}
	w.checker.turns(v)
}

// beginRun begins an assignment whose turn it is.
func (w *world) beginRun(v *vm, r *run) {
	r.started, r.endAt = w.now.Add(v.skew), w.now.Add(time.Duration(w.rng.Intn(40))*time.Second)
	if r.assign.Session != nil {
		r.endAt = w.now.Add(10000 * time.Hour)
	}
	if w.jobs[orderOf(r.assign.Job)[:26]].short && w.rng.Intn(60) > 0 {
		r.endAt = w.now
	}
	if w.startFails(v, r) {
		return
	}
	w.checker.starts(v, r)
	if w.chance(40) {
		r.stuck, r.deaf = true, w.chance(3)
		r.started, r.endAt = time.Time{}, w.now.Add(10000*time.Hour)
		w.checker.seen["start stuck"]++
		return
	}
	if w.rng.Intn(2) == 0 {
		w.report(v, protocol.ReportItem{Started: &protocol.Started{N: r.n, At: r.started}})
	}
}

// runOut lets an attempt come to its own end.
func (w *world) runOut(v *vm, r *run) {
	if r.assign.TimeoutSeconds > 0 && w.chance(20) {
		w.end(v, r, "timedOut", job.ExitTimedOut)
		return
	}
	if of := w.jobs[orderOf(r.assign.Job)[:26]]; r.assign.Attempt <= of.failures {
		w.end(v, r, "failed", 3)
		return
	}
	w.succeeded[rankKey(r)] = v
	w.end(v, r, "succeeded", 0)
}

// notBegun is in the words with which a node is asked for an attempt back.
const notBegun = "has not begun it"

// rankKey names what may run once at a time.
func rankKey(r *run) string {
	if r.assign.Gang == nil {
		return r.assign.Job
	}
	return fmt.Sprintf("%s rank %d", r.assign.Job, r.assign.Gang.Rank)
}

func (w *world) end(v *vm, r *run, state string, code int) {
	r.finished = &protocol.Finished{N: r.n, State: state, ExitCode: code, StartedAt: r.started, EndedAt: w.now.Add(v.skew)}
	w.checker.agentEnds(v, r, "")
	w.report(v, protocol.ReportItem{Finished: r.finished})
}
