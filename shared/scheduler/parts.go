package scheduler

import (
	"time"

	"dsvmpools/shared/pool"
)

// step is one run of Step: the parts that decide, over one turn. Each part has fields for
// the parts that it calls. A part calls only parts above it in this list, except
// jobStates, which reports the ends of members to sweeping.
type step struct {
	*turn
	headBefore  pool.Head // the head before the step
	specChanged bool      // the spec has changed

	messages     *messages
	endNotices   *endNotices
	nodes        *nodeStates
	capacity     *capacity
	failures     *failures
	jobs         *jobStates
	sweeping     *sweeping
	sessions     *sessions
	budgets      *budgets
	holds        *holds
	waits        *waits
	attempts     *attempts
	placement    *placement
	recall       *recall
	sizing       *sizing
	reports      *reports
	listings     *listings
	housekeeping *housekeeping
	operator     *operator
	schedule     *schedule
	rolling      *rolling
	network      *network
	deletion     *deletion
	deadlines    *deadlines
	explainer    *explainer
}

// newStep makes all parts. Nothing else makes one.
func newStep(s *State, now time.Time, timing Timing) *step {
	t := &turn{State: s, transaction: newTransaction(), now: now, timing: timing}
	st := &step{turn: t, headBefore: s.Head}
	st.messages = &messages{turn: t}
	st.endNotices = &endNotices{turn: t}
	st.nodes = &nodeStates{turn: t}
	st.capacity = &capacity{turn: t}
	st.failures = &failures{turn: t, capacity: st.capacity, nodes: st.nodes}
	st.jobs = &jobStates{turn: t, messages: st.messages, endNotices: st.endNotices}
	st.sweeping = &sweeping{turn: t, jobs: st.jobs, endNotices: st.endNotices}
	st.jobs.sweeping = st.sweeping
	st.sessions = &sessions{turn: t, messages: st.messages, jobs: st.jobs}
	st.budgets = &budgets{turn: t, jobs: st.jobs, sessions: st.sessions}
	st.holds = &holds{turn: t, jobs: st.jobs, sweeping: st.sweeping}
	st.waits = &waits{turn: t, jobs: st.jobs}
	st.attempts = &attempts{turn: t, messages: st.messages, nodes: st.nodes, failures: st.failures, jobs: st.jobs}
	st.placement = &placement{
		turn:          t,
		capacity:      st.capacity,
		failures:      st.failures,
		sweeping:      st.sweeping,
		attempts:      st.attempts,
		noRoom:        map[shape]bool{},
		unfit:         map[shape]bool{},
		skip:          map[*jobHeap]bool{},
		reservedNodes: map[string]bool{},
		makeRoom:      map[string]bool{},
	}
	st.recall = &recall{turn: t, placement: st.placement}
	st.sizing = &sizing{turn: t, capacity: st.capacity, placement: st.placement}
	st.reports = &reports{
		turn:     t,
		messages: st.messages,
		nodes:    st.nodes,
		capacity: st.capacity,
		failures: st.failures,
		attempts: st.attempts,
		sessions: st.sessions,
	}
	st.listings = &listings{turn: t, nodes: st.nodes, capacity: st.capacity, attempts: st.attempts}
	st.housekeeping = &housekeeping{
		turn:      t,
		messages:  st.messages,
		nodes:     st.nodes,
		capacity:  st.capacity,
		failures:  st.failures,
		placement: st.placement,
	}
	st.operator = &operator{turn: t, messages: st.messages, nodes: st.nodes, failures: st.failures, sessions: st.sessions}
	st.schedule = &schedule{turn: t, messages: st.messages, nodes: st.nodes, jobs: st.jobs, sessions: st.sessions}
	st.rolling = &rolling{turn: t, messages: st.messages, nodes: st.nodes, capacity: st.capacity}
	st.network = &network{turn: t}
	st.deletion = &deletion{turn: t, jobs: st.jobs, sessions: st.sessions, sizing: st.sizing, network: st.network}
	st.deadlines = &deadlines{turn: t, sizing: st.sizing, network: st.network}
	st.explainer = &explainer{
		turn:      t,
		capacity:  st.capacity,
		failures:  st.failures,
		placement: st.placement,
		sizing:    st.sizing,
	}
	return st
}
