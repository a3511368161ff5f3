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

// failures says whose fault it was, and takes broken nodes out of use.
type failures struct {
	*turn
	capacity *capacity
	nodes    *nodeStates
}

// Whose fault it was. What only the job can mend says nothing about its node. What
// the node broke is noted on the node, by job and by event, and a node is taken out
// of use when several events in a row have failed different jobs: one job may do
// the same to any node, and one restart may end a hundred attempts.

const (
	// badStarts is how many events in a row may fail different jobs before a node
	// counts as broken: of one it may be the job's fault, hardly of three.
	badStarts = 3
	// maxQuarantinedShare is the part of a pool, one in so many, that broken nodes may be
	// kept of: more of them show nothing new, and all of them are billed.
	maxQuarantinedShare = 4
	// restartWindow is how far apart agents may be heard to have started again and
	// still count as restarted together: an upgrade or a boot of the machine takes
	// its time, and their reports take theirs.
	restartWindow = 2 * time.Minute
	// shunFor is how long a job stays away from a node that could not start it,
	// while others may take it: long enough for another node to come up, short
	// enough that work does not wait for long beside an idle node.
	shunFor = 10 * time.Minute
	// pauseOnSame is the pause before a job goes back to the node that could not
	// start it, when there is no other; it doubles each time, up to shunFor.
	pauseOnSame = 30 * time.Second
	// maxBlames bounds what a node's row keeps: more than any three events need.
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
		// Of an attempt that the node has never shown to have begun, the message may have
		// been lost, and not the journal.
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

// blameLate notes that an attempt was asked back, since its node has not begun it. One
// that the node has not seen was held up elsewhere.
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

func (fs *failures) noteBlame(n *Node, b pool.Blame) {
	if len(n.Blames) < maxBlames {
		n.Blames = append(slices.Clip(n.Blames), b)
		n.Breaks = countBreaks(n.Blames)
		fs.touchNode(n)
	}
}

// clearBlames forgets what stands against a node.
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

// restartOf is the event that a start of an agent is.
func restartOf(boot string) string { return "start " + boot }

// countBreaks counts the events none of whose jobs was in an earlier one: so many
// different jobs have been failed, whichever of them one suspects.
func countBreaks(blames []pool.Blame) int {
	count := 0
	jobs, events := map[string]bool{}, map[string]bool{}
	for _, first := range blames {
		if events[first.Event] {
			continue
		}
		events[first.Event] = true
		fresh, now := true, []string{}
		for _, b := range blames {
			if b.Event == first.Event {
				fresh, now = fresh && !jobs[b.Job], append(now, b.Job)
			}
		}
		if fresh {
			count++
		}
		for _, of := range now {
			jobs[of] = true
		}
	}
	return count
}

// recordRestart takes in that an agent has started again. An agent that is asked to end
// ends what it runs before: that belongs to the same event as what it finds
// afterwards. When most of the pool's agents have done so at once, none of their
// nodes is at fault.
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
	for _, with := range fs.restartedTogether(at) {
		event := restartOf(with.Boot)
		if slices.ContainsFunc(with.Blames, func(b pool.Blame) bool { return b.Event == event }) {
			with.Blames = slices.DeleteFunc(slices.Clone(with.Blames), func(b pool.Blame) bool { return b.Event == event })
			with.Breaks = countBreaks(with.Blames)
			fs.touchNode(with)
		}
		if !with.isBroken() && with.isSetAside() {
			fs.nodes.takeBack(with)
		}
	}
}

// isSetAside reports whether a node was taken out of use for what it broke.
func (n *Node) isSetAside() bool {
	return n.State == pool.NodeQuarantined || n.State == pool.NodeDraining && strings.HasSuffix(n.Reason, enoughQuarantined)
}

// restartedTogether lists the nodes whose agents were heard to start again about that time,
// when they are most of those that have an agent; else none.
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

// avoidedNodes lists the nodes that could not start the job, one attempt after the other
// up to now, each between commas; "" = none.
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

// vmidOf and nodeOf are the node on which an attempt ended: of a gang, that of the
// rank that broke.
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
// them: until it has done well, was released, or has had some time.
func (fs *failures) isShunned(of shape, n *Node) bool {
	return len(n.Blames) > 0 && strings.Contains(of.avoid, ","+n.VMID+",") && fs.now.Sub(n.Blames[len(n.Blames)-1].At) < shunFor
}

// canRunElsewhere reports whether nodes that could start a shape are there, with room or
// without, or may come.
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

// pauseBeforeRetry is when a job that was lost may start again: at once, unless it would
// go back to the node that could not start it.
func (fs *failures) pauseBeforeRetry(j *Job) time.Time {
	if a := j.Current(); a.State != job.AttemptStartFailed || fs.canRunElsewhere(shapeOf(j)) {
		return time.Time{}
	}
	return fs.now.Add(backoff.After(j.countLostInARow(), pauseOnSame, shunFor))
}

// isBroken reports whether a node is to be taken out of use.
func (n *Node) isBroken() bool { return n.Breaks >= badStarts }

// setAsideBroken takes broken nodes out of use. Few are kept for a look, the others leave;
// while work waits, the last node that takes any stays, for what it is worth.
func (fs *failures) setAsideBroken() {
	if fs.Head.Deleting {
		return
	}
	var bad, kept []*Node
	sound := 0
	for _, n := range fs.Nodes {
		switch {
		case n.State == pool.NodeQuarantined:
			kept = append(kept, n)
		case n.State != pool.NodeReady && n.State != pool.NodeBusy:
		case n.isBroken():
			bad = append(bad, n)
		default:
			sound++
		}
	}
	if len(bad)+len(kept) == 0 {
		return
	}
	byVMID := func(a, b *Node) int { return strings.Compare(a.VMID, b.VMID) }
	slices.SortFunc(bad, byVMID)
	most := max(fs.census().here()/maxQuarantinedShare, 1)
	for _, n := range bad {
		if sound == 0 && fs.workWaits() || !fs.hasRoom() {
			break
		}
		why := fmt.Sprintf("it failed %d different jobs in a row", n.Breaks)
		if last := len(n.Blames) - 1; last >= 0 {
			why += ", the last of them as " + n.Blames[last].What
		}
		if len(kept) < most {
			fs.nodes.setState(n, pool.NodeQuarantined, fmt.Sprintf("%s; it is kept for a look until %s, or until `dsvm node release %s`",
				why, stamp(fs.now.Add(pool.QuarantineFor)), n.Name))
			kept = append(kept, n)
		} else {
			fs.nodes.sendOff(n, why+"; "+enoughQuarantined)
		}
	}
	slices.SortFunc(kept, func(a, b *Node) int { return cmp.Or(a.Since.Compare(b.Since), byVMID(a, b)) })
	for ; len(kept) > most && fs.hasRoom(); kept = kept[1:] {
		fs.nodes.sendOff(kept[0], "it was broken; "+enoughQuarantined)
	}
}

// workWaits reports whether jobs are in line, or will soon be.
func (fs *failures) workWaits() bool {
	soon := fs.line.later.jobs
	return fs.line.waiting() > 0 || len(soon) > 0 && soon[0].NotBefore.Sub(fs.now) < pool.QuarantineFor
}

// enoughQuarantined is why a broken node leaves at once.
const enoughQuarantined = "it leaves, since enough broken nodes are kept for a look"
