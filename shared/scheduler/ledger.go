package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// enterAttempt writes an ended attempt to the ledger.
func (as *attempts) enterAttempt(j *Job, a *job.Attempt, n *Node) {
	as.enter(j, n, a.Number, attemptKey(j, a),
		job.Rank{State: a.State, ExitCode: a.ExitCode, StartedAt: a.StartedAt, EndedAt: a.EndedAt})
}

// enterRank writes an ended rank of a gang's attempt to the ledger.
func (as *attempts) enterRank(j *Job, a *job.Attempt, r *job.Rank, n *Node) {
	as.enter(j, n, a.Number, rankKey(j, a, r), *r)
}

// enter adds an entry for what a job used on one node. An attempt that never started used
// nothing.
func (as *attempts) enter(j *Job, n *Node, attempt int, key string, r job.Rank) {
	if !r.StartedAt.IsZero() {
		as.entries = append(as.entries, as.attemptEntry(j, n, attempt, key, r))
	}
}

// attemptEntry is the entry for what a job used on one node.
func (s *State) attemptEntry(j *Job, n *Node, attempt int, key string, r job.Rank) usage.Entry {
	e := s.entryOf(j, n.Node)
	e.Key, e.Attempt, e.State, e.ExitCode, e.From, e.To = key, attempt, string(r.State), r.ExitCode, r.StartedAt, r.EndedAt
	if set := s.set(n.Set); set != nil { // it pays what a node cost when it began
		if t, ok := set.TariffAt(r.StartedAt); ok {
			e.Price, e.Currency, e.Parts = t.PerHour, t.Currency, t.Parts
		}
	}
	return e
}

// intervalEntry is the entry for a node's open interval, up to its Mark.
func intervalEntry(of *pool.Spec, n *pool.Node) usage.Entry {
	return usage.Entry{
		Kind: usage.KindNode, Key: fmt.Sprintf("%s!%d", n.VMID, n.From.UnixMilli()), Pool: of.Name,
		Node: n.Name, VMID: n.VMID, Size: n.Size, Spot: n.Spot, NodeCPUs: n.CPUs, NodeGPUs: n.GPUs, NodeMem: int64(n.Memory),
		From: n.From, To: n.Mark,
		Boot: n.BootFor, Busy: n.BusyFor, Idle: n.IdleFor, Draining: n.DrainFor, Phases: n.Phases,
		Price: n.Price, Currency: n.Currency, Parts: n.Parts, Labels: of.Labels,
	}
}

// OpenEntries are the entries that the ledger would get if all that runs ended now: those of
// attempts that have started, and those of nodes that are billed. Their keys are those that
// they have when they end. The state is not changed.
func (s *State) OpenEntries(now time.Time) (entries []usage.Entry) {
	of := &s.Head.Spec
	for _, n := range s.Nodes {
		if n.From.IsZero() || n.State == pool.NodeGone {
			continue
		}
		until := *n.Node
		countTime(&until, now)
		entries = append(entries, intervalEntry(of, &until))
	}
	add := func(j *Job, attempt int, key, vmid string, r job.Rank) {
		n := s.Nodes[vmid]
		if n == nil || r.StartedAt.IsZero() || r.State.Ended() {
			return
		}
		r.EndedAt = now
		entries = append(entries, s.attemptEntry(j, n, attempt, key, r))
	}
	for j := range s.Jobs.All() {
		a := j.Current()
		if a == nil || a.State.Ended() {
			continue
		}
		if len(a.Ranks) == 0 {
			add(j, a.Number, attemptKey(j, a), a.VMID, job.Rank{State: a.State, StartedAt: a.StartedAt})
		}
		for i := range a.Ranks {
			r := &a.Ranks[i]
			add(j, a.Number, rankKey(j, a, r), r.VMID, *r)
		}
	}
	return entries
}

func attemptKey(j *Job, a *job.Attempt) string { return usage.AttemptKey(j.Order, a.Number) }

func rankKey(j *Job, a *job.Attempt, r *job.Rank) string {
	return usage.RankKey(j.Order, a.Number, r.Rank)
}
