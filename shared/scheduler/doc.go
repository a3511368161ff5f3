// Package scheduler decides for a pool: which job runs on which node, when nodes
// are asked for and when they leave. Step takes the pool's state, what has happened
// and the time; it returns the rows that change and the effects that follow. Explain
// says why something is as it is. The package is pure: it reads no clock, does no
// I/O and draws no random numbers, so the same input gives the same answer anywhere.
package scheduler
