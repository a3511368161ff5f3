package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/size"
	"dsvmpools/shared/usage"
)

// report takes in an agent's facts and returns what did not fit.
func (st *step) report(e pool.Reported) pool.Reported {
	r := e.Report
	n := st.Nodes[r.VMID]
	if n == nil {
		n = st.unknownNode(r)
		if n == nil {
			e.Report.Items = nil
			return e
		}
	}
	if n.State == pool.NodeGone || n.State == pool.NodeLost {
		// Lost is final: whatever it still says, it is no part of the pool.
		st.send(n, protocol.WorkItem{Stop: "the pool has given this node up: " + n.Reason})
		e.Report.Items = nil
		return e
	}
	if e.At.Sub(n.HeardAt) >= st.rules.SilentAfter/4 || n.HeardAt.IsZero() {
		n.HeardAt = e.At
		st.touch(n)
	}
	if !n.MissingAt.IsZero() && e.At.After(n.MissingAt) {
		n.MissingAt = time.Time{} // it is there, whatever the listing says
		st.touch(n)
	}
	before := n.Seen
	n.Seen = max(n.Seen, r.Seen)
	for len(e.Report.Items) > 0 && st.room() {
		item := e.Report.Items[0]
		switch {
		case item.Ready != nil:
			st.ready(n, *item.Ready, r.Seen < n.reported(before), e.At)
		case item.Started != nil:
			st.started(n, *item.Started)
		case item.Finished != nil:
			st.finished(n, *item.Finished)
		case item.Leaving != nil:
			st.leaving(n, *item.Leaving)
		case item.Holds != nil:
			if !st.holds(n, *item.Holds, r.Seen) {
				return e
			}
		}
		e.Report.Items = e.Report.Items[1:]
	}
	return e
}

// unknownNode makes a node of a first report that came before any listing. Only
// an agent that has just come up makes itself known that way.
func (st *step) unknownNode(r protocol.Report) *Node {
	if st.Head.Deleting {
		return nil
	}
	for _, item := range r.Items {
		if item.Ready != nil {
			st.effects.List = true // to learn its instance id
			return st.addNode(st.setOf(item.Ready.Name), r.VMID, item.Ready.Name, pool.NodeBooting)
		}
	}
	return nil
}

// addNode adds a node at its first observation.
func (st *step) addNode(set *pool.Set, vmid, name string, state pool.NodeState) *Node {
	n := newNode(&pool.Node{
		VMID:      vmid,
		Name:      name,
		Set:       set.Name,
		Size:      set.Size,
		Spot:      set.Spot,
		State:     state,
		Since:     st.now,
		CreatedAt: st.now,
		AskedAt:   set.TakeOldestRequest(),
		Price:     usage.UnknownPrice,
		Currency:  "USD",
	})
	if s, ok := size.Lookup(n.Size); ok {
		n.CPUs, n.GPUs, n.Memory = s.CPUs, s.GPUs, job.Bytes(s.MemoryGiB)*job.Gi
		if !set.Spot { // what Spot costs is not known: it changes with the hour
			n.Price, n.Currency = s.PricePerHour, s.Currency
		}
	}
	if state != pool.NodeCreating {
		st.billed(n)
	}
	st.Nodes[vmid] = n
	st.touch(n)
	return n
}

// billed opens the node's first ledger interval: it has been seen running.
func (st *step) billed(n *Node) {
	if n.RunningAt.IsZero() {
		n.RunningAt, n.From, n.Mark = st.now, st.now, st.now
	}
}

// ready takes in that an agent has come up, for the first time or again.
// at is when its report was enqueued; less: see booted.
func (st *step) ready(n *Node, r protocol.Ready, less bool, at time.Time) {
	st.billed(n)
	if !st.booted(n, r, less, at) {
		return
	}
	if n.CPUs == 0 {
		n.CPUs = r.CPUs
		st.offer(n)
	}
	if n.State == pool.NodeCreating || n.State == pool.NodeBooting {
		st.setNode(n, pool.NodeReady, "")
		st.cameUp(n)
	}
	// What was sent while it was away may have been lost with the old agent.
	st.resendTo(n)
}

// started marks an attempt as running.
func (st *step) started(n *Node, f protocol.Started) {
	j := n.jobs[f.N]
	if j == nil {
		return
	}
	a := j.Current()
	if r := j.Rank(f.N); r != nil {
		if r.State == job.AttemptRunning {
			return
		}
		r.State, r.StartedAt = job.AttemptRunning, f.At
	} else if j.State == job.Running {
		return
	}
	j.State, a.State = job.Running, job.AttemptRunning
	if a.StartedAt.IsZero() || f.At.Before(a.StartedAt) {
		a.StartedAt = f.At
	}
	st.write(j)
}

// finished ends an attempt. A result that is known already is acknowledged at
// once, so that the node stops repeating it; a new one with the node's next
// message.
func (st *step) finished(n *Node, f protocol.Finished) {
	j := n.jobs[f.N]
	if j == nil {
		st.send(n, protocol.WorkItem{Ack: []int64{f.N}})
		return
	}
	n.acks = append(n.acks, f.N)
	if len(f.Cause) > longestCause {
		f.Cause = job.Cause(strings.ToValidUTF8(string(f.Cause[:longestCause]), ""))
	}
	st.over(j, n, f)
}

// longestCause bounds what is kept of a cause, in bytes: a word, as all known ones.
const longestCause = 40

// leaving takes in that a node's VM is about to be taken away: nothing more is
// placed on it, and its agent ends what it runs.
func (st *step) leaving(n *Node, l protocol.Leaving) {
	if n.Evicted || n.State == pool.NodeDeleting || n.State == pool.NodeFailed {
		return
	}
	n.Evicted = true
	st.setNode(n, pool.NodeDraining, l.Reason)
}

// holds compares what the node says it has with what it was given. It reports
// whether there was room for all of it.
func (st *step) holds(n *Node, h protocol.Holds, seen int64) bool {
	if n.State == pool.NodeCreating || n.State == pool.NodeBooting {
		st.setNode(n, pool.NodeReady, "") // its agent speaks, whatever became of its first word
		st.cameUp(n)
	}
	has := make(map[int64]bool, len(h.N))
	for _, number := range h.N {
		has[number] = true
	}
	for _, number := range numbers(n) {
		if number > seen || has[number] {
			continue
		}
		if !st.room() {
			return false
		}
		if j := n.jobs[number]; number <= h.Lost || j.HasBegun(number) {
			st.forgotten(j, n, number)
		} else {
			st.never(j, n, number, "the node did not have it")
		}
	}
	if len(n.jobs) == 0 && st.now.Sub(n.spoken) >= wordEvery {
		st.send(n, protocol.WorkItem{Here: true})
		n.spoken = st.now
	}
	return true
}

// wordEvery is how often a node without work hears from its pool: one that hears
// nothing for hours takes the pool for dead, and powers itself off.
const wordEvery = time.Hour

// numbers lists a node's assignments, oldest first.
func numbers(n *Node) []int64 {
	list := make([]int64, 0, len(n.jobs))
	for number := range n.jobs {
		list = append(list, number)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}

// listed brings the nodes up to date with what Azure has. It reports whether
// there was room for all of it.
func (st *step) listed(e pool.Listed) bool {
	set := st.named(e.Set)
	if set == nil {
		return true // it is gone
	}
	if set.Listed = st.now; st.now.Sub(set.GrantedAt) >= st.rules.MissingFor {
		set.Capacity = e.Capacity
	} else {
		set.Capacity = max(set.Capacity, e.Capacity)
	}
	set.Used = set.Used || e.Exists
	here := map[string]bool{}
	for _, inst := range e.Instances {
		here[inst.VMID] = true
		if !st.room() {
			return false
		}
		st.observed(set, inst)
	}
	for _, n := range st.sorted() {
		if n.State == pool.NodeGone || here[n.VMID] || n.Set != set.Name {
			continue
		}
		if !st.room() {
			return false
		}
		switch {
		case !n.DeleteAt.IsZero():
			if !st.gone(n) {
				return false
			}
		case n.MissingAt.IsZero():
			n.MissingAt = st.now
			st.touch(n)
		case st.now.Sub(n.MissingAt) >= st.rules.MissingFor:
			if !n.Evicted {
				n.Reason = "deleted by someone else"
				st.touch(n)
			}
			if !st.gone(n) {
				return false
			}
		}
	}
	st.reconcile(set, e.Capacity)
	return true
}

// observed takes in what Azure says of one instance.
func (st *step) observed(set *pool.Set, inst pool.Instance) {
	n := st.Nodes[inst.VMID]
	if n == nil {
		if strings.EqualFold(inst.Provisioning, "Deleting") {
			return
		}
		n = st.addNode(set, inst.VMID, inst.Name, pool.NodeCreating)
	}
	if n.State == pool.NodeGone {
		return // the listing lags
	}
	if n.InstanceID != inst.ID || n.Name != inst.Name || n.Set != set.Name || !n.MissingAt.IsZero() {
		n.InstanceID, n.Name, n.Set, n.MissingAt = inst.ID, inst.Name, set.Name, time.Time{}
		st.touch(n)
	}
	running := strings.EqualFold(inst.Power, "running")
	if running && n.RunningAt.IsZero() {
		st.billed(n)
		st.touch(n)
	}
	if running && n.State == pool.NodeCreating {
		st.setNode(n, pool.NodeBooting, "")
	}
	switch {
	case strings.EqualFold(inst.Provisioning, "Deleting") && n.State == pool.NodeFailed && len(n.jobs) == 0 && !n.DeleteAt.IsZero():
		st.setNode(n, pool.NodeDeleting, n.Reason) // it leaves, and another may take its place
	case strings.EqualFold(inst.Provisioning, "Deleting") && n.State != pool.NodeDeleting && n.DeleteAt.IsZero():
		n.DeleteAt = st.now
		reason := "deleted by someone else"
		if n.Evicted {
			reason = n.Reason
		}
		st.setNode(n, pool.NodeDeleting, reason)
	case stopped(inst.Power) && (n.State == pool.NodeBooting || n.State == pool.NodeReady || n.State == pool.NodeBusy || n.State == pool.NodeDraining || n.State == pool.NodeQuarantined):
		// Nothing runs there any more, and it may be billed all the same.
		if n.State == pool.NodeBooting {
			st.cameNot(n, "its VM was "+strings.ToLower(inst.Power)+" before its agent had reported: "+lookAtNode)
		}
		st.setNode(n, pool.NodeFailed, "its VM was "+strings.ToLower(inst.Power)+" and not by the pool")
	case strings.EqualFold(inst.Provisioning, "Failed") && !running && (n.State == pool.NodeCreating || n.State == pool.NodeBooting):
		st.setNode(n, pool.NodeFailed, "Azure could not create it: "+inst.Error)
		st.cameNot(n, "Azure could not create it: "+inst.Error)
	}
}

// stopped reports whether a power state says that a VM has stopped and will not
// start by itself.
func stopped(power string) bool {
	return strings.EqualFold(power, "stopped") || strings.EqualFold(power, "deallocated")
}

// gone ends a node: its VM does not exist any more, so its work can be placed
// again. It reports whether there was room for all of it.
func (st *step) gone(n *Node) bool {
	for _, number := range numbers(n) {
		if !st.room() {
			return false
		}
		end, code := n.jobs[number].endOn(n)
		reason := "its node was deleted"
		if n.Reason != "" {
			reason += ": " + n.Reason
		}
		st.over(n.jobs[number], n, protocol.Finished{N: number, State: string(end), ExitCode: code, Reason: reason, EndedAt: st.now})
	}
	st.setNode(n, pool.NodeGone, n.Reason)
	st.closeInterval(n)
	return true
}

// answered takes in how a call to the scale set went.
func (st *step) answered(e pool.Answered) {
	if e.Kind == pool.OpRemove {
		if e.Err == nil {
			return
		}
		for _, vmid := range e.Nodes {
			if n := st.Nodes[vmid]; n != nil && n.State != pool.NodeGone {
				// Asked again when the time is up; until then the reason tells.
				n.DeleteAt = st.now.Add(max(firstPause, e.Err.RetryAfter) - st.rules.DeleteAgain)
				n.Reason = "deleting failed: " + e.Err.Message
				st.touch(n)
			}
		}
		return
	}
	set := st.named(e.Set)
	if set == nil {
		return
	}
	if set.Op.Kind != e.Kind || e.Target != 0 && e.Target != set.Op.Target || e.Of != "" && e.Of != set.Op.Token {
		st.effects.List = true // of an operation that another has taken the place of
		return
	}
	switch op := &set.Op; {
	case e.Err != nil && e.Kind == pool.OpGrow:
		st.refusedBy(set, e.Err)
		st.effects.List = true
	case e.Err != nil:
		tries := set.Blocked.Tries + 1
		set.Blocked = pool.Block{Code: string(e.Err.Code), Message: e.Err.Message, Tries: tries, Until: st.now.Add(blockFor(e.Err, tries))}
		*op = pool.Op{}
		st.effects.List = true
	case e.Token != "":
		if op.Kind == pool.OpGrow && op.Token == "" {
			st.acceptedBy(set)
			st.effects.List = true // what it makes is seen at once
		}
		op.Token, op.PollAt = e.Token, st.now.Add(e.After)
	case e.Kind == pool.OpGrow:
		st.grantedBy(set)
		st.effects.List = true
	case e.Kind == pool.OpDrop:
		*set = pool.Set{Name: set.Name, Size: set.Size, Spot: set.Spot, WroteAt: set.WroteAt, FullAt: set.FullAt, Breaker: set.Breaker}
		st.climb()
	default:
		set.Unbacked, set.Requests, *op = false, nil, pool.Op{}
		st.effects.List = true
	}
}

// named finds the set that an event is about.
func (st *step) named(name string) *pool.Set {
	if name == "" && len(st.Head.Sets) > 0 {
		return &st.Head.Sets[0]
	}
	return st.set(name)
}

// fenced takes in whether a silent node's session could be taken.
func (st *step) fenced(e pool.Fenced) {
	n := st.Nodes[e.VMID]
	if n == nil || n.State == pool.NodeGone || n.State == pool.NodeLost {
		return
	}
	if !e.Taken {
		// Its agent holds the session, so it lives; it is asked again later.
		n.Reason = "silent, but its agent holds its session"
		n.HeardAt = n.HeardAt.Add(st.rules.SilentAfter)
		st.touch(n)
		return
	}
	st.setNode(n, pool.NodeLost, "its agent fell silent and lost its session")
}

// tick looks for silence and for what should have been answered by now.
func (st *step) tick(e pool.Tick) {
	st.resend(st.now.Add(-st.rules.ResendAfter))
	st.late()
	st.ask()
	if st.anyAlive() || st.Head.Deleting || slices.ContainsFunc(st.Head.Sets, func(s pool.Set) bool { return s.Capacity > 0 || s.Op.Kind == pool.OpGrow || len(s.Requests) > 0 }) {
		st.effects.List = true
	}
	if !e.At.IsZero() {
		st.silent(e.At)
	}
}

// silent picks the nodes whose last report is too old, measured between the
// enqueued times of messages. When half of the pool falls silent at once, the
// fault is not theirs, and nothing is concluded.
func (st *step) silent(at time.Time) {
	var silent []string
	alive := 0
	for _, n := range st.sorted() {
		if n.State != pool.NodeReady && n.State != pool.NodeBusy && n.State != pool.NodeDraining && n.State != pool.NodeQuarantined {
			continue
		}
		alive++
		if at.Sub(n.HeardAt) > st.rules.SilentAfter {
			silent = append(silent, n.VMID)
		}
	}
	if len(silent) > 1 && 2*len(silent) >= alive {
		return
	}
	st.effects.Fence = silent
}

// resend sends the assignments and cancels again that show no sign of having
// arrived and were given before the time. An assignment keeps its number, so a
// node that has it ignores it; a cancel may be heard twice.
func (st *step) resend(before time.Time) {
	for _, n := range st.sorted() {
		for _, number := range numbers(n) {
			j := n.jobs[number]
			if !j.HasBegun(number) && !j.Current().AssignedAt.After(before) {
				st.send(n, assignment(j, number))
			}
			if (j.Cancel != "" || j.Requeue) && !j.CancelAt.After(before) || j.Broken() != nil && !j.Broken().EndedAt.After(before) {
				st.askPlace(pool.Assignment{VMID: n.VMID, N: number}, cmp.Or(j.Cancel, "the attempt is over"))
			}
		}
	}
}

// resendTo sends a node everything again that it has not shown to have begun.
func (st *step) resendTo(n *Node) {
	for _, number := range numbers(n) {
		if j := n.jobs[number]; !j.HasBegun(number) && number > n.Seen {
			st.send(n, assignment(j, number))
		}
	}
}

// setNode changes a node's state, counting the time spent in the old one.
func (st *step) setNode(n *Node, state pool.NodeState, reason string) {
	st.count(n)
	n.State, n.Reason, n.Since = state, reason, st.now
	st.offer(n)
	st.touch(n)
}

// count adds the time since the last count to what the node did in it.
func (st *step) count(n *Node) {
	if n.From.IsZero() {
		return
	}
	spent := max(st.now.Sub(n.Mark), 0)
	n.Mark = n.Mark.Add(spent)
	switch n.State {
	case pool.NodeCreating, pool.NodeBooting, pool.NodeFailed:
		n.BootFor += spent
	case pool.NodeBusy:
		n.BusyFor += spent
	case pool.NodeDraining, pool.NodeDeleting, pool.NodeLost:
		n.DrainFor += spent
	default:
		n.IdleFor += spent
	}
}

// sorted lists the nodes by VMID, so that every process decides alike.
func (st *step) sorted() []*Node {
	list := make([]*Node, 0, len(st.Nodes))
	for _, n := range st.Nodes {
		list = append(list, n)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].VMID < list[j].VMID })
	return list
}

// closeInterval writes the node's open interval to the ledger and opens the
// next one.
func (st *step) closeInterval(n *Node) {
	if n.From.IsZero() || !n.Mark.After(n.From) {
		return
	}
	st.entries = append(st.entries, usage.Entry{
		Kind: usage.KindNode, Key: fmt.Sprintf("%s!%d", n.VMID, n.From.UnixMilli()), Pool: st.Head.Spec.Name,
		Node: n.Name, VMID: n.VMID, Size: n.Size, Spot: n.Spot, NodeCPUs: n.CPUs, NodeGPUs: n.GPUs, NodeMem: int64(n.Memory), From: n.From, To: n.Mark,
		Boot: n.BootFor, Busy: n.BusyFor, Idle: n.IdleFor, Draining: n.DrainFor,
		Price: n.Price, Currency: n.Currency, Labels: st.Head.Spec.Labels,
	})
	n.From, n.BootFor, n.BusyFor, n.IdleFor, n.DrainFor = n.Mark, 0, 0, 0, 0
	st.touch(n)
}

// enterAttempt writes an ended attempt to the ledger. One that never started
// used nothing.
func (st *step) enterAttempt(j *Job, a *job.Attempt, n *Node) {
	st.ledger(j, n, a.Number, fmt.Sprintf("%s!%d", j.Order, a.Number), job.Rank{State: a.State, ExitCode: a.ExitCode, StartedAt: a.StartedAt, EndedAt: a.EndedAt})
}

// enterRank writes the part of a gang's attempt that has ended.
func (st *step) enterRank(j *Job, a *job.Attempt, r *job.Rank, n *Node) {
	st.ledger(j, n, a.Number, fmt.Sprintf("%s!%d!%d", j.Order, a.Number, r.Rank), *r)
}

func (st *step) ledger(j *Job, n *Node, attempt int, key string, r job.Rank) {
	if r.StartedAt.IsZero() {
		return
	}
	held := j.Spec.Resources
	if !st.Head.Spec.Pack {
		held.CPUs = max(held.CPUs, n.CPUs) // nobody else could use the rest of the node
	}
	st.entries = append(st.entries, usage.Entry{
		Kind: usage.KindAttempt, Key: key, Pool: st.Head.Spec.Name,
		Team: j.Spec.Team, User: j.Spec.User, Job: j.ID, JobName: j.Spec.Name, Attempt: attempt,
		State: string(r.State), ExitCode: r.ExitCode, Node: n.Name, VMID: n.VMID, Size: n.Size, Spot: n.Spot,
		CPUs: held.CPUs, NodeCPUs: n.CPUs, GPUs: held.GPUs, NodeGPUs: n.GPUs, Memory: int64(held.Memory), NodeMem: int64(n.Memory), From: r.StartedAt, To: r.EndedAt,
		Price: n.Price, Currency: n.Currency, Labels: j.Spec.Labels,
	})
}
