package scheduler_test

import "testing"

// Worlds that went wrong once, in long runs.
func TestSimulationOfSeeds(t *testing.T) {
	t.Parallel()
	for _, seed := range []int64{
		742, // an assignment that had never arrived was held against a node that started again
		817, // what a lost journal ends is concluded before its agent has the counter
		555, // nodes asked for in the moment in which the breaker opened counted as tries, and the next was eight hours off
	} {
		if problem := newWorld(seed, seed%8 != 7, 1+int(seed%4)).play(seed); problem != "" {
			t.Errorf("seed %d: %s", seed, problem)
		}
	}
}
