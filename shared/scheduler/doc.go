// Package scheduler decides for a pool: which job runs on which node, when nodes are
// asked for and when they leave. Step takes the pool's state, what has happened and the
// time; it returns the rows that change and the effects that follow. Explain says why a
// job or a pool is as it is. Package drive calls it. The package is pure: it reads no
// clock, does no I/O and draws no random numbers, so the same input gives the same
// answer everywhere.
//
// A step is the work of parts (parts.go), each with its own state. Step calls them in
// this order:
//
//	capacity      brings the scale sets in line with the ladder of the spec
//	events        go to the other parts: jobs, reports, listings, capacity, operator, ...
//	waits         moves on the jobs that waited for a job that has ended
//	sweeping      cancels the members of cancelled sweeps
//	budgets       lets work wait whose budget is spent, and ends it
//	schedule      takes the pool down, or lets it come up
//	rolling       lets nodes leave that are made from an earlier model
//	placement     puts jobs on nodes
//	recall        asks for assignments back that wait on their nodes
//	housekeeping  removes idle and drained nodes, gives up late ones
//	failures      takes broken nodes out of use
//	sizing        asks for nodes
//	deletion      takes a deleted pool down
//	deadlines     asks to be called again when time alone changes something
//
// The states of a node:
//
//	creating --> booting --> ready <--> busy
//	    |           |          |  \      |  \
//	    |           |          |   draining  quarantined     (both end their work first)
//	    |           |          |      |          |
//	    +-- failed --+         +------+----------+--> deleting --> gone
//	    (late, stopped, not made)                                    ^
//	ready, busy, draining, quarantined --> lost (silent and fenced) -+
//
// The states of a job:
//
//	held <--> queued --> assigned --> running --> succeeded, failed, timedOut, cancelled
//	            ^           |            |
//	            +-----------+------------+   (retry, node lost, put back in line)
//	held, queued --> cancelled
package scheduler
