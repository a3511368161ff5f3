package scheduler

import (
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// reports takes in the reports of agents.
type reports struct {
	*turn
	messages *messages
	nodes    *nodeStates
	capacity *capacity
	failures *failures
	attempts *attempts
	sessions *sessions
}

// An agent's journal can be lost or damaged with the node's disk, and with it the
// outcome of its attempts. Two things show that: the agent asks for the counter, because
// its journal is new or damaged; or it starts again and has seen a lower number than it
// reported before. The pool answers both with its counter, and concludes nothing yet: an
// old copy of an assignment may still be on its way, and would run. With the counter the
// agent refuses such a copy, and lists what it holds. Then the pool concludes that what
// the agent does not hold has ended.

// recordBoot takes in a start of an agent. It reports false for a late report of an
// earlier start: reports of one node are ordered by their enqueued times. less says that
// the agent has seen a lower number than it reported before.
func (rs *reports) recordBoot(n *Node, r protocol.Ready, less bool, at time.Time) bool {
	before := n.Boot
	another := before != r.Boot
	if another && at.Before(n.BootAt) {
		return false
	}
	if another {
		n.Boot, n.Address, n.BootAt = r.Boot, r.Address, at
		rs.touchNode(n)
		if before != "" {
			rs.failures.recordRestart(n, before, at)
		}
	}
	if r.Counter || another && less {
		rs.send(n, protocol.WorkItem{Counter: &protocol.Counter{Boot: r.Boot, N: rs.Head.N}})
	}
	return true
}

// highestKnown is the highest number that the node's agent is known to have seen: the
// number in its row, which may be too low because it is only written with other changes,
// or that of an assignment that has begun according to the row of its job.
func (n *Node) highestKnown(seen int64) int64 {
	most := seen
	for number, j := range n.jobs {
		if number > most && j.HasBegun(number) {
			most = number
		}
	}
	return most
}

// receive takes in an agent's facts and returns what did not fit.
func (rs *reports) receive(e pool.Reported) pool.Reported {
	r := e.Report
	n := rs.Nodes[r.VMID]
	if n == nil {
		n = rs.addUnknownNode(r)
		if n == nil {
			e.Report.Items = nil
			return e
		}
	}
	if n.State == pool.NodeGone || n.State == pool.NodeLost {
		// Lost is final: the node does not come back to the pool, whatever it reports.
		rs.send(n, protocol.WorkItem{Stop: "the pool has given this node up: " + n.Reason})
		e.Report.Items = nil
		return e
	}
	if e.At.Sub(n.HeardAt) >= rs.timing.SilentAfter/4 || n.HeardAt.IsZero() {
		n.HeardAt = e.At
		rs.touchNode(n)
	}
	if !n.MissingAt.IsZero() && e.At.After(n.MissingAt) {
		n.MissingAt = time.Time{} // it is there, whatever the listing says
		rs.touchNode(n)
	}
	before := n.Seen
	n.Seen = max(n.Seen, r.Seen)
	for len(e.Report.Items) > 0 && rs.hasRoom() {
		item := e.Report.Items[0]
		switch {
		case item.Booting != nil:
			rs.recordBooting(n, *item.Booting, e.At)
		case item.Ready != nil:
			rs.recordReady(n, *item.Ready, r.Seen < n.highestKnown(before), e.At)
		case item.Started != nil:
			rs.recordStart(n, *item.Started)
		case item.Finished != nil:
			rs.recordFinish(n, *item.Finished)
		case item.Leaving != nil:
			rs.recordLeaving(n, *item.Leaving)
		case item.Session != nil:
			rs.recordStart(n, protocol.Started{N: item.Session.N, At: e.At}) // a lost word of it is made up for
			rs.sessions.receiveState(n, *item.Session, e.At)
		case item.Holds != nil:
			if !rs.compareHoldings(n, *item.Holds, r.Seen) {
				return e
			}
		}
		e.Report.Items = e.Report.Items[1:]
	}
	return e
}

// addUnknownNode makes a node from a first report that came before any listing. It must
// say that the agent is ready, or how far the node is.
func (rs *reports) addUnknownNode(r protocol.Report) *Node {
	if rs.Head.Deleting {
		return nil
	}
	for _, item := range r.Items {
		name := ""
		switch {
		case item.Ready != nil:
			name = item.Ready.Name
		case item.Booting != nil:
			name = item.Booting.Name
		default:
			continue
		}
		rs.effects.List = true // to learn its instance id
		return rs.nodes.add(rs.guessSet(name), r.VMID, name, pool.NodeBooting)
	}
	return nil
}

// recordReady takes in that an agent has come up, for the first time or again.
// at is the enqueued time of its report; less: see recordBoot.
func (rs *reports) recordReady(n *Node, r protocol.Ready, less bool, at time.Time) {
	rs.nodes.openBilling(n)
	if !rs.recordBoot(n, r, less, at) {
		return
	}
	if !rs.recordRelease(n, r) {
		return
	}
	if n.CPUs == 0 {
		n.CPUs = r.CPUs
		rs.indexNode(n)
	}
	if n.State == pool.NodeCreating || n.State == pool.NodeBooting {
		rs.nodes.setState(n, pool.NodeReady, "")
		rs.capacity.recordNodeUp(n)
		if set := rs.set(n.Set); set != nil && !n.AskedAt.IsZero() && n.RestartAt.IsZero() {
			set.AddBoot(n.BootAt.Sub(n.AskedAt))
		}
	}
	// What was sent while it was down may have been lost with the old agent.
	rs.messages.resendTo(n)
}

// recordStart marks an attempt as running.
func (rs *reports) recordStart(n *Node, f protocol.Started) {
	j := n.jobs[f.N]
	if j == nil {
		return
	}
	a := j.Current()
	if r := j.Rank(f.N); r != nil {
		if r.State == job.AttemptRunning {
			return
		}
		r.State, r.StartedAt = job.AttemptRunning, f.At
	} else if j.State == job.Running {
		return
	}
	j.State, a.State = job.Running, job.AttemptRunning
	if j.Session != nil && j.Session.ReadyAt.IsZero() {
		j.Session.ReadyAt = rs.now
	}
	if a.StartedAt.IsZero() || f.At.Before(a.StartedAt) {
		a.StartedAt = f.At
	}
	rs.writeJob(j)
}

// recordFinish ends an attempt. A result that the pool has already is acknowledged at
// once, so that the node does not repeat it; a new result is acknowledged with the next
// message to the node.
func (rs *reports) recordFinish(n *Node, f protocol.Finished) {
	j := n.jobs[f.N]
	if j == nil {
		if f.N <= rs.Head.N { // otherwise this state is older than the assignment, and knows nothing of it
			rs.send(n, protocol.WorkItem{Ack: []int64{f.N}})
		}
		return
	}
	n.acks = append(n.acks, f.N)
	if rs.isGivenBack(j, f) {
		rs.attempts.unassignJob(j, n, f.N, fmt.Sprintf("node %s gave it back before it began: %s", n.Name, f.Reason))
		return
	}
	if len(f.Cause) > longestCause {
		f.Cause = job.Cause(strings.ToValidUTF8(string(f.Cause[:longestCause]), ""))
	}
	if c := f.LogsCut; c != nil && (c.Stdout < 0 || c.Stderr < 0) {
		f.LogsCut = nil
	}
	rs.attempts.recordAttemptEnd(j, n, f)
}

// longestCause bounds a cause in a row, in bytes. All known causes are one word.
const longestCause = 40

// recordLeaving takes in that Azure will take a node's VM away: the pool places nothing
// more on it, and its agent ends what it runs.
func (rs *reports) recordLeaving(n *Node, l protocol.Leaving) {
	if n.Evicted || n.State == pool.NodeDeleting || n.State == pool.NodeFailed {
		return
	}
	n.Evicted = true
	if (n.State == pool.NodeCreating || n.State == pool.NodeBooting) && n.Stage == "" {
		rs.capacity.recordNodeUp(n) // its agent speaks, whatever became of its first word
	}
	rs.nodes.setState(n, pool.NodeDraining, l.Reason)
}

// compareHoldings compares the assignments that the node says it has with those that it
// was given. It reports whether there was room for all of it.
func (rs *reports) compareHoldings(n *Node, h protocol.Holds, seen int64) bool {
	if (n.State == pool.NodeCreating || n.State == pool.NodeBooting) && n.Stage == "" {
		rs.nodes.setState(n, pool.NodeReady, "") // its agent reports, even if its first report is lost
		rs.capacity.recordNodeUp(n)
	}
	has := make(map[int64]bool, len(h.N))
	for _, number := range h.N {
		has[number] = true
	}
	for _, number := range numbers(n) {
		if number > seen || has[number] {
			continue
		}
		if !rs.hasRoom() {
			return false
		}
		if j := n.jobs[number]; number <= h.Lost || j.HasBegun(number) {
			rs.attempts.endForgotten(j, n, number)
		} else {
			rs.attempts.unassignJob(j, n, number, "the node did not have it")
		}
	}
	if len(n.jobs) == 0 && rs.now.Sub(n.signOfLifeAt) >= signOfLifeEvery {
		rs.send(n, protocol.WorkItem{Here: true})
		n.signOfLifeAt = rs.now
	}
	return true
}

// signOfLifeEvery is how often the pool sends a message to a node without work. A node
// that gets no message for hours concludes that its pool is gone, and powers itself off.
const signOfLifeEvery = time.Hour
