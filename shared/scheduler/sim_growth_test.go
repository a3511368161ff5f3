package scheduler_test

import (
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// What the checker follows of how the pool grows.
type growing struct {
	states  map[string]pool.NodeState // of nodes, as they were committed last
	unmet   time.Time                 // since when nodes are wanted that nobody was asked for
	failed  map[string]int            // nodes of a set in a row that did not come up
	calm    time.Time                 // since when nothing goes wrong, or work last moved
	quiet   map[string]time.Time      // since when a set whose nodes do not come up has been asked for nothing
	wanted  map[string]string         // the model that is wanted of a set
	changed map[string]time.Time      // when another model was last wanted of it
	probed  map[string]bool           // such a set was asked for one since, to see whether it comes up
}

// Limits of the invariants below, for a world in which nothing goes wrong, and for
// one in which messages are lost, drivers killed and services away for 40 s.
const (
	writeWithin     = 15*time.Second + 2*time.Second // one write comes into the service's bucket; clocks tick in seconds
	writeWithinFail = 2 * time.Minute
	seenWithin      = 3 * time.Minute
	leastPause      = 20 * time.Minute // half an hour, less what the checker sees late: it does not know the order of what one step took in
	movesWithin     = 6 * time.Minute  // longer than any attempt, hang and deletion lasts
	badInARow       = 3
)

// growsOnTime checks what a step has decided about growing, and what it has left undone.
func (c *checker) growsOnTime(s *scheduler.State, r *scheduler.Result) {
	if c.growing.states == nil {
		c.growing = growing{states: map[string]pool.NodeState{}, failed: map[string]int{}, quiet: map[string]time.Time{}, probed: map[string]bool{},
			wanted: map[string]string{}, changed: map[string]time.Time{}}
	}
	c.instances(s)
	c.demand(s, r)
	c.bought(s, r)
	c.moves(s, r)
	for _, set := range s.Head.Sets {
		if set.Blocked.Code == string(fault.Preempted) {
			c.fail("preempted", "an operation that another has overtaken counts as a failure: %+v", set)
		}
	}
}

// instances checks that each instance is known, and has its deadline from the request
// for it, whatever operation is under way.
func (c *checker) instances(s *scheduler.State) {
	for vmid, v := range c.w.instances {
		n, age := s.Nodes[vmid], c.w.now.Sub(v.askedAt)
		switch {
		case !v.dieAt.IsZero():
		case n == nil && age > seenWithin:
			c.fail("unseen", "instance %s was asked for %s ago, and the pool does not know it", vmid, age)
		case n != nil && (n.State == pool.NodeCreating || n.State == pool.NodeBooting) && age > c.w.rules.BootDeadline+seenWithin:
			c.fail("deadline", "node %s was asked for %s ago and is %s", vmid, age, n.State)
		}
	}
}

// demand checks that what is wanted is asked for within the time of one write, as
// long as a rung may be asked.
func (c *checker) demand(s *scheduler.State, r *scheduler.Result) {
	g, now := &c.growing, c.w.now
	here := 0
	for _, n := range s.Nodes {
		if n.State != pool.NodeDeleting && n.State != pool.NodeGone {
			here++
		}
	}
	for i := range s.Head.Sets {
		for _, a := range s.Head.Sets[i].Requests {
			here += a.N
		}
	}
	if r.More || here >= s.Head.Wanted || !c.open(s) {
		g.unmet = time.Time{}
		return
	}
	if g.unmet.IsZero() {
		g.unmet = now
	}
	limit := writeWithinFail
	if c.w.clean {
		limit = writeWithin
	}
	if waited := now.Sub(g.unmet); waited > limit {
		c.fail("growth", "%d nodes are wanted, %d are there or asked for, and that for %s: %+v", s.Head.Wanted, here, waited, s.Head.Sets)
	}
}

// open reports whether every rung may be asked for nodes.
func (c *checker) open(s *scheduler.State) bool {
	for i := range s.Head.Sets {
		set := &s.Head.Sets[i]
		if set.QuotaLimit > 0 || set.Breaker.Open() || c.w.now.Before(set.Blocked.Until.Add(time.Second)) || set.Op.Kind == pool.OpDrop || set.Model.Fixed {
			return false
		}
	}
	return !s.Head.Deleting && !s.Head.Down
}

// isComing reports whether a node that was committed in this state, or is new, has not
// come up yet.
func isComing(state pool.NodeState) bool {
	return state == "" || state == pool.NodeCreating || state == pool.NodeBooting
}

// cameUp reports whether a node that is not coming any more has come up: its agent has
// reported. One step can take in that it did and that it leaves again. What the pool
// gave up before that has not come up, whatever it says later.
func cameUp(n *pool.Node) bool {
	return !n.HeardAt.IsZero() && (n.State != pool.NodeFailed || strings.HasPrefix(n.Reason, "its VM was "))
}

// bought checks that of a set whose nodes do not come up one is bought now and then,
// and no more.
func (c *checker) bought(s *scheduler.State, r *scheduler.Result) {
	g, now := &c.growing, c.w.now
	failed, came, lastAsked := map[string]int{}, map[string]bool{}, map[string]time.Time{}
	for _, ch := range r.Changes {
		n, ok := ch.Value.(*pool.Node)
		if !ok {
			continue
		}
		was := g.states[n.VMID]
		if isComing(was) && !isComing(n.State) {
			switch {
			case cameUp(n):
				came[n.Set] = true
			case n.State == pool.NodeFailed:
				failed[n.Set]++
				lastAsked[n.Set] = later(lastAsked[n.Set], n.AskedAt)
			}
		}
		g.states[n.VMID] = n.State
	}
	for i := range s.Head.Sets {
		set := &s.Head.Sets[i]
		if came[set.Name] {
			g.failed[set.Name] = 0
			delete(g.quiet, set.Name)
		}
		if set.Model.Fixed || set.Model.Wanted != g.wanted[set.Name] {
			c.mayProbe(set.Name) // another model, or a set that has to be made again
		}
		if was := g.wanted[set.Name]; was != "" && set.Model.Wanted != was {
			g.changed[set.Name] = now
		}
		g.wanted[set.Name] = set.Model.Wanted
		calls := r.Effects.Sets[set.Name]
		if calls != nil && calls.Grow > 0 && calls.Set.Op.Tries > 0 {
			if _, ok := g.quiet[set.Name]; ok && !g.probed[set.Name] {
				c.fail("breaker", "%s is asked again for what it was asked for before %d in a row did not come up", set.Name, g.failed[set.Name])
			}
		} else if calls != nil && calls.Grow > 0 && calls.Set.Op.Adds > 0 {
			if since, ok := g.quiet[set.Name]; ok {
				if calls.Set.Op.Adds > max(c.w.unbacked(set.Name), 1) || now.Sub(since) < leastPause {
					c.fail("breaker", "%d nodes of %s are bought after %d in a row that did not come up, %s after the last", calls.Set.Op.Adds, set.Name, g.failed[set.Name], now.Sub(since))
				}
				g.quiet[set.Name], g.probed[set.Name] = now, true
				c.seen["probe"]++
			}
		}
		if n := failed[set.Name]; n > 0 && !came[set.Name] {
			if g.failed[set.Name] += n; g.failed[set.Name] >= badInARow {
				if _, ok := g.quiet[set.Name]; !ok {
					g.quiet[set.Name], g.probed[set.Name] = now, false
					c.seen["breaker opened"]++
					if g.changed[set.Name].After(lastAsked[set.Name]) {
						c.mayProbe(set.Name) // all that failed are of an earlier model
					}
				}
			}
		}
	}
}

// mayProbe lets one node of a set whose nodes do not come up be bought now.
func (c *checker) mayProbe(set string) {
	if _, ok := c.growing.quiet[set]; ok {
		c.growing.quiet[set] = c.w.now.Add(-leastPause)
	}
}

// refused takes in that Azure has refused what a set was asked for: a probe that was refused
// has bought nothing, and says nothing of the next one.
func (c *checker) refused(set string) {
	if c.growing.probed[set] {
		c.mayProbe(set)
	}
}

// moves checks that a pool with work, a node that lives, and nothing in its way moves
// on, once nothing goes wrong any more.
func (c *checker) moves(s *scheduler.State, r *scheduler.Result) {
	g, now := &c.growing, c.w.now
	moved := c.w.faults || !c.open(s)
	for _, ch := range r.Changes {
		if j, ok := ch.Value.(*pool.Job); ok && (j.State == job.Running || j.State.Final()) {
			moved = true
		}
	}
	queued := false
	for j := range s.Jobs.All() {
		queued = queued || j.State == job.Queued && j.Spec.Sweep == nil
	}
	lives := false
	for _, v := range c.w.instances {
		// A machine that was made while its set was in the dark may be the one that a gang waits
		// for. It is given up at its own deadline, and so may be the next one.
		moved = moved || v.broken != ""
		lives = lives || v.booted && v.broken == "" && v.power == "" && !v.hung && !v.stopped && !v.evicted && v.dieAt.IsZero()
	}
	if moved || !queued || !lives || g.calm.IsZero() {
		g.calm = now
		return
	}
	if still := now.Sub(g.calm); still > movesWithin {
		states := map[pool.NodeState]int{}
		for _, n := range s.Nodes {
			states[n.State]++
		}
		c.fail("stall", "%d jobs wait, a node lives, nothing goes wrong, and nothing has moved for %s: nodes %v, %s", s.Head.Queued, still, states,
			scheduler.ExplainPool(s, now, c.w.rules).Reason)
	}
}
