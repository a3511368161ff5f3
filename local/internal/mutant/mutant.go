// Package mutant breaks the local servers on purpose, so that a test can show
// that another test would notice. Nothing but a test sets what is in here, and
// nothing outside local can.
package mutant

// AckFirst acknowledges changes before they are on disk. It is set, if at all,
// before a store is opened.
var AckFirst bool
