package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// failures decides whose fault a failed attempt is, and takes broken nodes out of use.
type failures struct {
	*turn
	capacity *capacity
	nodes    *nodeStates
}

// Whose fault a failed attempt is. If only the job can mend the cause, the attempt says
// nothing about its node. If the node is at fault, the attempt is noted on the node as a
// blame, with its job and its event. A node is taken out of use after several events in a
// row have failed different jobs: one job may fail on every node, and one restart may end
// a hundred attempts.

const (
	// badStarts is the number of events in a row that fail different jobs after which a
	// node counts as broken: one may be the fault of its job, three hardly are.
	badStarts = 3
	// maxQuarantinedShare bounds the quarantined nodes of a pool, to one node in so many:
	// more of them show nothing new, and all of them are billed.
	maxQuarantinedShare = 4
	// restartWindow is how far apart the starts of agents may be reported and still count
	// as together: an upgrade or a boot of the machine takes time, and so do reports.
	restartWindow = 2 * time.Minute
	// shunFor is how long a job stays away from a node that could not start it, while
	// other nodes can take it: long enough for another node to come up, short enough that
	// no job waits long beside an idle node.
	shunFor = 10 * time.Minute
	// pauseOnSame is the pause before a job goes back to the node that could not start it,
	// if there is no other node. It doubles each time, up to shunFor.
	pauseOnSame = 30 * time.Second
	// maxBlames bounds the blames in a node's row.
	maxBlames = 32
)

// blameNode notes what an attempt's end says about its node.
func (fs *failures) blameNode(n *Node, j *Job, f protocol.Finished) {
	end := job.AttemptState(f.State)
	b := pool.Blame{Job: j.Order, Event: fmt.Sprint("assignment ", f.N), What: endText(end, f.Cause), At: fs.now}
	if of, _, member := job.SweepOrder(j.Order); member {
		b.Job = of
	}
	switch {
	case end == job.AttemptAgentRestarted, end == job.AttemptStartFailed && f.Cause == job.CauseJournalLost:
		b.Event = restartOf(n.Boot)
		// If the node has never reported a start of the attempt, perhaps the message was
		// lost, and not the journal.
		neverBegun := end == job.AttemptAgentRestarted && f.Cause == job.CauseJournalLost && f.StartedAt.IsZero()
		if neverBegun || slices.Contains(fs.restartedTogether(n.RestartAt), n) {
			return
		}
	case end == job.AttemptStartFailed && f.Cause.Owner() == job.OwnerNode:
	case end == job.AttemptSucceeded, end == job.AttemptFailed, end == job.AttemptTimedOut:
		fs.clearBlames(n)
		return
	default:
		return
	}
	fs.noteBlame(n, b)
}

// blameLate blames a node for an attempt that is asked back because the node has not begun
// it. If the node has not seen the assignment yet, the delay is not the node's fault.
func (fs *failures) blameLate(n *Node, j *Job, number int64) {
	if number > n.Seen {
		return
	}
	b := pool.Blame{Job: j.Order, Event: fmt.Sprint("assignment ", number), What: "not begun", At: fs.now}
	if of, _, member := job.SweepOrder(j.Order); member {
		b.Job = of
	}
	fs.noteBlame(n, b)
}

// noteBlame adds a blame to a node's row.
func (fs *failures) noteBlame(n *Node, b pool.Blame) {
	if len(n.Blames) < maxBlames {
		n.Blames = append(slices.Clip(n.Blames), b)
		n.Breaks = countBreaks(n.Blames)
		fs.touchNode(n)
	}
}

// clearBlames removes all blames of a node.
func (fs *failures) clearBlames(n *Node) {
	if n.Breaks > 0 || len(n.Blames) > 0 {
		n.Breaks, n.Blames = 0, nil
		fs.touchNode(n)
	}
}

// endText names an end with its cause.
func endText(end job.AttemptState, cause job.Cause) string {
	if cause == "" {
		return string(end)
	}
	return fmt.Sprintf("%s (%s)", end, cause)
}

// restartOf names the event of an agent's start, by its boot id.
func restartOf(boot string) string { return "start " + boot }

// countBreaks counts the events that have no job in common with an earlier event: in each
// of them the node failed different jobs.
func countBreaks(blames []pool.Blame) int {
	count := 0
	jobs, events := map[string]bool{}, map[string]bool{}
	for _, first := range blames {
		if events[first.Event] {
			continue
		}
		events[first.Event] = true
		allNew, inEvent := true, []string{}
		for _, b := range blames {
			if b.Event == first.Event {
				allNew, inEvent = allNew && !jobs[b.Job], append(inEvent, b.Job)
			}
		}
		if allNew {
			count++
		}
		for _, of := range inEvent {
			jobs[of] = true
		}
	}
	return count
}

// recordRestart takes in that an agent has started again. An agent that is asked to stop
// first ends the attempts that it runs: these ends belong to the same event as the ends
// that it reports after its start. If most agents of the pool have started again
// together, none of their nodes is at fault.
func (fs *failures) recordRestart(n *Node, before string, at time.Time) {
	if at.IsZero() {
		at = fs.now
	}
	n.RestartAt = at
	n.Blames = slices.Clone(n.Blames)
	for i := range n.Blames {
		if b := &n.Blames[i]; b.Event == restartOf(before) && fs.now.Sub(b.At) <= restartWindow {
			b.Event = restartOf(n.Boot)
		}
	}
	n.Breaks = countBreaks(n.Blames)
	for _, other := range fs.restartedTogether(at) {
		event := restartOf(other.Boot)
		if slices.ContainsFunc(other.Blames, func(b pool.Blame) bool { return b.Event == event }) {
			other.Blames = slices.DeleteFunc(slices.Clone(other.Blames), func(b pool.Blame) bool { return b.Event == event })
			other.Breaks = countBreaks(other.Blames)
			fs.touchNode(other)
		}
		if !other.isBroken() && other.isSetAside() && fs.hasPlaceFor(other) {
			fs.nodes.putInUse(other)
		}
	}
}

// hasPlaceFor reports whether `nodes.max` allows a node to be in use again. A quarantined one
// does not count, so that another may have been asked for in its place: it stays aside then,
// and goes when its time is up.
func (fs *failures) hasPlaceFor(n *Node) bool {
	return n.State != pool.NodeQuarantined || fs.room() > 0
}

// isSetAside reports whether a node was taken out of use because it is broken.
func (n *Node) isSetAside() bool {
	return n.State == pool.NodeQuarantined || n.State == pool.NodeDraining && strings.HasSuffix(n.Reason, enoughQuarantined)
}

// restartedTogether lists the nodes whose agents started again about that time, if these
// are more than half of the nodes with an agent; otherwise none.
func (fs *failures) restartedTogether(at time.Time) []*Node {
	if at.IsZero() {
		return nil
	}
	agents := 0
	var list []*Node
	for _, n := range fs.Nodes {
		switch n.State {
		case pool.NodeReady, pool.NodeBusy, pool.NodeDraining, pool.NodeQuarantined:
			agents++
			if !n.RestartAt.IsZero() && n.RestartAt.Sub(at).Abs() <= restartWindow {
				list = append(list, n)
			}
		default: // no agent is expected to run on it
		}
	}
	if 2*len(list) <= agents {
		return nil
	}
	return list
}

// avoidedNodes lists the nodes that could not start the job in its last attempts, as far
// back as all of them were lost, each VMID between commas; "" = none.
func (j *Job) avoidedNodes() string {
	var list []string
	for i := len(j.Attempts) - 1; i >= 0 && isLost(&j.Attempts[i]); i-- {
		if a := &j.Attempts[i]; a.State == job.AttemptStartFailed {
			list = append(list, vmidOf(a))
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return "," + strings.Join(slices.Compact(list), ",") + ","
}

// vmidOf and nodeOf are the node on which an attempt ended; for a gang, the node of the
// rank that failed first.
func vmidOf(a *job.Attempt) string {
	if a.Broke > 0 {
		return a.Ranks[a.Broke-1].VMID
	}
	return a.VMID
}

func nodeOf(a *job.Attempt) string {
	if a.Broke > 0 {
		return a.Ranks[a.Broke-1].Node
	}
	return a.Node
}

// isShunned reports whether jobs of a shape stay away from a node that could not start
// them. They do until its blames are cleared, or until shunFor after the last of them.
func (fs *failures) isShunned(of shape, n *Node) bool {
	return len(n.Blames) > 0 && strings.Contains(of.avoid, ","+n.VMID+",") && fs.now.Sub(n.Blames[len(n.Blames)-1].At) < shunFor
}

// canRunElsewhere reports whether enough nodes that are not shunned can take a shape, now
// or when they have room, or whether new nodes are coming or may be asked for.
func (fs *failures) canRunElsewhere(of shape) bool {
	if c := fs.census(); c.coming+fs.pending() > 0 || fs.capacity.mayGrow(c) {
		return true
	}
	others := 0
	for _, n := range fs.Nodes {
		works := n.State == pool.NodeReady || n.State == pool.NodeBusy
		if works && !fs.isShunned(of, n) && fs.kindSuits(of, n) && fits(n.total(), job.Resources{}, of.resources()) {
			others++
		}
	}
	return others >= of.nodes
}

// pauseBeforeRetry is when a job whose attempt was lost may start again: at once, unless
// only the node that could not start it can take it.
func (fs *failures) pauseBeforeRetry(j *Job) time.Time {
	if a := j.Current(); a.State != job.AttemptStartFailed || fs.canRunElsewhere(shapeOf(j)) {
		return time.Time{}
	}
	return fs.now.Add(backoff.After(j.countLostInARow(), pauseOnSame, shunFor))
}

// isBroken reports whether a node is to be taken out of use.
func (n *Node) isBroken() bool { return n.Breaks >= badStarts }

// setAsideBroken takes broken nodes out of use. It quarantines a few of them, so that
// somebody can look at them, and drains the others. While work waits, the last node that
// takes work stays in use, even if it is broken.
func (fs *failures) setAsideBroken() {
	if fs.Head.Deleting {
		return
	}
	var broken, quarantined []*Node
	healthy := 0
	for _, n := range fs.Nodes {
		switch {
		case n.State == pool.NodeQuarantined:
			quarantined = append(quarantined, n)
		case n.State != pool.NodeReady && n.State != pool.NodeBusy:
		case n.isBroken():
			broken = append(broken, n)
		default:
			healthy++
		}
	}
	if len(broken)+len(quarantined) == 0 {
		return
	}
	byVMID := func(a, b *Node) int { return strings.Compare(a.VMID, b.VMID) }
	slices.SortFunc(broken, byVMID)
	limit := max(fs.census().here()/maxQuarantinedShare, 1)
	for _, n := range broken {
		if healthy == 0 && fs.workWaits() || !fs.hasRoom() {
			break
		}
		why := fmt.Sprintf("it failed %d different jobs in a row", n.Breaks)
		if last := len(n.Blames) - 1; last >= 0 {
			why += ", the last of them as " + n.Blames[last].What
		}
		if len(quarantined) < limit {
			fs.nodes.setState(n, pool.NodeQuarantined, fmt.Sprintf("%s; it is kept for a look until %s, or until `dsvm node release %s`",
				why, stamp(fs.now.Add(pool.QuarantineFor)), n.Name))
			quarantined = append(quarantined, n)
		} else {
			fs.nodes.drainNode(n, why+"; "+enoughQuarantined)
		}
	}
	slices.SortFunc(quarantined, func(a, b *Node) int { return cmp.Or(a.Since.Compare(b.Since), byVMID(a, b)) })
	for ; len(quarantined) > limit && fs.hasRoom(); quarantined = quarantined[1:] {
		fs.nodes.drainNode(quarantined[0], "it was broken; "+enoughQuarantined)
	}
}

// workWaits reports whether jobs are in line, or will be within QuarantineFor.
func (fs *failures) workWaits() bool {
	soon := fs.line.later.jobs
	return fs.line.waiting() > 0 || len(soon) > 0 && soon[0].NotBefore.Sub(fs.now) < pool.QuarantineFor
}

// enoughQuarantined is the reason of a broken node that is not quarantined.
const enoughQuarantined = "it leaves, since enough broken nodes are kept for a look"
