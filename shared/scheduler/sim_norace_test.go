//go:build !race

package scheduler_test

const (
	defaultSteps  = 40_000
	underDetector = false
)
