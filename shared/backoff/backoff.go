// Package backoff says how long to wait before the next try of something that
// has failed, and before the next request to a service that refuses what is too much.
// Everything here that tries again uses it: the pure step, the
// triggers, the agent and the clients. It is pure: it never waits, never reads
// a clock and never draws a random number. A caller that needs jitter adds its
// own.
package backoff

import "time"

// After returns the pause after a number of failures in a row: first after one
// failure, doubled after each further one, and never more than longest. No
// failure counts as one.
func After(failures int, first, longest time.Duration) time.Duration {
	pause := first
	for n := 1; n < failures && pause < longest; n++ {
		if pause > longest/2 { // doubled, it would exceed longest or overflow
			return longest
		}
		pause *= 2
	}
	return min(pause, longest)
}
