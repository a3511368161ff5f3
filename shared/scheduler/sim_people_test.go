package scheduler_test

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// People in the simulation: they open sessions, some of them twice at once, type for a while,
// leave their windows open, come back, keep their sessions, and stop them. Their sessions
// outlive the agent, which votes on them, and loses its journal now and then.

// person is somebody who uses an interactive pool.
type person struct {
	name   string
	till   time.Time   // they work until then
	used   []time.Time // when they typed something
	isMute bool        // a voter of theirs never finds anything out
}

// peopleSpec is the interactive pool of the simulation: two sessions on a node, or one.
func peopleSpec(seed int64) pool.Spec {
	s := simSpec(seed)
	s.Kind, s.Weights, s.Limits, s.Pack = pool.KindInteractive, nil, pool.Limits{}, seed%3 != 2
	s.Nodes.Max = 4
	s.Sessions = &pool.Sessions{IdleAfter: job.Duration(2 * time.Minute), Warning: job.Duration(time.Minute), MaxAge: job.Duration(9 * time.Minute),
		Home: protocol.HomeLocal, Jupyter: protocol.JupyterLab, Spare: int(seed % 2)}
	if seed%5 == 0 || seed%5 == 2 {
		s.Sessions.Jupyter = protocol.JupyterHub
	}
	if s.Pack {
		s.Sessions.Resources.CPUs = 8
		switch seed % 6 {
		case 0, 3: // memory bounds the sessions of a node
			s.Sessions.Resources.Memory = 100 * job.Gi
		case 1: // GPUs do
			s.Sessions.Resources.GPUs = 1
		}
	}
	accessOf(&s, seed)
	if s.Schedule != nil {
		s.Schedule.Grace = job.Duration(40 * time.Second)
		if s.Schedule.OnRunning == "requeue" {
			s.Schedule.OnRunning = "kill"
		}
	}
	return s
}

// playPeople lets people use a pool among faults. Then the faults end, they all go home with
// their windows open, and the pool has to come to rest.
func (w *world) playPeople(seed int64) string {
	faults := w.faults
	w.faults = false
	spec := peopleSpec(seed)
	w.network.isUsed = len(spec.Ways()) > 0
	w.proceed([][]pool.Event{{pool.Apply{Spec: spec}}})
	w.faults = faults
	for i := range 6 {
		w.people = append(w.people, &person{name: string(rune('a' + i)), isMute: i == 5})
	}
	for range 900 {
		if w.livePeople(&spec); !w.checker.ok() {
			return w.checker.problem
		}
		w.second()
	}
	w.faults = false
	for n := range 3 * 3600 {
		if !w.checker.ok() {
			return w.checker.problem
		}
		w.second()
		if n == 300 {
			w.forgetRefused()
		}
		if n > 300 && w.open() == 0 && len(w.instances) == spec.Nodes.Min && w.isRolled() {
			for range 130 {
				w.second()
			}
			return w.checker.end()
		}
	}
	w.checker.fail("rest", "three hours after the last one has gone home %d sessions are open, %d instances are there, head %+v",
		w.open(), len(w.instances), w.load().Head)
	return w.checker.problem
}

// livePeople is a second of all people.
func (w *world) livePeople(spec *pool.Spec) {
	s := w.load()
	w.checker.leavesIdle(s)
	for _, p := range w.people {
		j := s.SessionOf(p.name)
		switch {
		case j == nil && w.rng.Intn(60) == 0:
			p.till = w.now.Add(time.Duration(20+w.rng.Intn(300)) * time.Second)
			for range 1 + w.rng.Intn(2) {
				w.openSession(p, spec)
			}
		case j == nil || j.State != job.Running:
		case w.now.Before(p.till):
			if w.rng.Intn(15) == 0 {
				p.used = append(p.used, w.now)
			}
		case w.rng.Intn(400) == 0:
			p.till = w.now.Add(time.Minute) // back again
		}
		if j == nil {
			continue
		}
		if w.rng.Intn(500) == 0 {
			w.deliver(pool.Cancel{Order: j.Order, Reason: job.CancelledByRequest, By: pool.EndUser})
		}
		if w.rng.Intn(300) == 0 {
			w.deliver(pool.Extend{Order: j.Order, Until: w.now.Add(time.Duration(1+w.rng.Intn(4)) * time.Minute)})
		}
	}
}

// openSession asks for a session, perhaps beside one that is there.
func (w *world) openSession(p *person, spec *pool.Spec) {
	order := fmt.Sprintf("01%024d", w.nextOrder)
	w.nextOrder++
	of := job.Spec{ID: "job-" + order, Pool: "p", User: p.name, Team: p.name, Resources: spec.Slot()}
	w.jobs[order] = &wish{spec: of, done: pool.DoneKey(order)}
	w.deliver(pool.Open{Order: order, ID: of.ID, Spec: of, Session: pool.Session{Owner: p.name, UID: 200001}, At: w.now})
}

// forgetRefused forgets what people have asked for beside a session that was there.
func (w *world) forgetRefused() {
	for order, wanted := range w.jobs {
		if w.rows[pool.JobKey(order)] == nil && w.rows[wanted.done] == nil {
			delete(w.jobs, order)
		}
	}
}

// person finds somebody by name; nil: there is none.
func (w *world) person(name string) *person {
	for _, p := range w.people {
		if p.name == name {
			return p
		}
	}
	return nil
}

// lastUse is when a person last used the session before a time, if ever.
func (p *person) lastUse(before time.Time) (last time.Time) {
	for _, at := range p.used {
		if !at.After(before) {
			last = at
		}
	}
	return last
}

// votes are what an agent says of its sessions: all of them, or those whose verdict changes.
func (w *world) votes(v *vm, all bool) (items []protocol.ReportItem) {
	for _, r := range v.runs() {
		if r.assign.Session == nil || r.finished != nil || r.waits || r.stuck {
			continue
		}
		p := w.person(r.assign.Session.User)
		idle := w.now.Sub(later(p.lastUse(w.now), r.started.Add(-v.skew)))
		if idle < 3*time.Second {
			idle = 0
		}
		if isIdle := idle > 0; !all && isIdle == r.saidIdle && r.warned == r.saidWarned {
			continue
		}
		r.saidIdle, r.saidWarned = idle > 0, r.warned
		items = append(items, protocol.ReportItem{Session: &protocol.SessionState{N: r.n, Idle: int64(idle / time.Second), Unknown: p.isMute,
			Warned: r.warned, Votes: map[string]string{"input": idle.String()}}})
	}
	return items
}

// Listen gives a node the right to listen at its entity.
func (p *ports) Listen(ctx context.Context, entity string) (door protocol.Door, err error) {
	w := p.w
	err = p.call(ctx, "relay listen", entity, func(c *call) error {
		c.answered = func(err error) error {
			if err != nil { // what was to be sent waits for a tick, whoever was to send it
				maps.DeleteFunc(w.unsent, func(a assignment, _ *process) bool {
					n := p.state.Nodes[a.vmid]
					return n != nil && n.Entity("p") == entity
				})
			}
			return err
		}
		if w.chance(30) {
			return unknown()
		}
		return nil
	})
	if err != nil {
		for vmid, n := range p.state.Nodes {
			if n.Entity("p") == entity {
				p.owed.withheld(vmid)
			}
		}
		return door, err
	}
	return protocol.Door{URL: "wss://ns/$hc/" + entity, Token: "token"}, nil
}

// Keys are those by which nodes know people.
func (p *ports) Keys(context.Context) (drive.DoorKeys, error) {
	return drive.DoorKeys{CAs: []string{"ssh-ed25519 AAAA"}}, nil
}

// withheld strikes off what waits for the door of a node: a tick sends it again.
func (o *owed) withheld(vmid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.work, vmid)
}

// sends checks that no session is sent without a way in: the relay, or the node's own door.
func (c *checker) sends(items []protocol.WorkItem) {
	for _, i := range items {
		if i.Assign == nil || i.Assign.Session == nil {
			continue
		}
		of := i.Assign.Session
		atRelay := of.Door != nil && of.Door.Token != ""
		if !atRelay && (of.Door != nil || len(of.Ways) == 0) || len(of.CAs) == 0 {
			c.fail("door", "session %s is sent without a door", i.Assign.Job)
		}
	}
}

// sessionsSeen is what is known of the sessions of a world.
type sessionsSeen struct {
	on     map[string]string   // by order: the node on which it was first open
	slots  map[string]int      // by VMID
	ending map[string]bool     // orders of those that were asked to end
	told   map[string]struct{} // orders of those whose agents had a warning

	idle   map[string]time.Time     // by VMID: since when a node has no session
	held   map[string]time.Duration // by VMID: how long it had one
	busy   map[string]bool          // by VMID: those that have one since busyAt
	busyAt time.Time
	odd    map[string]bool // by VMID: those that had one and were neither busy nor about to leave
}

// people checks what is promised to people. The names are those of docs/pools.md.
func (c *checker) people(s *scheduler.State, r *scheduler.Result) {
	if len(c.w.people) == 0 {
		return
	}
	c.places(s, r)
	c.holds(s)
	owners := map[string]string{}
	for j := range s.Jobs.All() {
		if other := owners[j.Session.Owner]; other != "" {
			c.fail("S2", "%s has the sessions %s and %s", j.Session.Owner, other, j.Order)
		}
		owners[j.Session.Owner] = j.Order
		if c.w.rows[pool.DoneKey(j.Order)] != nil {
			c.fail("S2", "session %s has ended, and lives", j.Order)
		}
		c.session(s, j.Job)
	}
	taken := map[int]string{}
	for _, n := range s.Nodes {
		if n.Slot == 0 {
			continue
		}
		c.sessions.slots[n.VMID] = n.Slot
		if n.State == pool.NodeGone {
			continue
		}
		if other := taken[n.Slot]; other != "" {
			c.fail("S10", "the nodes %s and %s have the slot %d", n.VMID, other, n.Slot)
		}
		taken[n.Slot] = n.VMID
		for other, slot := range c.sessions.slots {
			if v := c.w.instances[other]; other != n.VMID && slot == n.Slot && v != nil {
				c.fail("S10", "the nodes %s and %s, whose VM is there, have the slot %d", n.VMID, other, slot)
			}
		}
		if n.State == pool.NodeDraining && n.Reason == "outdated: leaves when its jobs end" && n.JobCount() > 0 {
			c.fail("S1", "node %s leaves because it is outdated, and people are there", n.VMID)
		}
	}
	for _, ch := range r.Changes {
		if j, ok := ch.Value.(*pool.Job); ok && j.State.Final() {
			c.seen["session ended by "+j.Session.EndsBy]++
			if j.Session.EndsBy == "" {
				c.fail("S6", "nobody says why session %s has ended", j.Order)
			}
		}
	}
}

// session checks one live session.
func (c *checker) session(s *scheduler.State, j *pool.Job) {
	of, row, now := s.Head.Spec.Sessions, j.Session, c.w.now
	if !row.ReadyAt.IsZero() {
		if first := c.sessions.on[j.Order]; first == "" {
			c.sessions.on[j.Order] = j.VMID
		} else if first != j.VMID {
			c.fail("S3", "session %s was on %s, and is on %q", j.Order, first, j.VMID)
		}
	}
	const patience = 4 * time.Minute // for services that were away, and for ticks
	if age := now.Sub(row.ReadyAt); !row.ReadyAt.IsZero() && j.Cancel == "" && age > time.Duration(of.MaxAge+of.Warning)+patience {
		c.fail("S7", "session %s is %s old", j.Order, age)
	}
	if !row.WarnedAt.IsZero() && j.Cancel == "" {
		c.seen["session warned"]++
		if within := row.EndsAt.Sub(row.WarnedAt); row.EndsBy != pool.EndSchedule && within != time.Duration(of.Warning) {
			c.fail("S6", "session %s ends %s after its warning", j.Order, within)
		}
	}
	if j.Cancel == "" || c.sessions.ending[j.Order] {
		return
	}
	c.sessions.ending[j.Order] = true
	if row.EndsBy == pool.EndIdle {
		c.idleEnd(j, of)
	}
}

// idleEnd checks a session that ends since nobody uses it.
func (c *checker) idleEnd(j *pool.Job, of *pool.Sessions) {
	row, p := j.Session, c.w.person(j.Spec.User)
	c.seen["idle end"]++
	if p.isMute {
		c.fail("S7", "session %s ends for idleness, and a voter could not find out", j.Order)
	}
	if c.w.now.Add(c.slack).Before(row.EndsAt) {
		c.fail("S6", "session %s ends at %s, and its people were told %s", j.Order, c.w.now, row.EndsAt)
	}
	if last := p.lastUse(row.DueAt); last.After(row.WarnedOn.Add(-time.Duration(of.IdleAfter) + 3*time.Second)) {
		c.fail("S6", "session %s ends for idleness: warned on %s, due at %s, and used at %s", j.Order, row.WarnedOn, row.DueAt, last)
	}
	if row.KeepTill.After(c.w.now.Add(c.slack)) {
		c.fail("S12", "session %s ends for idleness, and is kept until %s", j.Order, row.KeepTill)
	}
	if _, told := c.sessions.told[j.Order]; !told {
		c.fail("S6", "session %s ends for idleness, and its node was never told", j.Order)
	}
}

func TestSimulationOfPeople(t *testing.T) {
	t.Parallel()
	if simSeeds.given {
		playSeeds(t, (*world).playPeople)
		return
	}
	worlds := worldsOf(12, 200, 8)
	seen := map[string]int{}
	var steps atomic.Int64
	for seed := range worlds {
		w := simulate(t, seed, seed%8 != 7, nil, (*world).playPeople)
		if problem := w.checker.problem; problem != "" {
			t.Fatalf("seed %d, after %d steps: %s", seed, w.steps, problem)
		}
		steps.Add(w.steps)
		for what, n := range w.checker.seen {
			seen[what] += n
		}
	}
	t.Logf("%d steps in %d worlds, nothing violated; seen %v", steps.Load(), worlds, seen)
	for _, what := range []string{"session warned", "idle end", "session ended by user", "session ended by maxAge", "session ended by schedule",
		"session ended by nodeLost", "session ended by evicted", "session ended by admin", "journal lost", "node outdated",
		"open", "open without a session", "balancer"} {
		if seen[what] == 0 && !underDetector {
			t.Errorf("never seen: %s", what)
		}
	}
}
