package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// Rolling. The model of a scale set says what its nodes are made of: image, agent, setup,
// shares, network. When the deployment or the pool would write another model than the set
// has, it is written, and the nodes that are there are outdated. They leave, and the line
// brings new ones. No job is lost by that: an idle node leaves at once, a busy one takes
// nothing new and leaves when its jobs end.

// rolling lets outdated nodes leave.
type rolling struct {
	*turn
	messages *messages
	nodes    *nodeStates
	capacity *capacity
}

// rollShare bounds the nodes that are out of use at once because they are replaced, to one
// node in so many.
const rollShare = 4

// lastNodeWaits is how long the last node that takes work goes on when it is outdated and
// the pool may have none beside it: it may become idle by itself.
const lastNodeWaits = time.Hour

// Reasons around outdated nodes.
const (
	outdatedReason = "outdated: leaves when its jobs end"
	rollRequeue    = "its node is outdated, and its time to leave has come"
	madeAgain      = "its scale set cannot be changed as the deployment wants it, and is made again when its last node has left"
)

// replaceOutdated lets outdated nodes leave, as many as the pool can do without. An idle
// node that `nodes.min` does not ask for leaves at once, if no job waits. Of the others a
// part leaves at a time; all of them do when a node of the new model works and the pool
// may have others beside them.
func (ro *rolling) replaceOutdated() {
	if ro.Head.Deleting || ro.Head.Down {
		return
	}
	old, out := ro.outdatedNodes()
	if !ro.canReplace() {
		return
	}
	if ro.requeueOverdue(); len(old) == 0 {
		return
	}
	c := ro.census()
	free := 0
	if ro.capacity.mayGrow(c) {
		free = ro.Head.Spec.Nodes.Max - c.counted() - ro.pending()
	}
	allowed := max((c.working+out)/rollShare, 1) - out - c.coming - ro.pending()
	if c.working > c.outdated { // one of the new model works
		allowed = max(allowed, free)
	}
	working := c.working
	for _, n := range old {
		idle := len(n.jobs) == 0
		switch {
		case !ro.hasRoom():
			return
		case idle && working > ro.minNodes() && ro.line.wanting() == 0:
		case working <= ro.minNodes() && free > 0, allowed <= 0:
			continue // another comes first, or it is not its turn yet
		case !idle && working == 1 && free == 0 && ro.now.Sub(n.OutdatedAt) < lastNodeWaits:
			continue // it may become idle, and until then nothing else takes work
		default:
			allowed--
		}
		working--
		if n.Reason != outdatedReason { // otherwise it leaves already, because it is overdue
			ro.nodes.drainNode(n, outdatedReason)
		}
	}
}

// outdatedNodes lists the outdated nodes that take work, the idle ones first, and counts
// those that leave because they are outdated. A node that leaves for that reason and is
// outdated no longer stays in use.
func (ro *rolling) outdatedNodes() (old []*Node, leaving int) {
	for _, n := range ro.sortedNodes() {
		leaves := n.Reason == outdatedReason
		switch {
		case n.State == pool.NodeDraining && leaves && !n.Outdated && !n.Evicted && ro.hasRoom():
			ro.nodes.putInUse(n)
		case leaves && (n.State == pool.NodeDraining || n.State == pool.NodeDeleting):
			leaving++
		case n.Outdated && (n.State == pool.NodeReady || n.State == pool.NodeBusy) && !n.hasSession():
			old = append(old, n)
		}
	}
	slices.SortStableFunc(old, func(a, b *Node) int { return btoi(len(a.jobs) > 0) - btoi(len(b.jobs) > 0) })
	return old, leaving
}

// canReplace reports whether nodes that leave may be replaced by others, as far as the pool
// knows: a rung may be asked, or was refused for a reason that nodes which leave may mend.
func (ro *rolling) canReplace() bool {
	for i := range ro.Head.Sets {
		set := &ro.Head.Sets[i]
		isFull := set.Blocked.Code == string(fault.NoCapacity) || set.Blocked.Code == string(fault.Invalid)
		switch {
		case ro.rungOf(set.Name) < 0:
		case set.Model.Fixed, !set.Breaker.Open() && !(isFull && ro.now.Before(set.Blocked.Until)):
			return true
		}
	}
	return false
}

// requeueOverdue puts the jobs of outdated nodes back in line whose time is over, if the
// deployment has set one. It costs them no retry.
func (ro *rolling) requeueOverdue() {
	if ro.timing.RollWithin <= 0 {
		return
	}
	for _, n := range ro.sortedNodes() {
		if !n.Outdated || n.hasSession() || ro.now.Sub(n.OutdatedAt) < ro.timing.RollWithin {
			continue
		}
		for _, number := range numbers(n) {
			if !ro.hasRoom() {
				return
			}
			if j := n.jobs[number]; j.Cancel == "" && !j.Requeue {
				j.Requeue, j.CancelAt = true, ro.now
				ro.messages.askToEnd(j, rollRequeue)
				ro.writeJob(j)
			}
		}
		if n.State == pool.NodeReady || n.State == pool.NodeBusy {
			ro.nodes.drainNode(n, outdatedReason)
		}
	}
}

// Pauses between requests to write a set's model.
const (
	modelPause        = time.Minute
	longestModelPause = time.Hour
)

// recordModel takes in what a list says of the model of a set.
func (cp *capacity) recordModel(set *pool.Set, e pool.Listed) {
	m := &set.Model
	if !e.Exists {
		*m = pool.Model{}
		return
	}
	if m.Wanted != "" && e.Wanted != m.Wanted && set.Breaker.Open() {
		set.Breaker.ProbeAt = cp.now // what is wrong may have been mended
	}
	if m.Has != "" && m.Has != e.Model {
		cp.markGoneOutdated(set)
	}
	if m.Has, m.Wanted = e.Model, e.Wanted; !m.IsOutdated() {
		// RetryAt stays, so that handlers of two releases that want different models cannot
		// have it written more often.
		m.Tries, m.Problem = 0, ""
	}
}

// markGoneOutdated notes that the nodes of a set that have left were made from an earlier
// model, so that nobody concludes from their agents what the next ones know: see lacks.
func (cp *capacity) markGoneOutdated(set *pool.Set) {
	for _, n := range cp.sortedNodes() {
		if n.Set == set.Name && n.State == pool.NodeGone && !n.Outdated && cp.hasRoom() {
			n.Outdated, n.OutdatedAt = true, cp.now
			cp.touchNode(n)
		}
	}
}

// forgetAgents has the pool try nodes again whose agents lacked what is needed: somebody has
// mended what only a person can, such as an instance on one machine that did not run as root.
func (cp *capacity) forgetAgents() {
	for i := range cp.Head.Sets {
		cp.markGoneOutdated(&cp.Head.Sets[i])
	}
}

// mayWriteModel reports whether the model of a set is to be written now. A set without
// nodes waits for its next request for nodes, which writes the model, too; and a service that
// is throttled is left alone.
func (cp *capacity) mayWriteModel(set *pool.Set) bool {
	if set.Blocked.Code == string(fault.Throttled) && cp.now.Before(set.Blocked.Until) {
		return false
	}
	if n := cp.unbackedBeyond(set); n > 0 && n+cp.unseenBeside(set) > cp.room() {
		return false // the write would bring instances for which there is no room
	}
	return set.Model.IsOutdated() && !set.Model.Fixed && !cp.Head.Deleting && cp.rungOf(set.Name) >= 0 &&
		!cp.now.Before(set.Model.RetryAt) && cp.censusOf(set).here() > 0 && cp.mayAskNow(set)
}

// writeModel has the model of a set written. The write brings the instances that an earlier
// call has failed to bring.
func (sz *sizing) writeModel(set *pool.Set) {
	if n := sz.unbackedBeyond(set); n > 0 {
		set.AddRequest(n, sz.now)
		set.Bound, set.BoundAt = max(set.Bound, set.Capacity), sz.now
	}
	set.Op = pool.Op{Kind: pool.OpModel, AskedAt: sz.now}
	set.Model.Tries++
	set.Model.RetryAt = sz.now.Add(backoff.After(set.Model.Tries, modelPause, longestModelPause))
	countWrite(set, sz.now)
	sz.callsOf(set).Model = true
}

// recordModelAnswer takes in how a request went to write the model of a set.
func (cp *capacity) recordModelAnswer(set *pool.Set, e pool.Answered) {
	if e.Err == nil {
		set.Unbacked = false // what it counts is on its way
	}
	if e.Err == nil && e.Token != "" {
		set.Op.Token, set.Op.PollAt = e.Token, cp.now.Add(e.After)
		return
	}
	set.Op = pool.Op{}
	cp.effects.List = true // it shows which nodes are outdated
	switch {
	case e.Err == nil:
		set.Model.Problem = ""
	case e.Err.Code == fault.Immutable:
		cp.recordFixedModel(set)
	case e.Err.Code == fault.Throttled: // the limit is that of all writes to the set
		set.Blocked = pool.Block{Code: string(e.Err.Code), Message: e.Err.Message, Tries: set.Blocked.Tries + 1,
			Until: later(set.Blocked.Until, cp.now.Add(blockFor(e.Err, set.Blocked.Tries+1)))}
	case e.Err.Code != fault.Preempted:
		set.Model.Problem = e.Err.Message
		set.Model.RetryAt = later(set.Model.RetryAt, cp.now.Add(e.Err.RetryAfter))
	}
}

// recordFixedModel takes in that the model of a set cannot be changed: all of its nodes are
// outdated, and it gives no more.
func (cp *capacity) recordFixedModel(set *pool.Set) {
	set.Model.Fixed, set.Model.Problem = true, ""
	for _, n := range cp.sortedNodes() {
		if n.Set == set.Name && n.State != pool.NodeGone && !n.Outdated && cp.hasRoom() {
			n.Outdated, n.OutdatedAt = true, cp.now
			cp.touchNode(n)
		}
	}
}

// noteReplaced takes in that a node is gone. If it has left because it is outdated, the
// quota that it used is free for the one that takes its place.
func (cp *capacity) noteReplaced(n *Node) {
	set := cp.set(n.Set)
	if set != nil && n.Reason == outdatedReason && set.Blocked.Code == string(fault.NoQuota) {
		set.Blocked, set.QuotaLimit = pool.Block{Tries: set.Blocked.Tries}, 0
	}
}

// outdatedText says how many nodes are outdated, and why a model could not be written,
// after a separator; "" = nothing is outdated.
func (s *State) outdatedText(separator string) string {
	var parts []string
	if n := s.countOutdated(); n > 0 {
		parts = append(parts, countNodes(n, "is outdated and leaves when its jobs end", "are outdated and leave when their jobs end"))
	}
	for i := range s.Head.Sets {
		set := &s.Head.Sets[i]
		switch {
		case set.Model.Problem != "":
			parts = append(parts, fmt.Sprintf("new nodes of %s cannot be made as the deployment wants them: %s", set, set.Model.Problem))
		case set.Model.Fixed:
			parts = append(parts, fmt.Sprintf("%s: %s", set, madeAgain))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return separator + strings.Join(parts, "; ")
}

// countOutdated counts the outdated nodes that have not left.
func (s *State) countOutdated() int {
	n := 0
	for _, node := range s.Nodes {
		if node.Outdated && node.State != pool.NodeGone && node.State != pool.NodeDeleting {
			n++
		}
	}
	return n
}
