package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/pool"
)

// explainer says why a job or a pool is as it is. It asks the parts that decide, and
// writes nothing.
type explainer struct {
	*turn
	capacity  *capacity
	failures  *failures
	placement *placement
	sizing    *sizing
}

// Explanation says why a job or a pool is as it is, and what would change that.
type Explanation struct {
	State    string // of the job or the pool
	Reason   string // one sentence
	Unblocks string // one sentence; "" = nothing has to happen
	Ahead    int    // of a job in line: jobs that would be placed before it as the line is now
	Waiting  int    // jobs in line, this one included

	After []string // ids of jobs that it comes after and that are not known to have ended
}

// Explain says why a live job is where it is. It decides as Step does, and
// changes nothing.
func Explain(s *State, order string, now time.Time, timing Timing) (Explanation, bool) {
	j := s.Jobs.Get(order)
	if j == nil {
		return Explanation{}, false
	}
	s.open(j)
	s.reline(now)
	ex := newStep(s, now, timing).explainer
	e := Explanation{State: string(j.State)}
	switch {
	case j.VMID != "":
		e.Reason, e.Unblocks = ex.explainPlaced(j)
	case j.awaits() && j.isHeld():
		e.Reason, e.Unblocks, e.After = j.Reason+"; and "+waitsText(j), "somebody who releases or cancels it", j.waitsFor()
	case j.awaits():
		e.Reason, e.Unblocks = waitsText(j), "the end of the jobs it comes after; when one of them ends otherwise than it asks, it is cancelled"
		e.After = j.waitsFor()
	case j.heap != nil && j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason, e.Unblocks = "its time has come", nextStep
	case j.Spec.Sweep != nil && j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason, e.Unblocks = ex.explainSweep(j)
	case j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason = fmt.Sprintf("its sweep runs %d members at once, which is its `parallel`", s.sweepOf(j).job.Spec.Sweep.Parallel)
		e.Unblocks = "the end of one of them"
	case j.NotBefore.Equal(untilReleased):
		e.Reason, e.Unblocks = j.Reason, "somebody who releases or cancels it"
	case j.inLine() == nil:
		e.Reason = fmt.Sprintf("it may not start before %s", stamp(j.NotBefore))
		if j.Reason != "" && !strings.HasPrefix(j.Reason, "not before") {
			e.Reason += ": " + j.Reason
		}
		e.Unblocks = "the time; nothing has to be done"
	default:
		e.Waiting = ex.line.waiting()
		if j.inLine().class != stopped {
			e.Ahead = ex.ahead(j)
		}
		e.Reason, e.Unblocks = ex.explainWaiting(j)
	}
	return e, true
}

// explainSweep says what a sweep waits for if none of its members is in line.
func (ex *explainer) explainSweep(j *Job) (reason, unblocks string) {
	p, all := j.Progress, j.Spec.Sweep.Members()
	held := 0
	for m := range ex.sweeps[j.Order].live {
		if m.VMID == "" && m.NotBefore.Equal(untilReleased) {
			held++
		}
	}
	switch {
	case j.Cancel != "" && p.Live == 0:
		return "it was cancelled", nextStep
	case j.Cancel != "":
		return fmt.Sprintf(
			"it was cancelled, and %s",
			countJobs(p.Live, "of it has not ended", "of it have not ended"),
		), "their nodes' answers"
	case j.Unstarted() > 0:
		return fmt.Sprintf("%d of its %d members have ended, and %d run at once, which is its `parallel`", p.Ended(), all, p.Running),
			"the end of one of them"
	}
	reason = fmt.Sprintf("all of its %d members have begun; %d have ended and %d run", all, p.Ended(), p.Running)
	if held > 0 {
		reason += fmt.Sprintf(", and %d are held: `dsvm job list --sweep %s --state held`", held, j.ID)
		return reason, "somebody who releases or cancels those that are held"
	}
	return reason, "their ends; nothing has to be done"
}

// explainWaiting says why a job in line has no place. If there are several reasons, it
// gives the one that the step meets first.
func (ex *explainer) explainWaiting(j *Job) (reason, unblocks string) {
	spec := &ex.Head.Spec
	switch {
	case ex.Head.Deleting:
		return "its pool is being deleted, and it with it", "the next step, which cancels it"
	case ex.Head.Down:
		return ex.downReason(), ex.upUnblocks()
	}
	if of := ex.standingOf(j, budget.Holds); of != nil {
		return of.Sentence(ex.now), of.Unblocks()
	}
	if err := refuses(spec, j); err != nil {
		return "the pool has been changed, and no node of it can ever run this job: " + err.Message,
			"a change of the pool; or cancel it and send another"
	}
	if of := ex.standingOf(j, budget.Stops); of != nil {
		return of.Sentence(ex.now) + "; it takes only room that other work leaves, and no node is asked for on its account",
			"room that nothing else wants, or " + of.Unblocks()
	}
	if sentence := ex.overLimit(j); sentence != "" {
		return sentence, "the end of a job of the team, or a higher limit in the pool's `limits`"
	}
	ahead := ""
	if n := ex.ahead(j); n > 0 {
		ahead = fmt.Sprintf(", and %s before it in line", ex.countWork(n, "goes", "go"))
	}
	of := shapeOf(j)
	if free := ex.placement.nodeWithRoom(of); free != "" && ex.placement.countNodesWithRoom(of) >= of.nodes {
		if first := ex.placement.reserveAhead(); first != nil && first != j && !ex.isAllowedBy(ex.placement.reservation, of) {
			when := ex.beginsAt(ex.placement.reservation)
			return fmt.Sprintf("node %s has room, but is kept for job %s, which is before it in line and begins %s", free, first.ID, when),
				"the start of that job, or a `timeout` short enough to end before it"
		}
		return fmt.Sprintf("node %s has room for it, and the next step places what is first in line%s", free, ahead), nextStep
	}
	if ex.noSetHas(of) {
		if ex.letsNobodyIn() {
			return fmt.Sprintf("no node of pool %q can let people in: its agent does not run as root, finds no SSH server, or is an older one%s",
				spec.Name, ahead), nodesForPeople
		}
		if ex.countWith(of.needs) == 0 {
			return fmt.Sprintf("it waits for a node with %s; the nodes of pool %q run an older agent%s",
				featuresText(of.needs), spec.Name, ahead), newerNodes
		}
		return fmt.Sprintf("no node with %s has room for it, and another would run an older agent%s", featuresText(of.needs), ahead),
			"the end of what runs on those nodes, or " + newerNodes
	}
	no := "no node has room for it"
	if n := ex.countWith("") - ex.countWith(of.needs); n > 0 {
		no = fmt.Sprintf("no node with %s has room for it, and %s", featuresText(of.needs),
			countNodes(n, "runs an older agent", "run an older agent"))
	}
	if of.nodes > 1 {
		ahead = fmt.Sprintf(" (it takes %d nodes at once, of which %d have room)", of.nodes, ex.placement.countNodesWithRoom(of)) + ahead
	}
	if bad := ex.shunnedNode(of); bad != "" {
		no = fmt.Sprintf("no other node has room for it (node %s has room, but could not start it)", bad)
	}
	no += ex.quarantineText(", ")
	can := func(s *pool.Set) bool { return ex.canGive(s, of) }
	if why, until := ex.capacity.blockReason(can); why != "" && ex.capacity.isProbing() {
		return fmt.Sprintf("%s, and no more are asked for: %s%s", no, why, ahead),
			fmt.Sprintf("that node's first report, until %s; or `dsvm pool resume %s`", stamp(until), spec.Name)
	}
	c := ex.census()
	if coming := ex.comingFor(of); coming > 0 {
		comes := countNodes(coming, "is on its way", "are on their way")
		if j.Session != nil {
			comes = ex.comingText(can)
		}
		text := fmt.Sprintf("%s, and %s%s", no, comes, ahead)
		if boot := ex.bootText(can); boot != "" {
			return text + "; " + boot, "a node that comes up; `dsvm node list` shows how far each of them is"
		}
		return text, "a node that comes up; nothing has to be done"
	}
	if c.counted()+ex.pending() >= spec.Nodes.Max {
		return ex.explainFull(c, no, ahead)
	}
	if why, until := ex.capacity.blockReason(can); why != "" {
		return fmt.Sprintf("%s, and no more are asked for: %s", no, why),
			fmt.Sprintf("the next attempt at %s, or a pool that is changed", stamp(until))
	}
	const answer = "Azure's answer; nothing has to be done"
	if ex.allBusy(can) {
		return no + "; another is asked for when Azure has answered what was asked before" + ahead, answer
	}
	_, more := ex.sizing.plan()
	gives := slices.DeleteFunc(slices.Clone(ex.Head.Sets), func(set pool.Set) bool { return more[set.Name] == 0 || !can(&set) })
	switch {
	case len(gives) == 0:
		if len(more) > 0 {
			if !slices.ContainsFunc(ex.Head.Sets, func(set pool.Set) bool { return more[set.Name] > 0 && ex.capacity.mayAskNow(&set) }) {
				return no + "; the next request is for nodes for others" + ahead, ex.capacity.nextRequestText(more)
			}
			return no + "; the next step asks for nodes for others first" + ahead, nextStep
		}
		if ex.waitsForList(can) {
			return no + "; another is asked for when a list shows how many Azure has made in the place of nodes that have left" + ahead,
				"Azure's list; nothing has to be done"
		}
		if set := ex.bringsTooMany(can); set != nil {
			return no + "; " + ex.bringsText(set) + ahead, roomForThem
		}
		return fmt.Sprintf(
				"%s, and none is asked for on its account: the jobs of team %q before it in line are as many as its limit leaves",
				no,
				j.Spec.Team,
			) + ahead,
			"the end of those jobs, or a higher limit in the pool's `limits`"
	case !slices.ContainsFunc(gives, func(set pool.Set) bool { return ex.capacity.mayAskNow(&set) }):
		return no + "; another is asked for with the next request" + ahead, ex.capacity.nextRequestText(more)
	}
	return no + "; the next step asks for another" + ahead, nextStep
}

// allBusy reports whether all rungs that could give a node are being deleted, so that no
// node is asked for before Azure has answered.
func (ex *explainer) allBusy(can func(*pool.Set) bool) bool {
	busy := false
	for i := range ex.Head.Sets {
		set := &ex.Head.Sets[i]
		if ex.rungOf(set.Name) < 0 || !can(set) || ex.now.Before(set.Blocked.Until) {
			continue
		}
		if set.Op.Kind != pool.OpDrop {
			return false
		}
		busy = true
	}
	return busy
}

// waitsForList reports whether no rung that could give a node is asked for one before a list
// shows what the others have made.
func (ex *explainer) waitsForList(can func(*pool.Set) bool) bool {
	free, waits := ex.room(), false
	for i := range ex.Head.Sets {
		set := &ex.Head.Sets[i]
		if ex.rungOf(set.Name) < 0 || !can(set) || ex.now.Before(set.Blocked.Until) || set.Model.Fixed || ex.capacity.mayBuy(set, 1) < 1 {
			continue
		}
		brings := max(ex.unbackedBeyond(set), 1)
		if brings > free {
			continue
		}
		if free >= brings+ex.unseenBeside(set) {
			return false
		}
		waits = true
	}
	return waits
}

// bringsTooMany is a rung that is asked for nothing since its next node would not come alone,
// and the pool has no room for all that would come; nil: there is none.
func (ex *explainer) bringsTooMany(can func(*pool.Set) bool) *pool.Set {
	for i := range ex.Head.Sets {
		set := &ex.Head.Sets[i]
		if ex.rungOf(set.Name) >= 0 && can(set) && !ex.now.Before(set.Blocked.Until) && ex.unbackedBeyond(set) > ex.room() {
			return set
		}
	}
	return nil
}

// roomForThem is what a rung waits for that would bring too many nodes.
const roomForThem = "room for them in `nodes.max`, or the end of the nodes of that set; nothing has to be done"

func (ex *explainer) bringsText(set *pool.Set) string {
	return fmt.Sprintf("a request to %s would bring all %d nodes that it failed to make before, and the pool may have %d more",
		set, ex.unbackedBeyond(set), max(ex.room(), 0))
}

// explainFull says what a job waits for in a pool that has all nodes it may have.
func (ex *explainer) explainFull(c census, no, ahead string) (reason, unblocks string) {
	all := fmt.Sprintf("%s, and the pool has all of its %s", no, countNodes(ex.Head.Spec.Nodes.Max, "", ""))
	if c.leaving > 0 {
		all += fmt.Sprintf(", of which %s", countNodes(c.leaving, "is leaving", "are leaving"))
	}
	switch {
	case ex.running > 0:
		return all + ahead, "the end of other work, or a higher `nodes.max`"
	case c.leaving > 0:
		return all + ahead, "the end of a node that leaves; nothing has to be done"
	case c.coming+ex.pending() > 0:
		return all + ", which are not of its size" + ahead, "a node that comes up, and leaves again to make room; or a higher `nodes.max`"
	}
	return all + ", which are idle and not of its size" + ahead, "a node that leaves to make room; nothing has to be done"
}

// isAllowedBy reports whether a reservation leaves a shape the nodes that it needs.
func (ex *explainer) isAllowedBy(r *reservation, of shape) bool {
	found := 0
	for _, at := range ex.index[min(of.cpus, len(ex.index)):] {
		for _, n := range at {
			if fits(n.total(), n.used, of.resources()) && ex.placement.suits(of, n) && r.allows(of, n, ex.now) {
				found++
			}
		}
	}
	return found >= of.nodes
}

// upUnblocks says what brings a pool up that is down.
func (ex *explainer) upUnblocks() string {
	if ex.Head.Spec.Schedule == nil {
		return nextStep
	}
	return "the pool's upAt, or a change of its `schedule`"
}

// beginsAt says when the job of a reservation begins.
func (ex *explainer) beginsAt(r *reservation) string {
	switch {
	case !r.at.IsZero() && r.at.After(ex.now):
		return "at " + stamp(r.at) + " at the latest"
	case ex.running > 0:
		return "as soon as the work on them ends"
	}
	return "as soon as it has all of its nodes"
}

// shunnedNode names a node that has room for a shape and could not start it; "" = there is
// none.
func (ex *explainer) shunnedNode(of shape) string {
	if of.avoid == "" {
		return ""
	}
	for _, n := range ex.sortedNodes() {
		if n.freeSlot != notIndexed && ex.failures.isShunned(of, n) && ex.kindSuits(of, n) && fits(n.total(), n.used, of.resources()) {
			return n.Name
		}
	}
	return ""
}

// quarantineText says how many nodes are quarantined, and until when, after a separator;
// "" = none.
func (ex *explainer) quarantineText(separator string) string {
	n, until := 0, time.Time{}
	for _, node := range ex.Nodes {
		if node.State == pool.NodeQuarantined {
			if n++; until.IsZero() || node.QuarantinedUntil().Before(until) {
				until = node.QuarantinedUntil()
			}
		}
	}
	switch {
	case n == 0:
		return ""
	case !until.After(ex.now):
		return separator + countNodes(
			n,
			"is quarantined and leaves when its work has ended",
			"are quarantined and leave one after the other",
		)
	case n == 1:
		return fmt.Sprintf("%s1 node is quarantined until %s", separator, stamp(until))
	}
	return fmt.Sprintf("%s%d nodes are quarantined, the first of them until %s", separator, n, stamp(until))
}

// comingFor counts the nodes that are coming and can take a shape.
func (ex *explainer) comingFor(of shape) int {
	count := 0
	for i := range ex.Head.Sets {
		if set := &ex.Head.Sets[i]; ex.canGive(set, of) {
			count += ex.censusOf(set).coming + set.Pending()
		}
	}
	return count
}

// bootText says how far a node of these sets is that is on its way and has reported a stage of
// its boot, the one that has been in it longest; "" = none has.
func (ex *explainer) bootText(of func(*pool.Set) bool) string {
	var first *Node
	for _, n := range ex.Nodes {
		set := ex.set(n.Set)
		if n.State != pool.NodeBooting || n.Stage == "" || set == nil || !of(set) {
			continue
		}
		if first == nil || n.Since.Before(first.Since) || n.Since.Equal(first.Since) && n.VMID < first.VMID {
			first = n
		}
	}
	if first == nil {
		return ""
	}
	return "node " + first.Name + " " + stageText(first)
}

// overLimit says which limit of its team a job would exceed; "" = none. If it exceeds one,
// the team has other jobs running: a job that exceeds a limit alone is refused.
func (ex *explainer) overLimit(j *Job) string {
	l, t, r := ex.Head.Spec.LimitOf(j.Spec.Team), ex.teams[j.Spec.Team], j.Spec.Total()
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

// ahead counts the jobs that would be placed before a job if there was room for all of
// them.
func (ex *explainer) ahead(j *Job) int {
	count := 0
	for class := range j.inLine().class {
		for _, l := range ex.line.classes[class] {
			count += l.n
		}
	}
	place := 0
	for _, h := range j.inLine().shapes {
		for _, other := range h.jobs {
			if isOlder(other, j) {
				place += int(other.weight)
			}
		}
	}
	count += place
	// Jobs of other teams in the class are first until their team's charge reaches the
	// charge that this team will have when the job's turn comes.
	weight := float64(ex.Head.Spec.Weight(j.Spec.Team))
	until := ex.charge(j.Spec.Team) + float64(place)*ex.Head.Spec.PartOfNode(j.Spec.Resources)*shareAhead.Seconds()/weight
	for name, l := range ex.line.classes[j.inLine().class] {
		if l == j.inLine() {
			continue
		}
		charge, weight := ex.charge(name), float64(ex.Head.Spec.Weight(name))
		for _, h := range l.shapes {
			each := ex.Head.Spec.PartOfNode(h.jobs[0].Spec.Resources) * shareAhead.Seconds() / weight
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

// givenUpText says when the oldest of the nodes that are coming is given up; "" = no node
// is coming.
func (ex *explainer) givenUpText() string {
	var oldest time.Time
	for i := range ex.Head.Sets {
		if t := ex.oldestComing(&ex.Head.Sets[i]); !t.IsZero() && (oldest.IsZero() || t.Before(oldest)) {
			oldest = t
		}
	}
	if until := oldest.Add(ex.timing.BootDeadline); until.After(ex.now) {
		return "; the first node is given up at " + stamp(until)
	}
	return ""
}
