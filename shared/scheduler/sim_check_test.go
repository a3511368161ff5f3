package scheduler_test

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// checker looks for what must never be. Each violation names its invariant, so that
// the mutations (sim_mutation_test.go) can say which one has to catch them.
type checker struct {
	w       *world
	broken  string // name of the first invariant that was violated
	problem string
	slack   time.Duration // by which the drivers' clocks disagree

	entered map[string]int64       // ledger key -> log row it was written in
	ledger  map[string]usage.Entry // as recorded
	bills   map[string]bill        // by VMID
	absent  map[string]time.Time   // since when a running attempt has no process, by node and number
	seen    map[string]int         // what has come about, to know that the world is no idle one
	asked   map[int64]bool         // assignments that were recalled
	growing growing
	faults  faultCheck

	sessions sessionsSeen
	stepAt   time.Time // of the step that is committed
}

// bill is what a provider would charge for: from the first time the VM was seen
// running until its deletion was.
type bill struct{ from, to time.Time }

func newChecker(w *world) *checker {
	return &checker{w: w, entered: map[string]int64{}, ledger: map[string]usage.Entry{}, bills: map[string]bill{}, seen: map[string]int{}, asked: map[int64]bool{},
		faults: newFaultCheck(), sessions: sessionsSeen{on: map[string]string{}, slots: map[string]int{}, ending: map[string]bool{},
			told: map[string]struct{}{}, held: map[string]time.Duration{}, odd: map[string]bool{}}}
}

func (c *checker) ok() bool { return c.broken == "" }

func (c *checker) fail(invariant, format string, args ...any) {
	if c.broken == "" {
		c.broken = invariant
		c.problem = fmt.Sprintf("%s: %s", invariant, fmt.Sprintf(format, args...))
	}
}

// step looks at a state that has just been committed, and at what was decided.
func (c *checker) step(s *scheduler.State, r *scheduler.Result) {
	c.people(s, r)
	c.budgets(s, r)
	c.changes(s, r)
	c.placed(s)
	c.deleted(s, r)
	c.times(s)
	c.growsOnTime(s, r)
	c.blamed(s, r)
	c.processes(s)
	c.rolled(s, r)
	c.movesOn(s)
	if c.w.steps%8 == 0 && !r.More {
		c.reasons(s)
	}
}

// changes follows jobs from the live rows to the finished ones, and the ledger.
func (c *checker) changes(s *scheduler.State, r *scheduler.Result) {
	done := map[string]*pool.Job{}
	for _, ch := range r.Changes {
		if j, ok := ch.Value.(*pool.Job); ok && j.State.Final() {
			done[j.Order] = j
			c.ended(s, j)
		}
	}
	for _, ch := range r.Changes {
		switch v := ch.Value.(type) {
		case *pool.Node:
			c.seen["node "+string(v.State)]++
		case *pool.Job:
			kind := "job"
			if v.Spec.Nodes > 0 {
				kind = "gang"
			} else if v.Spec.Sweep != nil {
				kind = "sweep"
			}
			c.seen[kind+" "+string(v.State)]++
			if a := v.Attempts; len(a) > 0 {
				c.seen[kind+" attempt "+string(a[len(a)-1].State)]++
			}
		}
		if order, live := strings.CutPrefix(ch.Key, "job!"); live && ch.Value == nil && done[order] == nil {
			c.fail("lost job", "job %s left the live rows and is not among the finished ones", order)
		}
		if l, ok := ch.Value.(*pool.Log); ok {
			for _, e := range l.Entries {
				if before, twice := c.entered[ledgerKey(e)]; twice {
					c.fail("counted twice", "%s is in the rows %d and %d of the ledger", ledgerKey(e), before, l.Seq)
				}
				c.entered[ledgerKey(e)] = l.Seq
				c.figures(s.Head.Spec.Pack, e)
			}
		}
		if n, ok := ch.Value.(*pool.Node); ok && !n.RunningAt.IsZero() {
			b := c.bills[n.VMID]
			b.from = n.RunningAt
			if n.State == pool.NodeGone {
				b.to = n.Since
			}
			c.bills[n.VMID] = b
		}
	}
}

// ended checks that each attempt that began is in the ledger, once.
func (c *checker) ended(s *scheduler.State, j *pool.Job) {
	var entries []usage.Entry
	log := c.w.rows[pool.LogKey(s.Head.Seq)]
	if log != nil {
		var l pool.Log
		unpack(log, &l)
		entries = l.Entries
	}
	has := func(key string) bool {
		key = usage.KindAttempt + " " + key
		if _, ok := c.entered[key]; ok {
			return true
		}
		for _, e := range entries {
			if ledgerKey(e) == key {
				return true
			}
		}
		return false
	}
	for _, a := range j.Attempts {
		if !a.State.Ended() {
			c.fail("lost job", "job %s has ended while attempt %d goes on", j.ID, a.Number)
		}
		key := fmt.Sprintf("%s!%d", j.Order, a.Number)
		if len(a.Ranks) == 0 && !a.StartedAt.IsZero() && !has(key) {
			c.fail("ledger", "attempt %d of job %s is missing", a.Number, j.ID)
		}
		for _, r := range a.Ranks {
			if !r.StartedAt.IsZero() && !has(fmt.Sprintf("%s!%d", key, r.Rank)) {
				c.fail("ledger", "rank %d of attempt %d of job %s is missing", r.Rank, a.Number, j.ID)
			}
		}
	}
}

// placed checks nodes, teams and sweeps against what they hold.
func (c *checker) placed(s *scheduler.State) {
	used, gpus, count := map[string]job.Resources{}, map[string]uint64{}, map[string]int{}
	teams := map[string]*[3]int{}
	members := map[string][2]int{} // live, running
	for j := range s.Jobs.All() {
		if j.NotBefore.Equal(scheduler.Released) && j.VMID != "" {
			c.fail("held", "job %s is held and on a node", j.ID)
		}
		of, _, member := job.SweepOrder(j.Order)
		m := members[of]
		m[0]++
		if j.VMID != "" {
			m[1]++
		}
		if member {
			members[of] = m
		}
		if j.VMID == "" {
			continue
		}
		t := teams[j.Spec.Team]
		if t == nil {
			t = &[3]int{}
			teams[j.Spec.Team] = t
		}
		all := j.Spec.Total()
		t[0], t[1], t[2] = t[0]+1, t[1]+all.CPUs, t[2]+all.GPUs
		a := j.Attempts[len(j.Attempts)-1]
		places := []job.Rank{{VMID: a.VMID, GPUs: a.GPUs, State: a.State}}
		if j.Spec.Nodes > 0 {
			if places = a.Ranks; len(places) != j.Spec.Nodes {
				c.fail("gang", "job %s of %d nodes is on %d", j.ID, j.Spec.Nodes, len(places))
			}
		}
		on := map[string]bool{}
		for _, p := range places {
			if on[p.VMID] {
				c.fail("gang", "job %s is twice on node %s", j.ID, p.VMID)
			}
			on[p.VMID] = true
			if p.State.Ended() {
				continue
			}
			if n := s.Nodes[p.VMID]; n == nil || n.State == pool.NodeGone {
				c.fail("gone node", "job %s is on node %s, which is gone", j.ID, p.VMID)
				return
			}
			r := j.Spec.Resources
			u := used[p.VMID]
			used[p.VMID] = job.Resources{CPUs: u.CPUs + r.CPUs, GPUs: u.GPUs + r.GPUs, Memory: u.Memory + r.Memory}
			count[p.VMID]++
			if len(p.GPUs) != r.GPUs {
				c.fail("gpus", "job %s has the GPUs %v and asked for %d", j.ID, p.GPUs, r.GPUs)
			}
			for _, i := range p.GPUs {
				if gpus[p.VMID]&(1<<i) != 0 || i >= s.Nodes[p.VMID].GPUs {
					c.fail("gpus", "GPU %d of node %s has two owners, or is none", i, p.VMID)
				}
				gpus[p.VMID] |= 1 << i
			}
		}
	}
	for vmid, u := range used {
		n := s.Nodes[vmid]
		if !c.mayHoldMore(s, n, u) && u.CPUs > n.CPUs || u.GPUs > n.GPUs || !c.mayHoldMore(s, n, u) && u.Memory > n.Memory || count[vmid] > 1 && !s.Head.Spec.Pack {
			c.fail("capacity", "node %s (%d cpus, %d GPUs, %d bytes) holds %d jobs of %+v", vmid, n.CPUs, n.GPUs, n.Memory, count[vmid], u)
		}
	}
	for name, t := range teams {
		l, named := s.Head.Spec.Limits.Team[name]
		if !named {
			l = s.Head.Spec.Limits.Default
		}
		for i, most := range []*int{l.Jobs, l.CPUs, l.GPUs} {
			if most != nil && t[i] > *most {
				c.fail("limits", "team %s has %d of %d %s", name, t[i], *most, []string{"jobs", "cpus", "gpus"}[i])
			}
		}
	}
	for order, m := range members {
		w := s.Jobs.Get(order)
		if w == nil {
			c.fail("sweep", "sweep %s has ended and has %d live members", order, m[0])
			return
		}
		if p := w.Spec.Sweep.Parallel; p > 0 && m[1] > p {
			c.fail("sweep", "sweep %s runs %d members, `parallel` is %d", order, m[1], p)
		}
		if w.Progress.Live != m[0] || w.Progress.Running != m[1] {
			c.fail("sweep", "sweep %s says %d live and %d running, there are %v", order, w.Progress.Live, w.Progress.Running, m)
		}
	}
}

// deleted checks what is to be deleted, and what is asked for.
func (c *checker) deleted(s *scheduler.State, r *scheduler.Result) {
	for name, of := range r.Effects.Sets {
		asked := of.Grow
		for _, set := range s.Head.Sets {
			if set.Name != name {
				asked += c.w.there(set.Name)
			}
		}
		if of.Grow > 0 && asked > s.Head.Spec.Nodes.Max+c.leaving(s)+c.kept(s) {
			c.fail("nodes.max", "capacity %d asked of %s, %d in all, the most is %d", of.Grow, name, asked, s.Head.Spec.Nodes.Max)
		}
	}
	busy := map[string]string{}
	for j := range s.Jobs.All() {
		for _, vmid := range j.On() {
			busy[vmid] = j.ID
		}
	}
	for _, n := range r.Effects.Remove {
		given := n.State == pool.NodeLost || n.State == pool.NodeFailed
		deleting := n.State == pool.NodeDeleting && n.Reason != "" // by somebody else, and only asked for again
		if on := busy[n.VMID]; on != "" && !given && !deleting {
			c.fail("busy node", "node %s is %s and to be deleted while job %s is on it", n.VMID, n.State, on)
		}
	}
}

// tooMany checks that no write brings more instances than the pool may have. Those that
// leave do not count, and neither do those that are kept for a look.
func (c *checker) tooMany() {
	s := c.w.load()
	if n, most := len(c.w.instances)-c.leaving(s), s.Head.Spec.Nodes.Max+c.kept(s); n > most {
		c.fail("nodes.max", "a write brings the pool to %d instances, the most is %d: %+v", n, most, s.Head.Sets)
	}
}

// times checks that every state leaves before its deadline; the slack is for
// services that were away.
func (c *checker) times(s *scheduler.State) {
	const patience = 3 * time.Minute
	now, rules := c.w.now, c.w.rules
	for _, n := range s.Nodes {
		var most time.Duration
		since := n.Since
		switch n.State {
		case pool.NodeCreating, pool.NodeBooting:
			most, since = rules.BootDeadline, n.CreatedAt
		case pool.NodeDeleting, pool.NodeFailed, pool.NodeLost:
			most = 3 * rules.DeleteAgain
		case pool.NodeDraining:
			if len(c.on(s, n.Node)) > 0 {
				continue
			}
		case pool.NodeReady, pool.NodeBusy, pool.NodeQuarantined:
			if c.w.instances[n.VMID] != nil && !c.w.instances[n.VMID].hung {
				continue
			}
			// When half of the pool is silent nothing is concluded, until they are back.
			most, since = rules.SilentAfter+longestHang, n.HeardAt
			if since.IsZero() {
				since = n.Since
			}
		default:
			continue
		}
		if age := now.Sub(since); age > most+patience {
			c.fail("deadline", "node %s has been %s for %s", n.VMID, n.State, age)
		}
	}
	for _, set := range s.Head.Sets {
		if op := set.Op; op.Kind != "" && now.Sub(op.AskedAt) > rules.BootDeadline+patience {
			c.fail("deadline", "operation %s on %s has been under way for %s", op.Kind, set.Name, now.Sub(op.AskedAt))
		}
	}
	for j := range s.Jobs.All() {
		if j.State == job.Assigned && now.Sub(j.Attempts[len(j.Attempts)-1].AssignedAt) > 20*time.Minute {
			c.fail("deadline", "job %s has been assigned for twenty minutes", j.ID)
		}
	}
}

// processes checks that no job is running for long without a process of its own on
// a node that is well.
func (c *checker) processes(s *scheduler.State) {
	const longest = 6 * time.Minute
	absent := map[string]time.Time{}
	look := func(j *pool.Job, vmid string, n int64, state job.AttemptState) {
		v := c.w.instances[vmid]
		if state != job.AttemptRunning || v == nil || !v.dieAt.IsZero() || !v.booted || v.hung || v.stopped || v.power != "" || v.broken != "" || v.held[n] != nil {
			return
		}
		key := fmt.Sprintf("%s %d", vmid, n)
		since, known := c.absent[key]
		if !known {
			since = c.w.now
		}
		if absent[key] = since; c.w.now.Sub(since) > longest {
			c.fail("no process", "job %s has been running on node %s under %d without a process for %s", j.ID, vmid, n, c.w.now.Sub(since))
		}
	}
	for j := range s.Jobs.All() {
		if j.VMID == "" {
			continue
		}
		a := j.Attempts[len(j.Attempts)-1]
		if len(a.Ranks) == 0 {
			look(j.Job, j.VMID, j.N, a.State)
		}
		for _, r := range a.Ranks {
			look(j.Job, r.VMID, r.N, r.State)
		}
	}
	c.absent = absent
}

// leaving counts the nodes whose instances may still be there and do not count.
func (c *checker) leaving(s *scheduler.State) int {
	n := 0
	for vmid, v := range c.w.instances {
		node := s.Nodes[vmid]
		if !v.dieAt.IsZero() || node != nil && (node.State == pool.NodeDeleting || node.State == pool.NodeGone) {
			n++
		}
	}
	return n
}

func (c *checker) on(s *scheduler.State, n *pool.Node) (ids []string) {
	for j := range s.Jobs.All() {
		for _, vmid := range j.On() {
			if vmid == n.VMID {
				ids = append(ids, j.ID)
			}
		}
	}
	return ids
}

// reasons checks that every waiting job can say why, and that it is so.
func (c *checker) reasons(s *scheduler.State) {
	for j := range s.Jobs.All() {
		if j.State == job.Held && j.Reason == "" {
			c.fail("reason", "job %s is held and its row does not say why", j.ID)
		}
	}
	if c.w.steps%32 != 0 {
		return
	}
	if problem := scheduler.Claims(s, c.w.now, c.w.rules); problem != "" {
		c.fail("reason", "%s", problem)
	}
}

// starts checks that no other attempt of a job runs, or has succeeded, on a VM
// that is still there to tell.
func (c *checker) starts(v *vm, r *run) {
	c.waitsRight(r.assign.Job)
	key := rankKey(r)
	if on := c.w.succeeded[key]; on != nil && r.assign.Gang == nil && c.w.instances[on.vmid] == on && !on.stopped {
		c.fail("runs twice", "job %s is started on %s and has succeeded on %s", key, v.vmid, on.vmid)
	}
	for _, other := range c.w.sorted() {
		for _, o := range other.held {
			if o != r && !o.waits && rankKey(o) == key && o.finished == nil && !other.stopped && other.power == "" {
				c.fail("runs twice", "job %s is started on %s and still runs on %s", key, v.vmid, other.vmid)
			}
		}
	}
}

// record keeps what is copied to the ledger; the same key again is the same entry.
func (c *checker) record(entries []usage.Entry) {
	for _, e := range entries {
		key := ledgerKey(e)
		if before, there := c.ledger[key]; there && !reflect.DeepEqual(before, e) {
			c.fail("counted twice", "%s was recorded as two entries", key)
		}
		c.ledger[key] = e
	}
}

// end compares the ledger with the bill when everything is over.
func (c *checker) end() string {
	c.w.record()
	if len(c.w.people) > 0 {
		c.seconds()
	}
	seconds := map[string]time.Duration{}
	for _, e := range c.ledger {
		if e.Kind != usage.KindNode {
			continue
		}
		took := e.To.Sub(e.From)
		if parts := e.Boot + e.Busy + e.Idle + e.Draining; parts != took {
			c.fail("ledger", "an interval of node %s lasts %s and its parts %s", e.VMID, took, parts)
		}
		seconds[e.VMID] += took
	}
	for vmid, b := range c.bills {
		if b.to.IsZero() {
			continue // it is still there
		}
		if got, want := seconds[vmid], b.to.Sub(b.from); (got - want).Abs() > c.slack {
			c.fail("ledger", "node %s: the ledger has %s, the provider bills %s", vmid, got, want)
		}
	}
	c.amounts()
	c.notified()
	c.waysAtRest()
	for order := range c.w.jobs {
		if _, done := c.w.rows[pool.DoneKey(order)]; !done {
			c.fail("lost job", "job %s has not ended", order)
		}
	}
	return c.problem
}
