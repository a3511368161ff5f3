package scheduler_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// owed is what a process's committed steps have decided and its driver has not done.
// When the last of its invocations has returned without an error, nothing may be left:
// Drive says so of itself. The calls of several steps may be made as one: the last
// capacity counts, and one list is enough.
type owed struct {
	mu    sync.Mutex
	calls map[string]string         // what is to be called, and with what
	work  map[string]map[int64]bool // assignments to be sent, by VMID
	lists int                       // lists made since nothing was owed
}

// decide adds what a step has decided.
func (o *owed) decide(e *pool.Effects) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls == nil {
		o.calls = map[string]string{}
	}
	for name, c := range e.Sets {
		if c.Grow > 0 {
			o.calls["grow "+name] = fmt.Sprint(c.Grow)
		}
		if c.Poll != "" {
			o.calls["poll "+name] = c.Poll
		}
		if c.Shrink {
			o.calls["shrink "+name] = ""
		}
		if c.Drop {
			o.calls["drop "+name] = ""
		}
		if c.Model {
			o.calls["model "+name] = ""
		}
	}
	for _, n := range e.Remove {
		o.calls["remove "+n.VMID] = ""
	}
	for _, vmid := range e.Fence {
		o.calls["fence "+vmid] = ""
	}
	for _, id := range slices.Concat(e.LookUp, e.LookAt) {
		o.calls["ask "+id] = ""
	}
	for other, ids := range e.Notify {
		for _, id := range ids {
			o.calls["notify "+other+" "+id] = ""
		}
	}
	if e.List {
		o.calls["list"] = ""
	}
	if e.Network != nil {
		o.calls["network"] = e.Network.Key()
	}
	if e.DropRows {
		o.calls["rows"] = ""
	}
	if !e.WakeAt.IsZero() {
		o.calls["wake "+drive.WakeTick] = e.WakeAt.String()
	}
	if !e.RecordAt.IsZero() {
		o.calls["wake "+drive.WakeRecord] = e.RecordAt.String()
	}
	o.assign(e)
}

// assign adds the assignments that a step has decided.
func (o *owed) assign(e *pool.Effects) {
	if o.work == nil {
		o.work = map[string]map[int64]bool{}
	}
	for vmid, items := range e.Work {
		for _, i := range items {
			if i.Assign == nil {
				continue
			}
			if o.work[vmid] == nil {
				o.work[vmid] = map[int64]bool{}
			}
			o.work[vmid][i.N] = true
		}
	}
}

// done strikes off a call that is being made.
func (o *owed) done(what, with string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls[what] == with {
		delete(o.calls, what)
	}
}

// listed strikes off the list; one is enough until nothing is owed.
func (o *owed) listed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lists++
}

// polled strikes off the look at an operation.
func (o *owed) polled(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.calls, func(what, with string) bool { return strings.HasPrefix(what, "poll ") && with == token })
}

// sent strikes off assignments that have been sent for certain.
func (o *owed) sent(vmid string, items []protocol.WorkItem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, i := range items {
		delete(o.work[vmid], i.N)
	}
}

// forget strikes off what a failed drive has not called: the step decides it again. A
// removal is never decided again before a deadline, so that it stays.
func (o *owed) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.calls, func(what, _ string) bool { return !strings.HasPrefix(what, "remove ") })
}

// left says what is owed, or "".
func (o *owed) left(s *scheduler.State) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lists > 0 || !slices.ContainsFunc(s.Head.Sets, func(s pool.Set) bool { return s.Used }) {
		delete(o.calls, "list")
	}
	o.lists = 0
	for _, what := range slices.Sorted(maps.Keys(o.calls)) {
		if vmid, removes := strings.CutPrefix(what, "remove "); removes && !isLeaving(s.Nodes[vmid]) {
			delete(o.calls, what)
			continue
		}
		return what + " " + o.calls[what]
	}
	for _, vmid := range slices.Sorted(maps.Keys(o.work)) {
		for _, n := range slices.Sorted(maps.Keys(o.work[vmid])) {
			if waitsFor(s.Assigned(vmid, n), n) {
				return fmt.Sprintf("assignment %d to %s", n, vmid)
			}
		}
		delete(o.work, vmid) // the jobs have begun, or are not there any more
	}
	return ""
}

// isLeaving reports whether the deletion of a node is asked for and not confirmed. A
// removal that was kept over a failed turn is owed no longer than that.
func isLeaving(n *scheduler.Node) bool {
	return n != nil && n.State != pool.NodeGone && !n.DeleteAt.IsZero()
}

// waitsFor reports whether an assignment of a job has shown no sign of having begun.
func waitsFor(j *pool.Job, n int64) bool {
	if j == nil || j.Requeue || j.Cancel != "" {
		return false
	}
	for _, r := range j.Attempts[len(j.Attempts)-1].Ranks {
		if r.N == n {
			return r.State == job.AttemptAssigned
		}
	}
	return j.State == job.Assigned && j.N == n
}

// invocation looks at an invocation that has ended, in a process that lives.
func (c *checker) invocation(of *invocation) {
	p := of.process
	if of.err != nil {
		p.owed.forget()
		p.failedAt = c.w.nextInvocation
		return
	}
	if of.look {
		if of.saw < of.from {
			c.fail("old state", "a look that began at version %d has shown version %d", of.from, of.saw)
		}
		return
	}
	c.acknowledge(of)
	// Whoever asked is told by its return what the pool was at some moment after it had
	// asked, and lets its message go.
	if !of.wrote && p.known < of.from {
		c.fail("old state", "an invocation that began at version %d has returned with what version %d says", of.from, p.known)
	}
	if of.number <= p.failedAt {
		return // what the other one left undone falls to those that begin after it
	}
	if left := c.orphans(p); left != "" {
		c.fail("effects", "a process has taken the pool up, and not sent what another did not before it was killed: %s", left)
	}
	if p.active > 0 {
		return
	}
	if left := p.owed.left(p.state); left != "" && !c.w.dropped { // a dropped pool has another actor
		c.fail("effects", "a driver has returned without an error, and owes: %s", left)
	}
}

// orphans looks for assignments that a process had committed and not sent when it was
// killed, before this one began.
func (c *checker) orphans(p *process) string {
	for key, by := range c.w.unsent {
		if by.killedAt == 0 || by.killedAt > p.beganAt {
			continue
		}
		j := p.state.Assigned(key.vmid, key.n)
		if !waitsFor(j, key.n) {
			delete(c.w.unsent, key)
		} else if !j.Attempts[len(j.Attempts)-1].AssignedAt.After(c.w.now.Add(p.skew)) {
			return fmt.Sprintf("assignment %d to %s", key.n, key.vmid)
		}
	}
	return ""
}

// memory compares now and then what a driver remembers with what its rows say. A mutant
// of the step may spoil the one and not the other.
func (c *checker) memory(p *process) {
	if c.w.seq%16 != 0 || p.result.More || c.w.mutate != nil || c.w.dropped {
		return
	}
	part, now := c.w.partition(), c.w.now.Add(p.skew)
	rows := sums.ReplaceAllString(scheduler.Dump(scheduler.NewState(part.Head, part.Nodes, part.Jobs, now), now), "")
	if got := sums.ReplaceAllString(scheduler.Dump(p.state, now), ""); got != rows {
		c.fail("memory", "a driver has committed version %d and remembers it otherwise: %s", c.w.seq, difference(got, rows))
	}
}

// sums are figures that are added up in another order after a load, and so differ in
// their last digit.
var sums = regexp.MustCompile(`, held [-0-9.]+ since [-0-9]+`)

// difference is the first line in which two texts differ.
func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("\n%s\nand the rows say\n%s", a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines and %d", len(a), len(b))
}
