package scheduler

import (
	"reflect"
	"sort"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/usage"
)

// maxRows bounds the rows one step may change, head and ledger row included:
// a transaction of Table Storage takes 100. What a single atom may add (a
// finish: two rows of a job, two of its sweep, and a node) is kept free.
const (
	maxRows  = 98
	atomRows = 6
)

// Result is what one step decided.
type Result struct {
	Changes   []pool.Change  // rows besides the head; the head is State.Head
	Changed   bool           // whether there is anything to commit
	Effects   pool.Effects   // to perform after the commit
	Refused   []pool.Refusal // jobs that cannot be taken, and why
	Cancelled int            // jobs that a CancelAll has asked to end
	Rest      []pool.Event   // not looked at yet: the transaction was full
	More      bool           // call again after the commit, with Rest
}

// NewState puts a loaded partition together.
func NewState(head pool.Head, nodes []*pool.Node, jobs []*pool.Job, now time.Time) *State {
	s := &State{Head: head, Nodes: map[string]*Node{}, Jobs: map[string]*Job{}, queue: newQueue(), teams: map[string]*team{}, sweeps: map[string]*sweep{}}
	for _, n := range nodes {
		s.Nodes[n.VMID] = newNode(n)
	}
	s.takeIn(wrapJobs(jobs), now)
	for _, n := range s.Nodes {
		s.offer(n)
	}
	return s
}

// Step takes the pool's state, what has happened and the time, and decides:
// which rows change, and what is to be done when they are committed. It changes
// s in place; when the rows cannot be committed, s must be brought back to what
// the rows say by CatchUp, or thrown away.
func Step(s *State, events []pool.Event, now time.Time, rules Timing) Result {
	st := &step{State: s, now: now, rules: rules, head: s.Head,
		jobs: map[string]pool.Change{}, nodes: map[string]*Node{}, kept: map[string]bool{}, vacate: map[string]bool{},
		effects: pool.Effects{Work: map[string][]protocol.WorkItem{}}}
	st.climb()
	rest := st.hear(events)
	st.settleWaits()
	st.endMembers()
	if len(rest) == 0 {
		st.schedule()
		st.place()
		st.housekeep()
		st.setAside()
		if !st.full { // otherwise jobs that fit on a node would count as waiting
			st.grow()
		}
		if !st.Head.Deleting {
			st.dropSets(func(set *pool.Set) bool { return st.rung(set.Name) < 0 })
		}
		st.finishDeleting()
		st.wake()
	}
	return st.result(rest)
}

// step is one run of Step.
type step struct {
	*State
	now       time.Time
	rules     Timing
	head      pool.Head // as it was before the step
	jobs      map[string]pool.Change
	nodes     map[string]*Node
	deletes   []string // keys of rows to delete, nodes and log rows
	entries   []usage.Entry
	effects   pool.Effects
	refused   []pool.Refusal
	cancelled int
	kept      map[string]bool // nodes, by VMID, that are kept for a gang that waits for more of them
	vacate    map[string]bool // nodes that are to make room for others
	respec    bool            // the spec has changed
	growAt    time.Time       // when nodes can be asked for that are wanted now; zero = none are left to ask for
	full      bool            // something did not fit and is to be done in the next step
}

// rows is the number of rows the transaction has so far, head and log included.
func (st *step) rows() int { return len(st.jobs) + len(st.nodes) + len(st.deletes) + 2 }

// room reports whether another atom fits; when it does not, the step will be
// called again.
func (st *step) room() bool {
	if st.rows()+atomRows > maxRows {
		st.full = true
		return false
	}
	return true
}

// roomOn reports whether an atom of so many nodes fits.
func (st *step) roomOn(nodes int) bool {
	if st.rows()+max(nodes+2, atomRows) > maxRows {
		st.full = true
		return false
	}
	return true
}

// hear takes in events until the transaction is full and returns the rest.
func (st *step) hear(events []pool.Event) []pool.Event {
	for i, e := range events {
		if !st.room() {
			return events[i:]
		}
		switch e := e.(type) {
		case pool.Apply:
			st.apply(e)
		case pool.Delete:
			st.delete()
		case pool.Submit:
			st.submit(e)
		case pool.Cancel:
			if j := st.Jobs[e.Order]; j != nil {
				st.cancel(j, e.Reason)
			} else {
				st.skipMember(e.Order, e.Reason)
			}
		case pool.Release:
			st.releaseJob(e.Order)
		case pool.Resume:
			st.resume()
		case pool.NodeRequest:
			if !st.told(e) {
				return events[i:]
			}
		case pool.CancelAll:
			if !st.cancelAll(e) {
				return events[i:]
			}
		case pool.Reported:
			if left := st.report(e); len(left.Report.Items) > 0 {
				return append([]pool.Event{left}, events[i+1:]...)
			}
		case pool.Listed:
			if !st.listed(e) {
				return events[i:]
			}
		case pool.Answered:
			st.answered(e)
		case pool.Fenced:
			st.fenced(e)
		case pool.Recorded:
			left := e
			for len(left.Seqs) > 0 && st.room() {
				st.deletes = append(st.deletes, pool.LogKey(left.Seqs[0]))
				left.Seqs = left.Seqs[1:]
			}
			if len(left.Seqs) > 0 {
				return append([]pool.Event{left}, events[i+1:]...)
			}
		case pool.JobEnd:
			st.known(e)
		case pool.Loaded:
			st.resend(st.now)
			st.ask()
		case pool.Tick:
			st.tick(e)
		}
	}
	return nil
}

// apply takes a new spec. What it changes takes effect in this very step.
func (st *step) apply(e pool.Apply) {
	if st.Head.Deleting {
		return
	}
	if e.Spec.Schedule != nil && st.Head.Spec.Schedule == nil {
		// A downAt that passed before the pool had a schedule is not made up for.
		_, since, _ := e.Spec.Schedule.Window(st.now)
		st.Head.DownSince = since
	}
	st.Head.Spec, st.respec = e.Spec, true
	// Another size or image may well be available. That the last call failed
	// stays known.
	st.probe()
	for i := range st.Head.Sets {
		st.Head.Sets[i].Blocked, st.Head.Sets[i].QuotaLimit = pool.Block{Tries: st.Head.Sets[i].Blocked.Tries}, 0
	}
	st.climb()
	st.respecced()
}

// delete marks the pool as going: finishDeleting does the rest, step by step.
func (st *step) delete() {
	st.Head.Deleting = true
	st.effects.List = true
	for i := range st.Head.Sets {
		st.Head.Sets[i].Blocked = pool.Block{} // what it would not give keeps it from nothing now
	}
}

// touch marks a node's row as changed.
func (st *step) touch(n *Node) { st.nodes[n.VMID] = n }

// write marks a live job's row as changed.
func (st *step) write(j *Job) {
	c := st.jobs[pool.JobKey(j.Order)]
	st.jobs[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order), Value: j.Job, Insert: c.Insert}
}

// insert adds a new job's row.
func (st *step) insert(j *Job) {
	st.Jobs[j.Order] = j
	st.know(j)
	st.jobs[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order), Value: j.Job, Insert: true}
}

// end moves a job that has ended from the live rows to the finished ones.
func (st *step) end(j *Job) {
	delete(st.Jobs, j.Order)
	st.unknow(j)
	if c, ok := st.jobs[pool.JobKey(j.Order)]; ok && c.Insert {
		delete(st.jobs, pool.JobKey(j.Order)) // it never was a live row
	} else {
		st.jobs[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order)}
	}
	st.jobs[pool.DoneKey(j.Order)] = pool.Change{Key: pool.DoneKey(j.Order), Value: j.Job, Insert: true}
}

// send adds an item to the node's message of this step.
func (st *step) send(n *Node, item protocol.WorkItem) {
	if item.Assign != nil {
		item.Assign.Whole = !st.Head.Spec.Pack // a job that has its node to itself may use all of it
	}
	st.effects.Work[n.VMID] = append(st.effects.Work[n.VMID], item)
}

// result turns what was marked into rows, in a stable order.
func (st *step) result(rest []pool.Event) Result {
	r := Result{Effects: st.effects, Refused: st.refused, Cancelled: st.cancelled, Rest: rest, More: st.full || len(rest) > 0 || len(st.outcomes)+len(st.ending) > 0}
	for vmid, items := range st.effects.Work {
		if n := st.Nodes[vmid]; n != nil && len(n.acks) > 0 {
			r.Effects.Work[vmid] = append(items, protocol.WorkItem{Ack: n.acks})
			n.acks = nil
		}
	}
	for _, c := range st.jobs {
		r.Changes = append(r.Changes, c)
	}
	for _, n := range st.nodes {
		r.Changes = append(r.Changes, pool.Change{Key: pool.NodeKey(n.VMID), Value: n.Node})
	}
	for _, key := range st.deletes {
		r.Changes = append(r.Changes, pool.Change{Key: key})
	}
	sort.Slice(r.Changes, func(i, j int) bool { return r.Changes[i].Key < r.Changes[j].Key })
	st.Head.Queued, st.Head.Running = st.counts()
	if len(st.entries) > 0 {
		r.Changes = append(r.Changes, pool.Change{
			Key:   pool.LogKey(st.Head.Seq + 1),
			Value: &pool.Log{Seq: st.Head.Seq + 1, Entries: st.entries}, Insert: true,
		})
	}
	r.Changed = len(r.Changes) > 0 || st.respec || !sameHead(st.head, st.Head)
	return r
}

// sameHead compares two heads but for their specs.
func sameHead(a, b pool.Head) bool {
	a.Spec, b.Spec = pool.Spec{}, pool.Spec{}
	return reflect.DeepEqual(a, b)
}

// counts says how many jobs wait and how many are on nodes.
func (s *State) counts() (waiting, running int) {
	return len(s.Jobs) - len(s.sweeps) + s.unstarted - s.running, s.running
}
