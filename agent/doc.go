// Package agent is what runs on a node of a pool. It takes the node's own
// session on the queue `work`, writes down what it is given before it acts, runs
// attempts of jobs as processes, and reports facts about this node on
// `node-events`. docs/protocol.md tells what the messages mean.
//
// It never decides where a job runs, never takes a job that was not placed on
// its node, never adopts a process that an earlier agent started, and touches
// neither tables nor Azure Resource Manager. Running work is never killed
// because Service Bus was away: only a cancel, a timeout, a stop, the fence or
// the end of the agent itself end an attempt.
//
// Locking, in one place: agent.mu guards what the node holds and the records
// that are not in the file yet, and is never held over I/O; journal.mu guards
// writing and journal.syncing the flushing; a run's mu guards its process
// against being signalled after it was reaped.
package agent
