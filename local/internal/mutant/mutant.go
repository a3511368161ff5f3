// Package mutant breaks the local servers on purpose, so that a test can show
// that another test would notice. Nothing but a test sets what is in here, and
// nothing outside local can. It is set, if at all, before a store is opened.
package mutant

// What a store does wrong.
var (
	// AckFirst acknowledges changes before they are in the log.
	AckFirst bool
	// SkipSync acknowledges changes that are in the log and not on disk.
	SkipSync bool
	// SkipReplay forgets at the start what is in the log only.
	SkipReplay bool
	// DropEarly uses a file of the log again before the tree has what is in it.
	DropEarly bool
)

// Often brings changes into the tree after a few of them, so that a test which kills
// often kills also then. It breaks nothing.
var Often bool
