// Package pool holds what a pool is: the document a user sends, the state of
// its nodes and jobs, and the one function that decides, Step. It is pure: no
// clock, no I/O, no SDK. State, events and the time go in; changed rows,
// effects and reasons come out.
package pool
