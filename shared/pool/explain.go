package pool

import (
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/job"
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
func Explain(s *State, order string, now time.Time, rules Rules) (Explanation, bool) {
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
	case j.Spec.Sweep != nil && j.inLine() == nil && !j.NotBefore.After(now):
		e.Reason, e.Unblocks = explainSweep(j)
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

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (st *step) explainPlaced(j *Job) (reason, unblocks string) {
	name := j.current().Node
	if more := j.Spec.Nodes - 1; more > 0 {
		name += fmt.Sprintf(" and %d more", more)
	}
	switch {
	case j.Cancel != "":
		return fmt.Sprintf("node %s was asked to end it: %s", name, j.Cancel), "the node's answer, or the end of the node"
	case j.State == job.Assigned && j.Requeue:
		return fmt.Sprintf("node %s has not begun it, and was asked to give it back %s ago", name, st.now.Sub(j.CancelAt).Round(time.Second)),
			fmt.Sprintf("the node's answer; without one by %s the node gets nothing more, and is deleted when nothing else runs on it", stamp(j.CancelAt.Add(st.rules.AssignedFor)))
	case j.State == job.Assigned:
		return fmt.Sprintf("it was given to node %s %s ago, which has not begun it yet", name, st.now.Sub(j.current().AssignedAt).Round(time.Second)),
			fmt.Sprintf("the node's answer; without one it is sent again, and asked back at %s", stamp(j.current().AssignedAt.Add(st.rules.AssignedFor)))
	}
	return fmt.Sprintf("it has been running on node %s since %s", name, stamp(j.current().StartedAt)), ""
}

// explainSweep says what a sweep waits for of which nothing is in line.
func explainSweep(j *Job) (reason, unblocks string) {
	p, all := j.Progress, j.Spec.Sweep.Members()
	switch {
	case j.Cancel != "":
		return fmt.Sprintf("it was cancelled, and %s", jobs(p.Live, "of it has not ended", "of it have not ended")), "their nodes' answers"
	case j.unstarted() > 0:
		return fmt.Sprintf("%d of its %d members have ended, and %d run at once, which is its `parallel`", p.Ended(), all, p.Running), "the end of one of them"
	}
	return fmt.Sprintf("all of its %d members have begun; %d have ended and %d run", all, p.Ended(), p.Running), "their ends; nothing has to be done"
}

// explainWaiting says why a job in line has no place. The first reason that
// stands in its way is told, in the order in which the step meets them.
func (st *step) explainWaiting(j *Job) (reason, unblocks string) {
	spec := &st.Head.Spec
	switch {
	case st.Head.Deleting:
		return "its pool is being deleted", ""
	case st.Head.Down:
		return st.downReason(), "the pool's upAt, or a change of its `schedule`"
	}
	if sentence := st.overLimit(j); sentence != "" {
		return sentence, "the end of a job of the team, or a higher limit in the pool's `limits`"
	}
	c := st.census()
	ahead := ""
	if n := st.ahead(j); n > 0 {
		ahead = fmt.Sprintf(", and %s before it in line", jobs(n, "goes", "go"))
	}
	of := shapeOf(j)
	if free := st.roomFor(of); free != "" && st.roomy(of) >= of.nodes {
		p := &placing{step: st, unfit: map[shape]bool{}, out: map[*jobHeap]bool{}}
		if first := st.firstUnfit(p); first != nil && first != j && len(p.reserved.spare) > 0 {
			when := "as soon as its work ends"
			if !p.reserved.at.IsZero() {
				when = "at " + stamp(p.reserved.at) + " at the latest"
			}
			return fmt.Sprintf("node %s has room, but is kept for job %s, which is before it in line and begins %s", free, first.ID, when),
				"a `timeout` short enough to end before then, or the end of other work"
		}
		return fmt.Sprintf("node %s has room for it, and the next step places it%s", free, ahead), ""
	}
	if of.nodes > 1 {
		ahead = fmt.Sprintf(" (it takes %d nodes at once, of which %d have room)", of.nodes, st.roomy(of)) + ahead
	}
	if coming := c.coming + st.pending(); coming > 0 {
		return fmt.Sprintf("no node has room for it, and %s%s", nodes(coming, "is on its way", "are on their way"), ahead), "a node that comes up; nothing has to be done"
	}
	if why, until := st.blocked(func(s *Set) bool { return !of.regular || !s.Spot || !spec.hasRegular() }); why != "" {
		return fmt.Sprintf("no node has room for it, and no more are asked for: %s", why),
			fmt.Sprintf("the next attempt at %s, or a pool that is changed", stamp(until))
	}
	if c.here() >= spec.Nodes.Max {
		return fmt.Sprintf("no node has room for it, and the pool has all of its %s%s", nodes(spec.Nodes.Max, "", ""), ahead), "the end of other work, or a higher `nodes.max`"
	}
	return "no node has room for it; another is about to be asked for" + ahead, "a node that comes up; nothing has to be done"
}

// overLimit says which limit of its team a job would exceed.
func (st *step) overLimit(j *Job) string {
	l, t, r := st.Head.Spec.limit(j.Spec.Team), st.teams[j.Spec.Team], j.Spec.Resources
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
	weight := float64(st.Head.Spec.weight(j.Spec.Team))
	until := st.charge(j.Spec.Team) + float64(place)*st.Head.Spec.part(j.Spec.Resources)*shareAhead.Seconds()/weight
	for name, l := range st.queue.classes[j.inLine().class] {
		if l == j.inLine() {
			continue
		}
		charge, weight := st.charge(name), float64(st.Head.Spec.weight(name))
		for _, h := range l.shapes {
			each := st.Head.Spec.part(h.jobs[0].Spec.Resources) * shareAhead.Seconds() / weight
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
func ExplainPool(s *State, now time.Time, rules Rules) Explanation {
	st := &step{State: s, now: now, rules: rules, head: s.Head, kept: map[string]bool{}, vacate: map[string]bool{}}
	h, c := &s.Head, s.census()
	waiting := s.queue.waiting()
	e := Explanation{State: "resting", Waiting: waiting}
	size := fmt.Sprintf("it has %s", nodes(c.here()+c.going, "", ""))
	blocked, until := st.blocked(func(*Set) bool { return true })
	var asked []string
	for i := range h.Sets {
		if set := &h.Sets[i]; set.Op.Kind == OpGrow {
			asked = append(asked, fmt.Sprintf("%d of %s in all %s ago", set.Op.Target, set, now.Sub(set.Op.AskedAt).Round(time.Second)))
		}
	}
	switch {
	case h.Deleting:
		e.State, e.Reason, e.Unblocks = "deleting", size+" left, and goes when they and its jobs are gone", "the end of its work; nothing has to be done"
	case h.Down:
		e.State, e.Reason, e.Unblocks = "down", size+"; "+st.downReason(), "the pool's upAt, or a change of its `schedule`"
	case blocked != "":
		e.State = "blocked"
		e.Reason = fmt.Sprintf("%s of %d wanted, since no more are asked for: %s", size, h.Wanted, blocked)
		e.Unblocks = fmt.Sprintf("the next attempt at %s; a change of the pool tries at once", stamp(until))
	case len(asked) > 0:
		e.State = "growing"
		e.Reason = fmt.Sprintf("%s and asked Azure for %s", size, strings.Join(asked, " and "))
		e.Unblocks = "Azure's answer; nothing has to be done"
	case c.coming+s.pending() > 0:
		e.State = "growing"
		e.Reason = fmt.Sprintf("%s, of which %s, and %d asked for have not been seen yet", size, nodes(c.coming, "is starting", "are starting"), s.pending())
		e.Unblocks = "their agents' first word; nothing has to be done"
	case c.here() >= h.Spec.Nodes.Max && waiting > 0:
		e.State, e.Reason = "full", fmt.Sprintf("%s, which is its `nodes.max`, and %s", size, jobs(waiting, "waits", "wait"))
		e.Unblocks = "the end of work, or a higher `nodes.max`"
	case waiting > 0:
		e.State, e.Reason = "working", fmt.Sprintf("%s and %s, all of them for limits of their teams or for their turn", size, jobs(waiting, "waits", "wait"))
		e.Unblocks = "the end of work, or higher `limits`; dsvm job explain tells for each job"
	case c.working+c.leaving+c.going == 0:
		e.Reason = "it has no nodes, since no job waits; it costs nothing"
	default:
		e.State = "working"
		e.Reason = fmt.Sprintf("%s, of which %d work, %d are leaving and the idle ones leave after %s", size, st.busy(), c.leaving+c.going, h.Spec.IdleTimeout)
		if c.working <= h.Spec.Nodes.Min {
			e.Reason = fmt.Sprintf("%s, which is its `nodes.min`", size)
		}
	}
	return e
}

func (s *State) busy() int {
	n := 0
	for _, node := range s.Nodes {
		if node.State == NodeBusy {
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
