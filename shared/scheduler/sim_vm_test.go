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
		l = *set.listing
		l.Tariffs = w.tariffs()
		return l
	}
	if w.now.Sub(set.listedAt) > 4*time.Second {
		set.listing, set.listedAt = &l, w.now
	}
	l.Tariffs = w.tariffs()
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

// notBegun is in the words with which a node is asked for an attempt back.
const notBegun = "has not begun it"
