package scheduler

import (
	"fmt"
	"math/rand"
	"testing"

	"dsvmpools/shared/pool"
)

// TestJobs compares the table of jobs with a map, through many changes.
func TestJobs(t *testing.T) {
	t.Parallel()
	for seed := range int64(20) {
		rng := rand.New(rand.NewSource(seed))
		var js Jobs
		want := map[string]*Job{}
		newAt := func(n int) *Job {
			row := &pool.Job{Order: fmt.Sprint("order", n)}
			row.ID = fmt.Sprint("id", n)
			return newJob(row)
		}
		for round := range 4000 {
			n := rng.Intn(10 << (round / 500))
			j := newAt(n)
			switch {
			case rng.Intn(2) == 0:
				js.put(j)
				want[j.Order] = j
			default:
				js.Remove(j.Order)
				delete(want, j.Order)
			}
			if got := js.Get(j.Order); got != want[j.Order] {
				t.Fatalf("seed %d, round %d: %s is %p, want %p", seed, round, j.Order, got, want[j.Order])
			}
		}
		for n := range 10 << 8 {
			j := newAt(n)
			if js.Get(j.Order) != want[j.Order] || js.WithID(j.ID) != want[j.Order] {
				t.Fatalf("seed %d: %s: by order %p, by id %p, want %p", seed, j.Order, js.Get(j.Order), js.WithID(j.ID), want[j.Order])
			}
		}
		seen := 0
		for j := range js.All() {
			if seen++; want[j.Order] != j {
				t.Fatalf("seed %d: %s is listed, and not there", seed, j.Order)
			}
			js.Remove(j.Order)
		}
		if seen != len(want) || js.Len() != 0 || js.ids.used != 0 {
			t.Fatalf("seed %d: %d jobs were listed, want %d; %d are left", seed, seen, len(want), js.Len())
		}
	}
}
