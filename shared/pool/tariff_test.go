package pool_test

import (
	"testing"
	"time"

	"dsvmpools/shared/pool"
)

// A set knows what its nodes cost when, as far back as attempts may have begun.
func TestTariffs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	at := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
	costs := func(h int, perHour string) pool.Tariff {
		return pool.Tariff{From: at(h), PerHour: perHour, Currency: "USD"}
	}
	set := pool.Set{Price: "0.5", Currency: "USD"} // a row of an earlier release
	if _, ok := set.TariffAt(now); ok {
		t.Error("a set that has learned nothing has a tariff")
	}
	steps := []struct {
		hour    int
		learn   []pool.Tariff
		changed bool
		want    map[int]string // by hour
	}{
		{0, []pool.Tariff{costs(-100, "1"), costs(5, "2")}, true, map[int]string{-1: "0.5", 0: "1", 4: "1", 5: "2"}},
		{1, []pool.Tariff{costs(-100, "1"), costs(5, "2")}, false, nil},
		{2, nil, false, nil},
		{2, []pool.Tariff{costs(-100, "1"), costs(6, "3")}, true, map[int]string{1: "1", 5: "1", 6: "3"}},
		{7, []pool.Tariff{costs(6, "3")}, false, map[int]string{5: "1", 6: "3", 7: "3"}},
		{8, []pool.Tariff{costs(7, "4")}, true, map[int]string{7: "3", 8: "4"}},
		{9, []pool.Tariff{costs(9, "5")}, true, map[int]string{0: "1", 8: "4", 9: "5"}},
		{10, []pool.Tariff{costs(10, "6")}, true, map[int]string{-1: "3", 7: "3", 8: "4", 10: "6"}}, // three that are over are kept
	}
	for i, s := range steps {
		if got := set.Learn(s.learn, at(s.hour), at(s.hour)); got != s.changed {
			t.Errorf("step %d: changed: %v, want %v", i, got, s.changed)
		}
		for hour, want := range s.want {
			if got, ok := set.TariffAt(at(hour)); !ok || got.PerHour != want {
				t.Errorf("step %d, hour %d: got %+v, want %s", i, hour, got, want)
			}
		}
	}
	if set.Learn([]pool.Tariff{costs(0, "1")}, at(9), at(11)) {
		t.Error("a late answer has changed the price back")
	}
	if set.Followed = at(11); set.Learn([]pool.Tariff{costs(10, "6"), costs(11, "7")}, at(10), at(10)) {
		if got, _ := set.CurrentTariff(at(10)); got.PerHour != "7" {
			t.Errorf("by a clock that is behind: got %+v, want what another process has seen begin", got)
		}
	}
}
