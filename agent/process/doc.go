// Package process is what an agent knows of processes of the machine: it finds
// the program to start, starts it apart from the agent, finds and kills what is
// left of an attempt, and finds out who listens at a socket. An attempt's
// processes are found by a key in their environment (KeyVariable), which the
// agent sets.
//
// It never kills a process that it cannot attribute to an attempt, and it keeps no
// state: which attempts there are is known to the agent alone.
package process
