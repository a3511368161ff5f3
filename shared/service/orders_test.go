package service

import (
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/pool"
)

func TestOrders(t *testing.T) {
	t.Parallel()
	var o orders
	now := time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	var all []string
	for _, n := range []int{100, 1, 1, 40} {
		run := o.run(now, n)
		bundles := map[string]bool{}
		for _, order := range run {
			if seen[order] {
				t.Errorf("the order %s comes twice", order)
			}
			seen[order] = true
			bundles[pool.BundleKey(order)] = true
			if u, err := ulid.ParseStrict(order); err != nil || u.Time() != ulid.Timestamp(now) {
				t.Errorf("%s is no order of its time: %v", order, err)
			}
		}
		if want := (n + 15) / 16; len(run) != n || len(bundles) != want {
			t.Errorf("%d orders in %d bundles, want %d in %d", len(run), len(bundles), n, want)
		}
		all = append(all, run...)
	}
	if !slices.IsSorted(all) {
		t.Error("orders of one millisecond do not rise")
	}
	if before := o.run(now.Add(-time.Hour), 1)[0]; before >= all[0] {
		t.Errorf("an order of an earlier time, %s, is not before %s", before, all[0])
	}
}
