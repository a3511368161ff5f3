//go:build !race

package scheduler_test

const (
	defaultSteps  = 25_000
	underDetector = false
)
