package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Claims checks that what both explains say of a pool and of all its live jobs holds
// there: what is waited for can happen. It returns what is not so, or "". Every
// sentence has to be known here, so that a new one comes with its check.
func Claims(s *State, now time.Time, timing Timing) string {
	c := claims{s: s, now: now, timing: timing}
	c.pool(ExplainPool(s, now, timing))
	for _, j := range s.liveJobs() {
		e, ok := Explain(s, j.Order, now, timing)
		if !ok || e.Reason == "" {
			c.fail("job %s has no reason", j.ID)
			continue
		}
		c.about = fmt.Sprintf("job %s is %s: %s; it waits for: %s", j.ID, j.State, e.Reason, e.Unblocks)
		c.job(j, e)
	}
	return c.wrong
}

type claims struct {
	s      *State
	now    time.Time
	timing Timing
	about  string
	wrong  string
	after  *State // one step later
	next   Result
}

func (c *claims) fail(format string, args ...any) {
	if c.wrong == "" {
		c.wrong = c.about + "\n  but " + fmt.Sprintf(format, args...)
	}
}

func (c *claims) must(holds bool, format string, args ...any) {
	if !holds {
		c.fail(format, args...)
	}
}

// copyOf is a state made of the rows of another.
func copyOf(s *State, now time.Time) *State {
	var head pool.Head
	row := func(from, into any) {
		text, err := json.Marshal(from)
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			panic(err)
		}
	}
	row(s.Head, &head)
	var nodes []*pool.Node
	var jobs []*pool.Job
	for _, n := range s.Nodes {
		copied := &pool.Node{}
		row(n, copied)
		nodes = append(nodes, copied)
	}
	for _, j := range s.liveJobs() {
		copied := &pool.Job{}
		row(j, copied)
		jobs = append(jobs, copied)
	}
	slices.SortFunc(nodes, func(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) })
	return NewState(head, nodes, jobs, now)
}

// step is what the next step does, without any event.
func (c *claims) step() (*State, Result) {
	if c.after == nil {
		c.after = copyOf(c.s, c.now)
		c.next = Step(c.after, nil, c.now, c.timing)
	}
	return c.after, c.next
}

var timeIn = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// future checks the time that a sentence names.
func (c *claims) future(sentence string) {
	at, err := time.Parse(time.RFC3339, timeIn.FindString(sentence))
	// A stamp leaves off what is less than a second.
	c.must(err == nil && at.Add(time.Second).After(c.now), "the time it names is past: it is %s", stamp(c.now))
}

func (c *claims) anyNode(states ...pool.NodeState) bool {
	for _, n := range c.s.Nodes {
		if slices.Contains(states, n.State) {
			return true
		}
	}
	return false
}

func (c *claims) anySet(of func(*pool.Set) bool) bool {
	for i := range c.s.Head.Sets {
		if of(&c.s.Head.Sets[i]) {
			return true
		}
	}
	return false
}

// coming reports whether a machine is on its way, as far as rows say.
func (c *claims) coming() bool {
	return c.anyNode(pool.NodeCreating, pool.NodeBooting) || c.s.pending() > 0
}

func (c *claims) works(other *Job) bool {
	for j := range c.s.Jobs.All() {
		if j != other && j.VMID != "" {
			return true
		}
	}
	return false
}

// full reports whether the pool has as many nodes as it may.
func (c *claims) full() bool {
	n := 0
	for _, node := range c.s.Nodes {
		switch node.State {
		case pool.NodeGone, pool.NodeDeleting, pool.NodeQuarantined:
		default:
			n++
		}
	}
	return n+c.s.pending() >= c.s.Head.Spec.Nodes.Max
}

// reason checks what the sentences say about nodes.
func (c *claims) reason(text string) {
	if strings.Contains(text, "quarantined until") || strings.Contains(text, "quarantined, the first of them until") {
		_, rest, _ := strings.Cut(text, "quarantined")
		c.future(rest)
	}
	if strings.Contains(text, "quarantined") && !strings.Contains(text, "`dsvm job release ") {
		c.must(c.anyNode(pool.NodeQuarantined), "no node is quarantined")
	}
	if strings.Contains(text, "on its way") || strings.Contains(text, "on their way") || strings.Contains(text, " is booting (") ||
		strings.Contains(text, " starting") && !strings.Contains(text, ": 0 starting") {
		c.must(c.coming(), "nothing is coming")
	}
	if strings.Contains(text, "no more are asked for") {
		after, r := c.step()
		// A job that is placed next changes the demand: a node that has just left reserves
		// nothing any more.
		placed := after.line.waiting() < c.s.line.waiting()
		for name, call := range r.Effects.Sets {
			c.must(
				placed || call.Grow == 0 || c.s.set(name).Op.Kind == pool.OpGrow || strings.Contains(c.about, "job "),
				"the next step asks for %d of %s", call.Grow, name,
			)
		}
	}
	if strings.Contains(text, "idle one leaves after") {
		c.must(c.anyNode(pool.NodeReady), "no node is idle")
	}
	if strings.Contains(text, " leaving") && !strings.Contains(text, ", 0 leaving") {
		c.must(c.anyNode(pool.NodeDraining, pool.NodeDeleting, pool.NodeFailed, pool.NodeLost), "no node leaves")
	}
	if strings.Contains(text, "it costs nothing") {
		c.must(
			!c.anyNode(
				pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeBusy, pool.NodeDraining, pool.NodeDeleting,
				pool.NodeLost, pool.NodeFailed, pool.NodeQuarantined,
			),
			"it has nodes",
		)
	}
	if strings.Contains(text, "the pool has all of its") || strings.Contains(text, "and `nodes.max` is") {
		c.must(c.full(), "it may have more")
	}
}

// waits checks what is waited for and said of pools and jobs alike; false: it is none
// of these.
func (c *claims) waits(j *Job, unblocks string) bool {
	if _, rest, found := strings.Cut(unblocks, "is given up at "); found {
		c.future(rest)
	}
	switch {
	case unblocks == nextStep,
		strings.HasPrefix(unblocks, "the next step, which places what fits"),
		strings.HasPrefix(unblocks, "the next step; `dsvm job explain"):
		_, r := c.step()
		c.must(r.Changed || r.Effects.DropRows || len(r.Effects.Remove) > 0, "the next step does nothing")
	case strings.HasPrefix(unblocks, "the next attempt at "):
		c.future(unblocks)
		c.must(!c.full() || c.s.Head.Deleting, "no attempt is made while the pool has all of its nodes")
	case strings.HasPrefix(unblocks, "the next request, at "):
		c.future(unblocks)
		_, r := c.step()
		c.must(calls(r) == 0, "the next step asks already")
	case strings.HasPrefix(unblocks, "the next try, with one node, at "):
		c.future(unblocks)
		c.must(c.anySet(func(s *pool.Set) bool { return s.Breaker.Open() }), "no breaker is open")
	case strings.HasPrefix(unblocks, "that node's first report, until "):
		c.future(unblocks)
		c.must(c.coming() && c.anySet(func(s *pool.Set) bool { return s.Breaker.Open() }), "nothing is coming to see")
	case strings.HasPrefix(unblocks, "the pool's upAt"):
		down, _, until := c.s.Head.Spec.Schedule.Window(c.now)
		c.must(c.s.Head.Down && (until.After(c.now) || !down), "the pool is not down")
	case strings.HasPrefix(unblocks, "Azure's answer"):
		c.must(c.anySet(func(s *pool.Set) bool { return s.Op.Kind != "" }), "nothing is asked of Azure")
	case unblocks == roomForThem:
		c.must(c.anySet(func(s *pool.Set) bool { return c.s.unbackedBeyond(s) > c.s.room() }), "there is room for them")
	case strings.HasPrefix(unblocks, "Azure's list"):
		c.must(!c.full() && c.anySet(func(s *pool.Set) bool { return c.s.unseen(s) > 0 }), "a list shows nothing that it does not know")
	case strings.HasPrefix(unblocks, "a list of Azure that shows"):
		_, r := c.step()
		c.must(!c.anySet(func(s *pool.Set) bool { return s.Op.Kind != "" }), "Azure is at work for it")
		drops := slices.ContainsFunc(slices.Collect(maps.Values(r.Effects.Sets)), func(s *pool.SetCalls) bool { return s.Drop }) // it was listed just now
		c.must(drops || r.Effects.List || c.anySet(func(s *pool.Set) bool { return s.Used && s.Capacity > 0 }), "no list is asked for")
	case strings.HasPrefix(unblocks, "the end of other work"), strings.HasPrefix(unblocks, "the end of work"):
		c.must(c.works(j), "nothing else runs")
	case strings.HasPrefix(unblocks, "the end of a node that leaves"):
		c.must(c.anyNode(pool.NodeDraining, pool.NodeFailed, pool.NodeLost), "no node leaves")
	case strings.HasPrefix(unblocks, "a node that comes up"), strings.HasPrefix(unblocks, "their agents' first report"),
		strings.HasPrefix(unblocks, "the end of their boot"):
		c.must(c.coming(), "no node is coming")
	case strings.Contains(unblocks, "the next period at "):
		c.budget(j, unblocks)
	default:
		return false
	}
	return true
}

// budget checks that a budget keeps a job from starting, or all that waits.
func (c *claims) budget(j *Job, unblocks string) {
	c.future(unblocks)
	class := stopped
	if strings.HasPrefix(unblocks, "room that nothing else wants") {
		class = spared
	}
	if j != nil {
		c.must(j.inLine() != nil && j.inLine().class == class, "it is not in that class of the line")
		return
	}
	c.must(c.s.line.waiting() > 0 && c.s.line.wanting() == 0, "%d of %d in line may have nodes", c.s.line.wanting(), c.s.line.waiting())
}

func (c *claims) pool(e Explanation) {
	c.about = fmt.Sprintf("the pool is %s: %s; it waits for: %s", e.State, e.Reason, e.Unblocks)
	c.reason(e.Reason)
	nodes := c.anyNode(
		pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeBusy, pool.NodeDraining, pool.NodeDeleting, pool.NodeLost,
		pool.NodeFailed, pool.NodeQuarantined,
	)
	switch u := e.Unblocks; {
	case u == "":
		c.must(c.s.line.waiting() == 0, "%d jobs are in line", c.s.line.waiting())
	case strings.HasPrefix(u, "the end of its jobs and nodes"):
		c.must(c.s.Jobs.Len() > 0, "it has no jobs")
	case strings.HasPrefix(u, "the end of its nodes"):
		c.must(nodes, "it has no nodes")
	case u == newerNodes, u == nodesForPeople:
		c.must(c.s.line.waiting() > 0 && c.s.allLackFeatures(), "a rung may give what waits a node")
	default:
		c.must(c.waits(nil, u), "nobody knows what that is")
	}
	if strings.Contains(e.Reason, "`nodes.min` is") {
		c.must(c.s.Head.Spec.Nodes.Min > 0, "its nodes.min is 0")
	}
	if strings.Contains(e.Reason, "asks Azure for more next") && c.wrong == "" && e.Unblocks == nextStep {
		after, r := c.step()
		c.must(c.grows(after) || r.More, "the next step asks for nothing")
	}
}

// grows reports whether the next step asks for nodes, or makes that needless: fewer
// jobs wait, or a node leaves and its place is awaited until a list shows it, or one that
// was kept for a look leaves and counts until its work has ended.
func (c *claims) grows(after *State) bool {
	return after.census().aside < c.s.census().aside ||
		slices.ContainsFunc(after.Head.Sets, func(s pool.Set) bool { return s.Op.Kind == pool.OpGrow }) ||
		after.line.waiting() < c.s.line.waiting() ||
		after.pending() > c.s.pending()
}

func (c *claims) job(j *Job, e Explanation) {
	c.reason(e.Reason)
	onNode := func(states ...pool.NodeState) bool {
		return slices.ContainsFunc(j.On(), func(vmid string) bool { return slices.Contains(states, c.s.Nodes[vmid].State) })
	}
	if strings.HasPrefix(e.Reason, "it has been running on") || strings.HasPrefix(e.Reason, "it was given to") {
		c.must(j.VMID != "" && !onNode(pool.NodeLost, pool.NodeFailed, pool.NodeDeleting), "its node is given up")
	}
	if c.s.Nodes != nil && strings.HasPrefix(e.Reason, "node ") && strings.Contains(e.Reason, " has room") {
		name := strings.Fields(e.Reason)[1]
		found := false
		for _, n := range c.s.Nodes {
			found = found || n.Name == name && (n.State == pool.NodeReady || n.State == pool.NodeBusy)
		}
		c.must(found, "node %s takes no work", name)
	}
	u := e.Unblocks
	if s := j.Session; s != nil && j.State == job.Running && j.Cancel == "" && !onNode(pool.NodeLost, pool.NodeFailed, pool.NodeDeleting) {
		if u == vetoText[s.EndsBy] {
			c.must(!s.EndsAt.IsZero(), "it is not warned")
		} else {
			c.must(strings.HasPrefix(u, "its owner, who ends it") && s.EndsAt.IsZero(), "nobody says what ends it")
		}
		return
	}
	switch {
	case u == "":
		c.must(j.State == job.Running && j.VMID != "", "something has to happen")
	case u == "the node's answer, or the end of the node":
		c.must(j.VMID != "" && (j.Cancel != "" || j.Requeue || j.Broken() != nil), "it was not asked to end")
	case strings.HasPrefix(u, "the node's answer; without one by"):
		c.must(
			j.VMID != "" && j.State == job.Assigned && j.Requeue && !j.CancelAt.Before(j.Current().AssignedAt.Add(c.timing.AssignedFor)),
			"it was not asked back for being late",
		)
	case strings.HasPrefix(u, "the node's answer; without one"):
		c.must(j.VMID != "" && j.State == job.Assigned && !j.Requeue, "it is not assigned, or was asked back")
	case strings.HasPrefix(u, "the end of what is before it"):
		n := c.s.Nodes[j.VMID]
		c.must(n != nil && j.State == job.Assigned && n.used.CPUs > n.CPUs && slices.Min(numbers(n)) < j.N, "nothing is before it")
		if strings.Contains(u, " has not begun by ") {
			c.future(u)
		}
	case strings.HasPrefix(u, "Azure's word that the VM is gone"):
		c.must(onNode(pool.NodeLost, pool.NodeFailed, pool.NodeDeleting), "its nodes are there")
	case strings.HasPrefix(u, "the end of the jobs it comes after"):
		c.must(len(j.Waits) > 0, "it comes after none")
	case u == "their nodes' answers":
		c.must(j.Cancel != "" && j.Progress.Live > 0, "none of it runs")
	case u == "the end of one of them":
		c.must(c.s.sweepOf(j) != nil && c.s.sweepOf(j).job.Progress.Running > 0, "none of them runs")
	case strings.HasPrefix(u, "their ends"):
		c.must(j.Progress.Live > 0, "none is left")
	case strings.HasPrefix(u, "somebody who releases or cancels those"):
		c.must(slices.ContainsFunc(c.s.liveJobs(), func(m *Job) bool {
			return m != j && c.s.sweepOf(m) == c.s.sweepOf(j) && m.NotBefore.Equal(untilReleased)
		}), "none is held")
	case strings.HasPrefix(u, "somebody who releases"):
		c.must(
			j.NotBefore.Equal(untilReleased) && j.State == job.Held && strings.Contains(j.Reason, "dsvm job release "+j.ID),
			"nobody can release it",
		)
	case strings.HasPrefix(u, "the time"):
		c.must(j.NotBefore.After(c.now) && !j.NotBefore.Equal(untilReleased), "its time has come")
		c.future(e.Reason)
	case strings.HasPrefix(u, "the next step, which cancels it"):
		after, r := c.step()
		left := after.Jobs.Get(j.Order)
		c.must(left == nil || left.Cancel != "" || r.More, "it does not")
	case strings.HasPrefix(u, "a change of the pool; or cancel"):
		c.must(refuses(&c.s.Head.Spec, j) != nil, "the pool may run it")
	case strings.HasPrefix(u, "the end of a job of the team"):
		c.must(
			slices.ContainsFunc(c.s.liveJobs(), func(o *Job) bool { return o != j && o.VMID != "" && o.Spec.Team == j.Spec.Team }),
			"none of the team runs",
		)
	case strings.HasPrefix(u, "the end of those jobs, or a higher limit"):
		l := c.s.Head.Spec.LimitOf(j.Spec.Team)
		c.must(l.Jobs != nil || l.CPUs != nil || l.GPUs != nil, "the team has no limit")
		c.must(
			slices.ContainsFunc(c.s.liveJobs(), func(o *Job) bool { return o != j && o.inLine() != nil && o.Spec.Team == j.Spec.Team }),
			"no other job of the team waits",
		)
	case strings.HasPrefix(u, "the start of that job"):
		_, id, _ := strings.Cut(e.Reason, "kept for job ")
		id, _, _ = strings.Cut(id, ",")
		c.must(
			slices.ContainsFunc(c.s.liveJobs(), func(o *Job) bool { return o != j && o.ID == id && o.inLine() != nil }),
			"job %q does not wait",
			id,
		)
	case u == newerNodes, u == nodesForPeople, strings.HasPrefix(u, "the end of what runs on those nodes, or newer nodes"):
		c.must(c.s.noSetHas(shapeOf(j)), "a rung may give one")
		c.must((c.s.countWith(j.features()) == 0) == (u == newerNodes || u == nodesForPeople), "%d nodes have it", c.s.countWith(j.features()))
	case strings.HasPrefix(u, "a node that leaves to make room"):
		after, r := c.step()
		c.must(len(r.Effects.Remove) > 0 || after.running > c.s.running, "the next step lets none leave")
	default:
		c.must(c.waits(j, u), "nobody knows what that is")
	}
	if c.wrong != "" || u != nextStep {
		return
	}
	after, r := c.step()
	switch {
	case strings.Contains(e.Reason, "has room for it, and the next step places"):
		c.must(after.running > c.s.running || r.More, "the next step places nothing")
	case strings.Contains(e.Reason, "the next step asks for another"):
		c.must(c.grows(after) || r.More || after.Head.Down, "the next step asks for none")
	}
}

// calls counts the requests for nodes of a step.
func calls(r Result) int {
	n := 0
	for _, c := range r.Effects.Sets {
		if c.Grow > 0 {
			n++
		}
	}
	return n
}

// InLine is how many jobs wait for a place, without those that a budget lets wait.
func InLine(s *State) int { return s.line.wanting() }

// AllLackFeatures reports whether no rung gives nodes that know what the jobs in line need.
func AllLackFeatures(s *State) bool { return s.allLackFeatures() }

// AheadPerCPU and MostAhead bound what a node holds beside what it runs.
const (
	AheadPerCPU = aheadPerCPU
	MostAhead   = mostAhead
)

// RecallReasons are why assignments are asked back that wait, but for the one that names a time.
var RecallReasons = []string{recalledForRoom, recalledForOther, recalledByLeave}

// Waiting lists the jobs that wait on a node for their turn, and are neither cancelled nor
// put back in line, by their assignment.
func Waiting(s *State) map[int64]*pool.Job {
	all := map[int64]*pool.Job{}
	for _, n := range s.Nodes {
		if n.State == pool.NodeLost || n.State == pool.NodeFailed || n.State == pool.NodeDeleting {
			continue // nobody answers there, or it was asked for all of it
		}
		for _, number := range n.waiting() {
			if j := n.jobs[number]; j.Cancel == "" && !j.Requeue {
				all[number] = j.Job
			}
		}
	}
	return all
}

// Released is when a job may start that waits for somebody to release it.
var Released = untilReleased

// RollRequeue is why an attempt on an outdated node is ended.
const RollRequeue = rollRequeue
