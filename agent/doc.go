// Package agent is the program on a node of a pool. It takes the node's own session on
// the queue `work`, writes down what it is given before it acts, runs attempts of jobs as
// processes, and reports facts about this node on `node-events`. docs/protocol.md
// explains the messages.
//
// It never decides where a job runs, never takes a job that was not placed on its node,
// never adopts a process that an earlier agent started, and touches neither tables nor
// Azure Resource Manager. It never kills work because Service Bus was away: only a
// cancel, a timeout, a stop, the fence, an eviction or the end of the agent itself end an
// attempt.
//
// A job's way on the node:
//
//	keepSession    takes the node's session, again whenever it is lost (listen.go)
//	handleMessage  one message: items into the state, then into the journal (notebook)
//	settleMessage  completes the message, beside what follows
//	advanceStart   a starter takes the assignment (start.go)
//	placeSource    only with a source: agent/source makes its work tree (fetch.go)
//	prepare        slot, directories on the share and on the node, command (launch.go)
//	launch.start   the process, after "starting" is in the journal
//	awaitEnd       waits until the process and all that it started have ended (run.go)
//	putAway        hands the attempt's files to their owner (hand.go)
//	recordEnd      the end into the state and the journal
//	sendReport     a report to the pool, again until it is acknowledged (report.go)
//
// The parts: notebook (state and journal), reporter (what is reported), launcher with its
// slots (users, control groups, views), deadMan (powers a forgotten node off); below this
// package source (the Git client), process, startfault and keeper.
//
// Locks, in the order in which they may be taken: slots.making, then slots.mu;
// journal.mu, then journal.syncing, then notebook.mu. notebook.mu (as agent.mu) guards
// what the node holds, the records that are not in the file yet, and the outbox; it is
// never held over I/O. journal.mu guards writing, journal.syncing flushing. run.mu keeps a
// process from being signalled after it was reaped, and is held while a process is
// started; launcher.mu counts calls that are under way. The last two are taken alone.
package agent
