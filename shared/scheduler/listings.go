package scheduler

import (
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// listings takes in lists of the instances of scale sets.
type listings struct {
	*turn
	nodes    *nodeStates
	capacity *capacity
	attempts *attempts
}

// receive updates the nodes of a set from a list. It reports whether there was room for
// all of it. What the list lacks is judged by the time at which Azure was asked for it:
// the turn that takes it in may have waited for others that were slow.
func (ls *listings) receive(e pool.Listed) bool {
	set := ls.setOrFirst(e.Set)
	if set == nil {
		return true // the pool has no such set any more
	}
	at := e.At
	if at.IsZero() {
		at = ls.now
	}
	if set.Listed = ls.now; at.Sub(set.GrantedAt) >= ls.timing.MissingFor {
		set.Capacity = e.Capacity
	} else {
		set.Capacity = max(set.Capacity, e.Capacity)
	}
	if at.Sub(set.BoundAt) >= ls.timing.MissingFor {
		set.Bound, set.BoundAt = 0, time.Time{}
	}
	set.Used = set.Used || e.Exists
	if set.Learn(e.Tariffs, at, ls.now) && !ls.nodes.followTariffs() {
		return false
	}
	ls.capacity.recordModel(set, e)
	here := map[string]bool{}
	for _, inst := range e.Instances {
		here[inst.VMID] = true
		if !ls.hasRoom() {
			return false
		}
		ls.observeInstance(set, inst)
	}
	for _, n := range ls.sortedNodes() {
		if n.State == pool.NodeGone || here[n.VMID] || n.Set != set.Name {
			continue
		}
		if !ls.hasRoom() {
			return false
		}
		switch {
		case !n.DeleteAt.IsZero() && at.Sub(n.CreatedAt) < ls.timing.MissingFor:
			// The list may be older than the instance, and the call for its deletion may have failed.
		case !n.DeleteAt.IsZero():
			if !ls.recordGone(n) {
				return false
			}
		case n.MissingAt.IsZero():
			n.MissingAt = later(at, n.CreatedAt) // the list may be older than the instance
			ls.touchNode(n)
		case at.Sub(n.MissingAt) >= ls.timing.MissingFor:
			if !n.Evicted {
				n.Reason = "deleted by someone else"
				ls.touchNode(n)
			}
			if !ls.recordGone(n) {
				return false
			}
		}
	}
	ls.capacity.reconcile(set, e.Capacity, at)
	return true
}

// observeInstance takes in one instance of a list.
func (ls *listings) observeInstance(set *pool.Set, inst pool.Instance) {
	n := ls.Nodes[inst.VMID]
	if n == nil {
		if strings.EqualFold(inst.Provisioning, "Deleting") {
			return
		}
		n = ls.nodes.add(set, inst.VMID, inst.Name, pool.NodeCreating)
	}
	if n.State == pool.NodeGone {
		return // the listing lags
	}
	if n.InstanceID != inst.ID || n.Name != inst.Name || n.Set != set.Name || !n.MissingAt.IsZero() {
		n.InstanceID, n.Name, n.Set, n.MissingAt = inst.ID, inst.Name, set.Name, time.Time{}
		ls.touchNode(n)
	}
	if outdated := inst.Outdated || set.Model.Fixed; outdated != n.Outdated {
		ls.nodes.markOutdated(n, outdated)
	}
	running := strings.EqualFold(inst.Power, "running")
	if running && n.RunningAt.IsZero() {
		ls.nodes.openBilling(n)
		ls.touchNode(n)
	}
	if running && n.State == pool.NodeCreating {
		ls.nodes.setState(n, pool.NodeBooting, "")
	}
	switch {
	case strings.EqualFold(inst.Provisioning, "Deleting") && n.State == pool.NodeFailed && len(n.jobs) == 0 && !n.DeleteAt.IsZero():
		ls.nodes.setState(n, pool.NodeDeleting, n.Reason) // it leaves, so that another node may take its place
	case strings.EqualFold(inst.Provisioning, "Deleting") && n.State != pool.NodeDeleting && n.DeleteAt.IsZero():
		n.DeleteAt = ls.now
		reason := "deleted by someone else"
		if n.Evicted {
			reason = n.Reason
		}
		ls.nodes.setState(n, pool.NodeDeleting, reason)
	case isStopped(inst.Power) && slices.Contains(statesOfRunning, n.State):
		// Nothing runs there any more, but it may still be billed.
		if n.State == pool.NodeBooting {
			ls.capacity.recordNodeFailure(n, "its VM was "+strings.ToLower(inst.Power)+" before its agent had reported: "+lookAtNode)
		}
		ls.nodes.setState(n, pool.NodeFailed, "its VM was "+strings.ToLower(inst.Power)+" and not by the pool")
	case strings.EqualFold(inst.Provisioning, "Failed") && !running && (n.State == pool.NodeCreating || n.State == pool.NodeBooting):
		ls.nodes.setState(n, pool.NodeFailed, "Azure could not create it: "+inst.Error)
		ls.capacity.recordNodeFailure(n, "Azure could not create it: "+inst.Error)
	}
}

// statesOfRunning are the states of a node whose VM was seen running and is not being
// deleted.
var statesOfRunning = []pool.NodeState{pool.NodeBooting, pool.NodeReady, pool.NodeBusy, pool.NodeDraining, pool.NodeQuarantined}

// isStopped reports whether a power state says that a VM has stopped and will not
// start by itself.
func isStopped(power string) bool {
	return strings.EqualFold(power, "stopped") || strings.EqualFold(power, "deallocated")
}

// recordGone ends a node whose VM does not exist any more, and the attempts on it, so that
// their jobs can be placed again. It reports whether there was room for all of it.
func (ls *listings) recordGone(n *Node) bool {
	for _, number := range numbers(n) {
		if !ls.hasRoom() {
			return false
		}
		end, code := n.jobs[number].endOn(n)
		reason := "its node was deleted"
		if n.Reason != "" {
			reason += ": " + n.Reason
		}
		ls.attempts.recordAttemptEnd(n.jobs[number], n, protocol.Finished{
			N:        number,
			State:    string(end),
			ExitCode: code,
			Reason:   reason,
			EndedAt:  ls.now,
		})
	}
	ls.capacity.noteReplaced(n)
	ls.nodes.setState(n, pool.NodeGone, n.Reason)
	ls.nodes.closeInterval(n)
	return true
}
