package scheduler_test

import (
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

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
