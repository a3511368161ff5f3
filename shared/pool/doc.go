// Package pool holds the nouns of a pool: the document that a user sends, the rows
// that a pool is stored as, the events that happen to it and the effects that follow
// from them. It decides nothing: package scheduler does. It reads no clock and does
// no I/O, and its rows are plain structs, so that everybody may copy and compare them.
package pool
