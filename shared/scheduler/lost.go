package scheduler

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// An agent's journal can be lost or damaged with the node's disk, and with it what
// became of its attempts. Two things tell of that: the agent asks for the counter,
// since it found its journal new or damaged; or it comes up again and has seen
// less than it had reported before. The pool answers both with its counter, and
// concludes nothing yet: an old copy of an assignment may still be on its way, and
// would run. With the counter the agent refuses it, and lists what it holds. Then
// what it does not hold has ended.

// booted takes in a start of an agent, and reports whether it is news: a word of an
// earlier start, that comes late, is not. Messages of one node are in order by the
// time they were put on the queue. Less: the agent has seen less than it had.
func (st *step) booted(n *Node, r protocol.Ready, less bool, at time.Time) bool {
	before := n.Boot
	another := before != r.Boot
	if another && at.Before(n.BootAt) {
		return false
	}
	if another {
		n.Boot, n.Address, n.BootAt = r.Boot, r.Address, at
		st.touch(n)
		if before != "" {
			st.restarted(n, before, at)
		}
	}
	if r.Counter || another && less {
		st.send(n, protocol.WorkItem{Counter: &protocol.Counter{Boot: r.Boot, N: st.Head.N}})
	}
	return true
}

// reported is the highest number that the node's agent is known to have had: seen,
// which is only written with something else, or what has begun by the jobs' rows.
func (n *Node) reported(seen int64) int64 {
	most := seen
	for number, j := range n.jobs {
		if number > most && j.HasBegun(number) {
			most = number
		}
	}
	return most
}

// forgotten ends an attempt that its node may have run, and does not have any more.
func (st *step) forgotten(j *Job, n *Node, number int64) {
	began := j.Current().StartedAt
	if r := j.Rank(number); r != nil {
		began = r.StartedAt
	}
	st.over(j, n, protocol.Finished{N: number, State: string(job.AttemptAgentRestarted), ExitCode: job.ExitAgentRestarted, Cause: job.CauseJournalLost,
		Reason: "the journal of its node's agent is lost, and with it what became of the attempt", StartedAt: began, EndedAt: st.now})
}
