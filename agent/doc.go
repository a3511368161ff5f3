// Package agent is the program on a node of a pool. It takes the node's own session on
// the queue `work`, writes down what it is given before it acts, runs attempts of jobs as
// processes, and reports facts about this node on `node-events`. docs/protocol.md
// explains the messages.
//
// It never decides where a job runs, never takes a job that was not placed on its node,
// never adopts a process that an earlier agent started, but for sessions of people, and never touches tables. Of Azure
// Resource Manager it asks one thing, the deletion of its own machine. It never kills work
// because Service Bus was away: only a cancel, a timeout, a stop, the fence, an eviction or
// the end of the agent itself end an attempt.
//
// A job's way on the node:
//
//	listener.keepSession    takes the node's session, again whenever it is lost (listen.go)
//	listener.handleMessage  one message: items into the state, then into the journal
//	listener.settleMessage  completes the message, while what follows goes on
//	starter.advanceStart    takes the assignment out of the queue (start.go)
//	starter.placeSource     only with a source: agent/source makes its work tree (fetch.go)
//	launcher.prepare        slot, its ready tree (readytree.go), command (launch.go)
//	launch.start            the process, after "starting" is in the journal
//	starter.awaitEnd        waits until the process and all that it started have ended
//	launcher.settle         ends the logs, takes the tree back or hands the attempt's files to their owner (hand.go)
//	notebook.recordEnd      the end into the state and the journal (notebook.go)
//	reporter.sendReport     a report to the pool, again until it is acknowledged (report.go)
//
// Before all that, booter waits for the shares, the pool's setup and the GPUs, and reports
// what the node waits for (boot.go).
//
// The parts: notebook has the state, the journal and what is not reported yet, and the
// others share it. listener holds the session, starter starts attempts and follows them,
// sessions follows the keepers of sessions (sessions.go), reporter reports, leaver watches
// for the end of the VM, deadMan deletes a forgotten node.
// launcher prepares attempts, with its slots (users, control groups, views). Packages
// below this one: source (the Git client), process, startfault, secret,
// keeper, person and deleteself.
//
// Locks, in the order in which they may be taken: slots.making, then slots.mu;
// journal.mu, then journal.syncing, then notebook.mu. notebook.mu guards what the node
// holds, the records that are not in the file yet, and the outbox; it is never held over
// I/O. journal.mu guards writing, journal.syncing flushing. run.mu keeps a process from
// being signalled after it was reaped, and is held while a process is started;
// launcher.mu counts calls that are under way. The last two are taken alone.
package agent
