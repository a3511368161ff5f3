//go:build !race

package scheduler_test

const (
	defaultSteps  = 20_000
	underDetector = false
)
