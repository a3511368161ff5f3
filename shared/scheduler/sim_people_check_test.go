package scheduler_test

import (
	"cmp"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// What is promised to people and to who pays: S4, S5, S8, S9 and S13. No event of the step has
// the address that somebody comes from, so that all of these people may sit in one office. S11,
// which is about certificates, is in the simulation of the service (shared/service).

// places checks how sessions lie on nodes, and how many nodes are wanted for them.
func (c *checker) places(s *scheduler.State, r *scheduler.Result) {
	spec := &s.Head.Spec
	used, count := map[string]job.Resources{}, map[string]int{}
	waiting := 0
	for j := range s.Jobs.All() {
		if j.VMID == "" {
			waiting++
			continue
		}
		u, of := used[j.VMID], j.Spec.Resources
		used[j.VMID] = job.Resources{CPUs: u.CPUs + of.CPUs, GPUs: u.GPUs + of.GPUs, Memory: u.Memory + of.Memory}
		count[j.VMID]++
	}
	for vmid, u := range used {
		n := s.Nodes[vmid]
		if n == nil || n.CPUs == 0 {
			continue
		}
		if u.CPUs > n.CPUs || u.GPUs > n.GPUs || u.Memory > n.Memory || count[vmid] > 1 && !spec.Pack {
			c.fail("S5", "node %s (%d cpus, %d GPUs, %d bytes) has %d sessions of %+v", vmid, n.CPUs, n.GPUs, n.Memory, count[vmid], u)
		}
	}
	if s.Head.Down || s.Head.Deleting || r.More {
		return
	}
	spare := 0
	if len(used) > 0 {
		spare = spec.Sessions.Spare
	}
	here, unbacked := 0, false
	for _, n := range s.Nodes {
		if n.State != pool.NodeGone && n.State != pool.NodeCreating && n.State != pool.NodeBooting {
			here++
		}
	}
	least := 0
	for i := range s.Head.Sets {
		set := &s.Head.Sets[i]
		unbacked = unbacked || set.Unbacked
		if n := slotsOf(spec, set.Size); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if unbacked || least == 0 || !c.open(s) {
		return // a call brings all that an earlier one did not, or none can be made now
	}
	if waiting == 0 && spare == 0 && s.Head.Wanted > here+spec.Nodes.Min {
		c.fail("S9", "%d nodes are wanted, %d are there, and nobody has opened a session", s.Head.Wanted, here)
	}
	if most := here + (waiting+spare+least-1)/least + spec.Nodes.Min; s.Head.Wanted > most {
		c.fail("S4", "%d nodes are wanted for %d sessions that wait and %d spare ones, with %d on a node and %d nodes there", s.Head.Wanted, waiting,
			spare, least, here)
	}
	for j := range s.Jobs.All() {
		if j.State != job.Queued || j.NotBefore.After(c.w.now) || len(j.Attempts) > 0 {
			continue
		}
		for vmid, n := range s.Nodes {
			u := used[vmid]
			takes := (n.State == pool.NodeReady || n.State == pool.NodeBusy) && n.Stage == "" && slices.Contains(n.Features, protocol.FeatureSession)
			fits := u.CPUs+j.Spec.Resources.CPUs <= n.CPUs && u.GPUs+j.Spec.Resources.GPUs <= n.GPUs && u.Memory+j.Spec.Resources.Memory <= n.Memory
			if takes && fits && (spec.Pack || count[vmid] == 0) && c.freeSlot(s) {
				c.fail("S4", "session %s waits, and node %s has room for it", j.Order, vmid)
			}
		}
	}
}

// freeSlot reports whether a node may get another entity of the relay.
func (c *checker) freeSlot(s *scheduler.State) bool {
	taken := 0
	for _, n := range s.Nodes {
		taken += min(n.Slot, 1)
	}
	return taken < s.Head.Spec.Nodes.Max
}

// slotsOf is how many sessions fit on a node of a size.
func slotsOf(spec *pool.Spec, size string) int {
	has, slot := (&pool.Set{Size: size}).Resources(), spec.Slot()
	if has.CPUs == 0 || !spec.Pack {
		return 1
	}
	n := has.CPUs / slot.CPUs
	if slot.GPUs > 0 {
		n = min(n, has.GPUs/slot.GPUs)
	}
	if slot.Memory > 0 {
		n = min(n, int(has.Memory/slot.Memory))
	}
	return n
}

// idleFor is how long a node may be without a session until it is asked to leave, beyond the
// idle time of its pool: a tick, and with faults as long as services may be away.
func (c *checker) idleFor() time.Duration {
	const tick, away = time.Minute, 4 * time.Minute
	if c.w.clean {
		return tick + 2*time.Second
	}
	return tick + away
}

// leavesIdle checks that nodes without a session are asked to leave in time. It is called each
// second.
func (c *checker) leavesIdle(s *scheduler.State) {
	spec, busy, waits := &s.Head.Spec, map[string]bool{}, false
	for j := range s.Jobs.All() {
		if j.VMID == "" {
			waits = true
		} else {
			busy[j.VMID] = true
		}
	}
	spare := 0
	if len(busy) > 0 {
		spare = spec.Sessions.Spare
	}
	idle := map[string]time.Time{}
	var late []string
	for vmid, n := range s.Nodes {
		if n.State != pool.NodeReady || busy[vmid] || waits {
			continue
		}
		since, known := c.sessions.idle[vmid]
		if !known {
			since = c.w.now
		}
		if idle[vmid] = since; c.w.now.Sub(since) > time.Duration(spec.IdleTimeout)+c.idleFor() {
			late = append(late, vmid)
		}
	}
	c.sessions.idle = idle
	if slices.Sort(late); len(late) > spec.Nodes.Min+spare {
		c.fail("S8", "%d nodes without a session have not been asked to leave (%v); `nodes.min` is %d, and %d may stay as spare", len(late), late,
			spec.Nodes.Min, spare)
	}
}

// holds notes for how long nodes have sessions, by the clock of the world.
func (c *checker) holds(s *scheduler.State) {
	now := c.w.now
	for vmid := range c.sessions.busy {
		c.sessions.held[vmid] += now.Sub(c.sessions.busyAt)
	}
	c.sessions.busy, c.sessions.busyAt = map[string]bool{}, now
	for vmid, n := range s.Nodes {
		switch n.State {
		case pool.NodeBusy:
			c.sessions.busy[vmid] = true
		case pool.NodeDraining, pool.NodeDeleting, pool.NodeLost, pool.NodeGone:
		default:
			if n.JobCount() > 0 { // it is quarantined under its people, or boots again
				c.sessions.odd[vmid] = true
			}
		}
	}
}

// agentSkew is by how much what an agent says of its time may make a session longer, and so do
// reports that come late.
const agentSkew = 20 * time.Second

// seconds compares the parts of what nodes cost with when people were there.
func (c *checker) seconds() {
	type sum struct{ boot, busy, idle, drain, all time.Duration }
	nodes, visits := map[string]*sum{}, map[string][]usage.Entry{}
	for _, e := range c.ledger {
		if e.Kind == usage.KindAttempt {
			visits[e.VMID] = append(visits[e.VMID], e)
			continue
		}
		n := nodes[e.VMID]
		if n == nil {
			n = &sum{}
			nodes[e.VMID] = n
		}
		n.boot, n.busy, n.idle, n.drain, n.all = n.boot+e.Boot, n.busy+e.Busy, n.idle+e.Idle, n.drain+e.Draining, n.all+e.To.Sub(e.From)
	}
	for vmid, n := range nodes {
		if n.boot+n.busy+n.idle+n.drain != n.all {
			c.fail("S13", "node %s: its parts are %+v", vmid, *n)
		}
		// Processes of a world disagree about the time, each time that a node changes its state.
		if held := c.sessions.held[vmid]; c.slack == 0 && c.w.clean && (held-n.busy).Abs() > 5*time.Second {
			c.fail("S13", "node %s had sessions for %s, and is busy for %s of %+v", vmid, held, n.busy, *n)
		}
		most := n.busy + n.drain
		if c.sessions.odd[vmid] {
			most = n.all
		}
		if open := union(visits[vmid]); open > most+agentSkew+10*c.slack {
			c.fail("S13", "sessions were open on node %s for %s, and it is busy for %s and leaves for %s", vmid, open, n.busy, n.drain)
		}
	}
}

// union is how long at least one of several things lasted.
func union(all []usage.Entry) (length time.Duration) {
	slices.SortFunc(all, func(a, b usage.Entry) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
	var until time.Time
	for _, e := range all {
		if from := later(e.From, until); e.To.After(from) {
			length += e.To.Sub(from)
			until = e.To
		}
	}
	return length
}
