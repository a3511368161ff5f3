package scheduler_test

import "testing"

// A seed has one history: who calls when, what is answered, and every row that is
// written are the same each time. Otherwise a world that went wrong could not be looked
// at again.
func TestSimulationRepeats(t *testing.T) {
	t.Parallel()
	for seed := range int64(3) {
		first := simulate(t, seed, true, nil, (*world).play)
		for range 2 {
			again := simulate(t, seed, true, nil, (*world).play)
			if first.trace.Sum64() != again.trace.Sum64() || first.steps != again.steps {
				t.Errorf("seed %d: %d steps and %d calls; once more, %d steps and %d calls, or others", seed, first.steps, first.answers, again.steps, again.answers)
			}
		}
	}
}
