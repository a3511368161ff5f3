package backoff_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"dsvmpools/shared/backoff"
)

func ExampleAfter() {
	for failures := range 5 {
		fmt.Println(failures+1, backoff.After(failures+1, time.Second, 10*time.Second))
	}
	// Output:
	// 1 1s
	// 2 2s
	// 3 4s
	// 4 8s
	// 5 10s
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		failures       int
		first, longest time.Duration
		want           time.Duration
	}{
		{"no failure counts as one", 0, time.Second, time.Minute, time.Second},
		{"a negative count too", -3, time.Second, time.Minute, time.Second},
		{"the seventh reaches a minute", 7, time.Second, time.Minute, time.Minute},
		{"the sixth does not", 6, time.Second, time.Minute, 32 * time.Second},
		{"first above longest", 1, time.Hour, time.Minute, time.Minute},
		{"no pause at all", 5, 0, time.Minute, 0},
		{"a million failures", 1_000_000, time.Second, time.Minute, time.Minute},
		{"no overflow", math.MaxInt, 3, math.MaxInt64, math.MaxInt64},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := backoff.After(c.failures, c.first, c.longest); got != c.want {
				t.Errorf("After(%d, %s, %s) = %s, want %s", c.failures, c.first, c.longest, got, c.want)
			}
		})
	}
}
