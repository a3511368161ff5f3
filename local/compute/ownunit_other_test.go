//go:build unix && !linux

package compute_test

// playOwnUnit does nothing: only on Linux something outlives its agent.
func playOwnUnit(string) {}
