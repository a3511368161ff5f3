package scheduler_test

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// simSeeds are the worlds that somebody wants to look at: TestSimulation and
// TestSimulationOfADeletion play these and no others.
var simSeeds seedRange

func init() {
	flag.Var(&simSeeds, "sim.seed", "worlds of the simulation to play, `N or FROM-TO`; it goes on after a violation, and ends before -timeout")
}

// seedRange is a range of seeds: "7", or "0-9999" with both ends.
type seedRange struct {
	from, to int64
	given    bool
}

func (r *seedRange) String() string {
	if !r.given {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.from, r.to)
}

// Set reads a range.
func (r *seedRange) Set(text string) error {
	var from, to int64
	if n, _ := fmt.Sscanf(text, "%d-%d", &from, &to); n == 1 {
		to = from
	}
	if again := (&seedRange{from, to, true}).String(); again != text && (from != to || fmt.Sprint(from) != text) || from < 0 || to < from {
		return fmt.Errorf("want a seed, or two with a hyphen between them")
	}
	*r = seedRange{from, to, true}
	return nil
}

// playSeeds plays the worlds that -sim.seed names, two at a time, and names each one that
// violates an invariant.
func playSeeds(t *testing.T, play func(*world, int64) string) {
	const longest = 20 * time.Second // of one world
	deadline, bounded := t.Deadline()
	next := simSeeds.from - 1
	var steps, worlds atomic.Int64
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for !bounded || time.Until(deadline) > longest {
				seed := atomic.AddInt64(&next, 1)
				if seed > simSeeds.to {
					return
				}
				w := simulate(t, seed, seed%8 != 7, nil, play)
				steps.Add(w.steps)
				worlds.Add(1)
				if problem := w.checker.problem; problem != "" {
					t.Errorf("seed %d, after %d steps: %s", seed, w.steps, problem)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d steps in %d worlds, from seed %d", steps.Load(), worlds.Load(), simSeeds.from)
	if worlds.Load() == 0 {
		t.Error("no world was played: -timeout is too short")
	}
}

// TestSeedsOfFaults plays the worlds in which a fault was found that few others show.
func TestSeedsOfFaults(t *testing.T) {
	t.Parallel()
	for seed, fault := range map[int64]string{
		337: "a quarantined node was put in use again while another was asked for in its place",
		406: "one rung's breaker opened with its first failure, and a deployment came before the next ones",
		454: "the one node that an open breaker let be asked for was refused, and asked for again",
	} {
		w := simulate(t, seed, seed%8 != 7, nil, (*world).play)
		if problem := w.checker.problem; problem != "" {
			t.Errorf("seed %d (%s), after %d steps: %s", seed, fault, w.steps, problem)
		}
	}
}

// worldsOf is how many worlds a simulation plays: in each run of the tests, in a long one,
// and under the race detector.
func worldsOf(short, long, detected int64) int64 {
	switch {
	case underDetector:
		return detected
	case os.Getenv("DSVM_LONG") != "":
		return long
	}
	return short
}

// showsIn are the worlds in which those mutations show that few worlds show. They are played
// first, and all others after them, so that a world which changes costs time and no proof.
var showsIn = map[string]int64{
	"a lost node's jobs are placed before it is gone":   52,
	"a lost journal is given no counter":                29,
	"growth waits for the operation in flight":          45,
	"a recall ends what runs":                           17,
	"nothing is listed while an operation is under way": 18,
	"outdated nodes stay":                               11,
	"nodes that do not come up are bought again":        10,
	"what does not begin is not asked back":             7,
	"what was asked back is placed before the answer":   5,
	"work is not sent":                                  4,
	"the time to come up begins again and again":        4,
	"quarantined nodes count towards nodes.max":         4,
	"each attempt that a restart ends counts":           3,
	"a sweep that fails goes on":                        3,
	"a restart is taken for a failure":                  3,
	"a node's cause is taken for the job's":             3,
}

func TestSeedRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"7": "7-7", "0-9999": "0-9999", "3-3": "3-3", "": "", "-1": "", "5-4": "", "1-": "", "1-x": "", "a": "", "1 2": ""} {
		var r seedRange
		if err := r.Set(text); (err == nil) != (want != "") || r.String() != want {
			t.Errorf("%q: got %q, %v; want %q", text, r.String(), err, want)
		}
	}
}

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
