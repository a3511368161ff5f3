// Package startfault says why an attempt cannot start on a node: a sentence for
// the job's owner, and the cause, which says whose fault it is. A fault is made
// where the cause is known, by New; errors of the system are judged by OnShare,
// OnNode and OfPath.
//
// It serves the agent and the packages below it. It never logs, never retries,
// and never decides what happens to the attempt.
package startfault
