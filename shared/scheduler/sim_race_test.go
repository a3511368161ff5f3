//go:build race

package scheduler_test

// The race detector makes a step of the simulation many times slower, and needs few of
// them to see all goroutines of the driver.
const (
	defaultSteps  = 1_000
	underDetector = true
)
