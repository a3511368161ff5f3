package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Explanation says why something is as it is, and what would change it.
type Explanation struct {
	State    string // of the job or the pool
	Reason   string // one sentence
	Unblocks string // one sentence; "" = nothing has to happen
	Ahead    int    // waiting jobs that would go first as things stand; for a job in line
	Waiting  int    // jobs in line, this one included
}

// Explain says why a live job is where it is. It decides as Step does, and
// changes nothing.
func Explain(s *State, order string, now time.Time, rules Timing) (Explanation, bool) {
	j := s.Jobs[order]
	if j == nil {
		return Explanation{}, false
	}
	st := &step{State: s, now: now, rules: rules, head: s.Head, kept: map[string]bool{}, vacate: map[string]bool{}}
	e := Explanation{State: string(j.State)}
	switch {
	case j.VMID != "":
		e.Reason, e.Unblocks = st.explainPlaced(j)
	case j.awaits:
		e.Reason, e.Unblocks = waitsFor(j), "the end of the jobs it comes after; when one of them does not succeed, it is cancelled"
	case j.heap != nil && j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason, e.Unblocks = "its time has come", nextStep
	case j.Spec.Sweep != nil && j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason, e.Unblocks = st.explainSweep(j)
	case j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason, e.Unblocks = fmt.Sprintf("its sweep runs %d members at once, which is its `parallel`", s.sweepOf(j).job.Spec.Sweep.Parallel), "the end of one of them"
	case j.NotBefore.Equal(released):
		e.Reason, e.Unblocks = j.Reason, "somebody who releases or cancels it"
	case j.inLine() == nil:
		e.Reason = fmt.Sprintf("it may not start before %s", stamp(j.NotBefore))
		if j.Reason != "" && !strings.HasPrefix(j.Reason, "not before") {
			e.Reason += ": " + j.Reason
		}
		e.Unblocks = "the time; nothing has to be done"
	default:
		e.Ahead, e.Waiting = st.ahead(j), st.queue.waiting()
		e.Reason, e.Unblocks = st.explainWaiting(j)
	}
	return e, true
}

// nextStep is what something waits for that needs nothing else.
const nextStep = "the next step; nothing has to be done"

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (st *step) explainPlaced(j *Job) (reason, unblocks string) {
	name := j.Current().Node
	if more := j.Spec.Nodes - 1; more > 0 {
		name += fmt.Sprintf(" and %d more", more)
	}
	if n := st.lostUnder(j); n != nil {
		why := cmp.Or(n.Reason, "its VM is being deleted")
		return fmt.Sprintf("its node %s is %s: %s; what ran there is over when the VM is gone", n.Name, n.State, why),
			"Azure's word that the VM is gone; nothing has to be done"
	}
	const answer = "the node's answer, or the end of the node"
	switch b := j.Broken(); {
	case j.Cancel != "":
		return fmt.Sprintf("node %s was asked to end it: %s", name, j.Cancel), answer
	case j.State == job.Assigned && j.Requeue && j.CancelAt.Sub(j.Current().AssignedAt) >= st.rules.AssignedFor:
		return fmt.Sprintf("node %s has not begun it, and was asked to give it back %s ago", name, st.now.Sub(j.CancelAt).Round(time.Second)),
			fmt.Sprintf("the node's answer; without one by %s the node gets nothing more, and is deleted when nothing else runs on it", stamp(j.CancelAt.Add(st.rules.AssignedFor)))
	case j.Requeue:
		return fmt.Sprintf("node %s was asked to end it, and it goes back in line then", name), answer
	case b != nil:
		end := endOf(b.State, b.Cause)
		return fmt.Sprintf("rank %d of it ended as %s on node %s, and the others were asked to end", b.Rank, end, b.Node), answer
	case j.State == job.Assigned:
		return fmt.Sprintf("it was given to node %s %s ago, which has not begun it yet", name, st.now.Sub(j.Current().AssignedAt).Round(time.Second)),
			fmt.Sprintf("the node's answer; without one it is sent again, and asked back at %s", stamp(j.Current().AssignedAt.Add(st.rules.AssignedFor)))
	}
	return fmt.Sprintf("it has been running on node %s since %s", name, stamp(j.Current().StartedAt)), ""
}

// lostUnder is a node of the job that is given up and not gone yet, or nil.
func (st *step) lostUnder(j *Job) *Node {
	for _, p := range j.Assignments() {
		if n := st.Nodes[p.VMID]; n != nil && (n.State == pool.NodeLost || n.State == pool.NodeFailed || n.State == pool.NodeDeleting) {
			return n
		}
	}
	return nil
}

// explainSweep says what a sweep waits for of which nothing is in line.
func (st *step) explainSweep(j *Job) (reason, unblocks string) {
	p, all := j.Progress, j.Spec.Sweep.Members()
	held := 0
	for m := range st.sweeps[j.Order].live {
		if m.VMID == "" && m.NotBefore.Equal(released) {
			held++
		}
	}
	switch {
	case j.Cancel != "" && p.Live == 0:
		return "it was cancelled", nextStep
	case j.Cancel != "":
		return fmt.Sprintf("it was cancelled, and %s", jobs(p.Live, "of it has not ended", "of it have not ended")), "their nodes' answers"
	case j.Unstarted() > 0:
		return fmt.Sprintf("%d of its %d members have ended, and %d run at once, which is its `parallel`", p.Ended(), all, p.Running), "the end of one of them"
	}
	reason = fmt.Sprintf("all of its %d members have begun; %d have ended and %d run", all, p.Ended(), p.Running)
	if held > 0 {
		reason += fmt.Sprintf(", and %d are held: `dsvm job list --sweep %s --state held`", held, j.ID)
		return reason, "somebody who releases or cancels those that are held"
	}
	return reason, "their ends; nothing has to be done"
}

// explainWaiting says why a job in line has no place. The first reason that
// stands in its way is told, in the order in which the step meets them.
func (st *step) explainWaiting(j *Job) (reason, unblocks string) {
	spec := &st.Head.Spec
	switch {
	case st.Head.Deleting:
		return "its pool is being deleted, and it with it", "the next step, which cancels it"
	case st.Head.Down:
		return st.downReason(), st.upUnblocks()
	}
	if err := Refuses(*spec, j.Spec); err != nil {
		return "the pool has been changed, and no node of it can ever run this job: " + err.Message,
			"a change of the pool; or cancel it and send another"
	}
	if sentence := st.overLimit(j); sentence != "" {
		return sentence, "the end of a job of the team, or a higher limit in the pool's `limits`"
	}
	ahead := ""
	if n := st.ahead(j); n > 0 {
		ahead = fmt.Sprintf(", and %s before it in line", jobs(n, "goes", "go"))
	}
	of := shapeOf(j)
	if free := st.roomFor(of); free != "" && st.roomy(of) >= of.nodes {
		p := &placing{step: st, unfit: map[shape]bool{}, out: map[*jobHeap]bool{}}
		if first := st.firstUnfit(p); first != nil && first != j && !st.allowed(p.reserved, of) {
			when := st.beginsAt(p.reserved)
			return fmt.Sprintf("node %s has room, but is kept for job %s, which is before it in line and begins %s", free, first.ID, when),
				"the start of that job, or a `timeout` short enough to end before it"
		}
		return fmt.Sprintf("node %s has room for it, and the next step places what is first in line%s", free, ahead), nextStep
	}
	no := "no node has room for it"
	if of.nodes > 1 {
		ahead = fmt.Sprintf(" (it takes %d nodes at once, of which %d have room)", of.nodes, st.roomy(of)) + ahead
	}
	if bad := st.shunned(of); bad != "" {
		no = fmt.Sprintf("no other node has room for it (node %s has room, but could not start it)", bad)
	}
	no += st.asideText(", ")
	can := func(s *pool.Set) bool { return st.canGive(s, of) }
	if why, until := st.blocked(can); why != "" && st.probing() {
		return fmt.Sprintf("%s, and no more are asked for: %s%s", no, why, ahead),
			fmt.Sprintf("that node's first word, until %s; or `dsvm pool resume %s`", stamp(until), spec.Name)
	}
	c := st.census()
	if coming := st.comingFor(of); coming > 0 {
		return fmt.Sprintf("%s, and %s%s", no, nodes(coming, "is on its way", "are on their way"), ahead),
			"a node that comes up; nothing has to be done"
	}
	if c.counted()+st.pending() >= spec.Nodes.Max {
		return st.explainFull(c, no, ahead)
	}
	if why, until := st.blocked(can); why != "" {
		return fmt.Sprintf("%s, and no more are asked for: %s", no, why),
			fmt.Sprintf("the next attempt at %s, or a pool that is changed", stamp(until))
	}
	const answer = "Azure's answer; nothing has to be done"
	if st.allBusy(can) {
		return no + "; another is asked for when Azure has answered what was asked before" + ahead, answer
	}
	_, more := st.plan()
	gives := slices.DeleteFunc(slices.Clone(st.Head.Sets), func(set pool.Set) bool { return more[set.Name] == 0 || !can(&set) })
	switch {
	case len(gives) == 0:
		if len(more) > 0 {
			if !slices.ContainsFunc(st.Head.Sets, func(set pool.Set) bool { return more[set.Name] > 0 && st.asksNow(&set) }) {
				return no + "; the next request is for nodes for others" + ahead, st.nextRequest(more)
			}
			return no + "; the next step asks for nodes for others first" + ahead, nextStep
		}
		return fmt.Sprintf("%s, and none is asked for on its account: the jobs of team %q before it in line are as many as its limit leaves",
				no, j.Spec.Team) + ahead,
			"the end of those jobs, or a higher limit in the pool's `limits`"
	case !slices.ContainsFunc(gives, func(set pool.Set) bool { return st.asksNow(&set) }):
		return no + "; another is asked for with the next request" + ahead, st.nextRequest(more)
	}
	return no + "; the next step asks for another" + ahead, nextStep
}

// allBusy reports whether the rungs that could give a node are all about something
// else, so that none is asked for before Azure has answered.
func (st *step) allBusy(can func(*pool.Set) bool) bool {
	busy := false
	for i := range st.Head.Sets {
		set := &st.Head.Sets[i]
		if st.rung(set.Name) < 0 || !can(set) || st.now.Before(set.Blocked.Until) {
			continue
		}
		if set.Op.Kind != pool.OpDrop {
			return false
		}
		busy = true
	}
	return busy
}

// explainFull says what a job waits for in a pool that has all of its nodes.
func (st *step) explainFull(c census, no, ahead string) (reason, unblocks string) {
	all := fmt.Sprintf("%s, and the pool has all of its %s", no, nodes(st.Head.Spec.Nodes.Max, "", ""))
	if c.leaving > 0 {
		all += fmt.Sprintf(", of which %s", nodes(c.leaving, "is leaving", "are leaving"))
	}
	switch {
	case st.running > 0:
		return all + ahead, "the end of other work, or a higher `nodes.max`"
	case c.leaving > 0:
		return all + ahead, "the end of a node that leaves; nothing has to be done"
	case c.coming+st.pending() > 0:
		return all + ", which are not of its size" + ahead, "a node that comes up, and leaves again to make room; or a higher `nodes.max`"
	}
	return all + ", which are idle and not of its size" + ahead, "a node that leaves to make room; nothing has to be done"
}

// allowed reports whether a shape finds its nodes in spite of a reservation.
func (st *step) allowed(r *reservation, of shape) bool {
	found := 0
	for _, at := range st.spaces[min(of.cpus, len(st.spaces)):] {
		for _, n := range at {
			if fits(n.total(), n.used, of.resources()) && st.suits(of, n) && r.allows(of, n, st.now) {
				found++
			}
		}
	}
	return found >= of.nodes
}

// upUnblocks is what ends the time that a pool is down.
func (st *step) upUnblocks() string {
	if st.Head.Spec.Schedule == nil {
		return nextStep
	}
	return "the pool's upAt, or a change of its `schedule`"
}

// beginsAt says when the job begins that nodes are kept for.
func (st *step) beginsAt(r *reservation) string {
	switch {
	case !r.at.IsZero() && r.at.After(st.now):
		return "at " + stamp(r.at) + " at the latest"
	case st.running > 0:
		return "as soon as the work on them ends"
	}
	return "as soon as it has all of its nodes"
}

// shunned names a node that has room for a shape and could not start it.
func (st *step) shunned(of shape) string {
	if of.avoid == "" {
		return ""
	}
	for _, n := range st.sorted() {
		if n.space != nowhere && st.shuns(of, n) && st.kindSuits(of, n) && fits(n.total(), n.used, of.resources()) {
			return n.Name
		}
	}
	return ""
}

// asideText says what is quarantined, and until when, behind a separator; "" when
// nothing is.
func (st *step) asideText(separator string) string {
	n, until := 0, time.Time{}
	for _, node := range st.Nodes {
		if node.State == pool.NodeQuarantined {
			if n++; until.IsZero() || node.QuarantinedUntil().Before(until) {
				until = node.QuarantinedUntil()
			}
		}
	}
	switch {
	case n == 0:
		return ""
	case !until.After(st.now):
		return separator + nodes(n, "is quarantined and leaves when its work has ended", "are quarantined and leave one after the other")
	case n == 1:
		return fmt.Sprintf("%s1 node is quarantined until %s", separator, stamp(until))
	}
	return fmt.Sprintf("%s%d nodes are quarantined, the first of them until %s", separator, n, stamp(until))
}

// canGive reports whether a set's nodes can take a shape.
func (st *step) canGive(set *pool.Set, of shape) bool {
	if of.regular && set.Spot && st.Head.Spec.HasRegular() {
		return false
	}
	has := st.newNodeHas(set)
	return has.CPUs == 0 || times(has, job.Resources{}, of.resources()) >= 1
}

// comingFor counts the nodes on their way that can take a shape.
func (st *step) comingFor(of shape) int {
	count := 0
	for i := range st.Head.Sets {
		if set := &st.Head.Sets[i]; st.canGive(set, of) {
			count += st.censusOf(set).coming + set.Pending()
		}
	}
	return count
}

// overLimit says which limit of its team a job would exceed. Something of the team
// runs then: a limit that lets nothing run refuses the job.
func (st *step) overLimit(j *Job) string {
	l, t, r := st.Head.Spec.LimitOf(j.Spec.Team), st.teams[j.Spec.Team], j.Spec.Total()
	if t == nil {
		t = &team{}
	}
	for _, b := range []struct {
		what        string
		most        *int
		have, wants int
	}{{"jobs", l.Jobs, t.jobs, 1}, {"cpus", l.CPUs, t.cpus, r.CPUs}, {"gpus", l.GPUs, t.gpus, r.GPUs}} {
		if b.most != nil && b.have+b.wants > *b.most {
			return fmt.Sprintf("team %q has %d of its %d %s in use, and this job takes %d", j.Spec.Team, b.have, *b.most, b.what, b.wants)
		}
	}
	return ""
}

// roomFor names a node that has room for a shape now.
func (st *step) roomFor(of shape) string {
	for free := of.cpus; free < len(st.spaces); free++ {
		for _, n := range st.spaces[free] {
			if fits(n.total(), n.used, of.resources()) && st.suits(of, n) {
				return n.Name
			}
		}
	}
	return ""
}

// roomy counts the nodes that have room for a shape now.
func (st *step) roomy(of shape) int {
	count := 0
	for free := of.cpus; free < len(st.spaces); free++ {
		for _, n := range st.spaces[free] {
			if fits(n.total(), n.used, of.resources()) && st.suits(of, n) {
				count++
			}
		}
	}
	return count
}

// firstUnfit is the job that the next step would keep a node for.
func (st *step) firstUnfit(p *placing) *Job {
	for class := range st.queue.classes {
		var line []candidate
		for name, l := range st.queue.classes[class] {
			line = append(line, candidate{l, l.first(p.out), st.charge(name)})
		}
		for c := least(line); c != nil; c = least(line) {
			if p.find(c); p.reserved != nil {
				return p.reserved.job
			}
			p.out[c.job.heap] = true
			c.job = c.line.first(p.out)
		}
	}
	return nil
}

// ahead counts the jobs that would be placed before a job if there was room for
// all of them, one after the other.
func (st *step) ahead(j *Job) int {
	count := 0
	for class := range j.inLine().class {
		for _, l := range st.queue.classes[class] {
			count += l.n
		}
	}
	place := 0
	for _, h := range j.inLine().shapes {
		for _, other := range h.jobs {
			if older(other, j) {
				place += int(other.weight)
			}
		}
	}
	count += place
	// The other teams' jobs of the class go first until their charge reaches what
	// this team's will be when the job's turn has come.
	weight := float64(st.Head.Spec.Weight(j.Spec.Team))
	until := st.charge(j.Spec.Team) + float64(place)*st.Head.Spec.PartOfNode(j.Spec.Resources)*shareAhead.Seconds()/weight
	for name, l := range st.queue.classes[j.inLine().class] {
		if l == j.inLine() {
			continue
		}
		charge, weight := st.charge(name), float64(st.Head.Spec.Weight(name))
		for _, h := range l.shapes {
			each := st.Head.Spec.PartOfNode(h.jobs[0].Spec.Resources) * shareAhead.Seconds() / weight
			n := 0
			if charge <= until && each > 0 {
				n = min(int((until-charge)/each)+1, h.n)
			}
			count += n
			charge += float64(n) * each
		}
	}
	return count
}

// ExplainPool says why a pool has the size it has, and what it waits for.
func ExplainPool(s *State, now time.Time, rules Timing) Explanation {
	st := &step{State: s, now: now, rules: rules, head: s.Head, kept: map[string]bool{}, vacate: map[string]bool{}}
	h, c := &s.Head, s.census()
	waiting := s.queue.waiting()
	e := Explanation{State: "resting", Waiting: waiting}
	const nothing = "; nothing has to be done"
	size := fmt.Sprintf("it has %s", nodes(c.here()+c.going, "", ""))
	wanted, more := st.plan()
	// Those that could give what is wanted are blocked when nothing is to be asked.
	blocked, until := st.blocked(func(set *pool.Set) bool { return len(more) > 0 || now.Before(set.Blocked.Until) || st.isHalted(set) })
	all, _ := st.blocked(func(*pool.Set) bool { return true })
	var asked []string
	for i := range h.Sets {
		if set := &h.Sets[i]; set.Op.Kind == pool.OpGrow {
			asked = append(asked, fmt.Sprintf("%d of %s in all %s ago", set.Op.Target, set, now.Sub(set.Op.AskedAt).Round(time.Second)))
		}
	}
	switch {
	case h.Deleting && len(s.Jobs) > 0:
		e.State, e.Unblocks = "deleting", "the end of its jobs and nodes"+nothing
		e.Reason = size + " left, and goes when they and its jobs are gone"
	case h.Deleting && s.anyAlive():
		e.State, e.Reason, e.Unblocks = "deleting", size+" left, and goes when they are gone", "the end of its nodes"+nothing
	case h.Deleting:
		e.State, e.Reason, e.Unblocks = "deleting", size+" left, and goes when its scale sets are gone", nextStep
		for i := range h.Sets {
			if set := &h.Sets[i]; set.Used && now.Before(set.Blocked.Until) {
				e.Unblocks = "the next attempt at " + stamp(set.Blocked.Until)
			}
		}
		if slices.ContainsFunc(h.Sets, func(set pool.Set) bool { return set.Op.Kind != "" }) {
			e.Unblocks = "Azure's answer" + nothing
		}
	case h.Down:
		e.State, e.Reason, e.Unblocks = "down", size+"; "+st.downReason(), st.upUnblocks()
	case blocked != "" && (wanted > c.working+c.coming+c.leaving+s.pending() || all != "" && st.probing()):
		e.State = "blocked"
		e.Reason = fmt.Sprintf("%s of %d wanted, since no more are asked for: %s", size, wanted, blocked)
		e.Unblocks = fmt.Sprintf("the next attempt at %s; a change of the pool tries at once", stamp(until))
		if slices.ContainsFunc(h.Sets, func(s pool.Set) bool { return s.Breaker.Open() }) {
			e.Unblocks = fmt.Sprintf("the next try, with one node, at %s; or `dsvm pool resume %s`", stamp(until), h.Spec.Name)
			if st.probing() {
				e.Unblocks = fmt.Sprintf("that node's first word, until %s; or `dsvm pool resume %s`", stamp(until), h.Spec.Name)
			}
		}
	case len(asked) > 0:
		e.State = "growing"
		e.Reason = fmt.Sprintf("%s and asked Azure for %s", size, strings.Join(asked, " and "))
		e.Unblocks = "Azure's answer" + st.givenUp() + nothing
	case c.coming+s.pending() > 0:
		e.State = "growing"
		e.Reason = fmt.Sprintf("%s: %d starting", size, c.coming)
		if n := s.pending(); n > 0 {
			e.Reason += fmt.Sprintf("; Azure does not list %d more yet that it was asked for", n)
		}
		e.Unblocks = "their agents' first word" + st.givenUp() + nothing
	case len(more) > 0 && !slices.ContainsFunc(h.Sets, func(set pool.Set) bool { return more[set.Name] > 0 && st.asksNow(&set) }):
		e.State, e.Unblocks = "growing", st.nextRequest(more)
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks for more with the next request", size, wanted)
	case len(more) > 0:
		e.State, e.Unblocks = "growing", "the next step"+nothing
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks Azure for more next", size, wanted)
	case wanted > c.counted() && st.allBusy(func(*pool.Set) bool { return true }):
		e.State, e.Unblocks = "growing", "Azure's answer"+nothing
		e.Reason = fmt.Sprintf("%s of %d wanted, and asks for more when Azure has answered what was asked before", size, wanted)
	case c.counted() >= h.Spec.Nodes.Max && waiting > 0:
		e.State, e.Reason = "full", fmt.Sprintf("%s, and `nodes.max` is %d; %s", size, h.Spec.Nodes.Max, jobs(waiting, "waits", "wait"))
		switch {
		case s.running > 0:
			e.Unblocks = "the end of work, or a higher `nodes.max`"
		case c.leaving > 0:
			e.Reason += fmt.Sprintf(", and %s", nodes(c.leaving, "is leaving", "are leaving"))
			e.Unblocks = "the end of a node that leaves" + nothing
		default:
			e.Unblocks = "the next step, which places what fits and lets nodes leave that are not of the size of what waits" + nothing
		}
	case waiting > 0 && s.running > 0:
		e.State = "working"
		e.Reason = fmt.Sprintf("%s and %s, for limits of their teams or for their turn", size, jobs(waiting, "waits", "wait"))
		e.Unblocks = "the end of work, or higher `limits`; `dsvm job explain ID` says more of each job"
	case waiting > 0:
		e.State, e.Reason = "working", fmt.Sprintf("%s and %s", size, jobs(waiting, "waits", "wait"))
		e.Unblocks = "the next step; `dsvm job explain ID` says more of each job"
	case c.here()+c.going == 0:
		e.Reason = "it has no nodes, since no job is in line; it costs nothing"
	case c.working+c.leaving+c.going == 0:
		e.Reason = size + ", and no job is in line"
	case c.working > 0 && c.working <= h.Spec.Nodes.Min:
		e.State = "working"
		e.Reason = fmt.Sprintf("%s: %d busy; its `nodes.min` is %d", size, st.busy(), h.Spec.Nodes.Min)
	default:
		e.State = "working"
		e.Reason = fmt.Sprintf("%s: %d busy, %d leaving", size, st.busy(), c.leaving+c.going)
		if c.working > st.busy() {
			e.Reason += fmt.Sprintf("; an idle one leaves after %s", h.Spec.IdleTimeout)
		}
	}
	e.Reason += st.asideText("; ")
	return e
}

// givenUp says until when the oldest of the nodes that are on their way is waited
// for.
func (st *step) givenUp() string {
	var oldest time.Time
	for i := range st.Head.Sets {
		if t := st.oldestComing(&st.Head.Sets[i]); !t.IsZero() && (oldest.IsZero() || t.Before(oldest)) {
			oldest = t
		}
	}
	if until := oldest.Add(st.rules.BootDeadline); until.After(st.now) {
		return "; the first node is given up at " + stamp(until)
	}
	return ""
}

func (s *State) busy() int {
	n := 0
	for _, node := range s.Nodes {
		if node.State == pool.NodeBusy {
			n++
		}
	}
	return n
}

// jobs and nodes write a number with its noun and verb.
func jobs(n int, one, more string) string  { return counted(n, "job", one, more) }
func nodes(n int, one, more string) string { return counted(n, "node", one, more) }

func counted(n int, noun, one, more string) string {
	verb := one
	if n != 1 {
		noun, verb = noun+"s", more
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", n, noun, verb))
}
