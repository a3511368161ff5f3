package servicebus

import (
	"testing"
	"time"
)

// fakeClock is a clock that a test moves.
type fakeClock struct{ at time.Time }

func (c *fakeClock) now() time.Time { return c.at }

func TestCredits(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	r := newRates(clock.now, 0)
	type step struct {
		name  string
		after time.Duration // since the step before
		spend func() bool
		want  bool
	}
	send := func(n int) func() bool { return func() bool { return r.spendOn(ofSends, n) } }
	steps := []step{
		{"a batch", 0, send(400), true},
		{"one too many for the rest", 0, send(601), false},
		{"a delivery waits too", 0, func() bool { return r.spendOnDelivery(601) }, false},
		{"exactly the rest", 0, send(600), true},
		{"nothing is left", 999 * time.Millisecond, send(1), false},
		{"the administration", 0, func() bool { return r.spendOn(ofAdministration, managementCost) }, false},
		{"the next second is whole", time.Millisecond, send(1000), true},
		{"a request larger than a second passes if it is the first", time.Second, send(2500), true},
		{"the second after it pays", time.Second, send(1), false},
		{"and the next one pays the rest", time.Second, send(501), false},
		{"500 are left", 0, send(500), true},
		{"what is not used does not gather", time.Hour, send(1000), true},
		{"not even a little", 0, func() bool { return r.spendOn(ofManagement, 1) }, false},
	}
	for _, s := range steps {
		clock.at = clock.at.Add(s.after)
		if got := s.spend(); got != s.want {
			t.Errorf("%s: got %v, want %v", s.name, got, s.want)
		}
	}
	want := RateStats{
		Sends:          RequestCount{10, 4},
		Management:     RequestCount{1, 1},
		Administration: RequestCount{1, 1},
		Credits:        400 + 600 + 1000 + 2500 + 500 + 1000,
		Delayed:        1,
		FullSeconds:    4,
	}
	if r.stats != want {
		t.Errorf("got %+v\nwant %+v", r.stats, want)
	}
}

func TestWithoutRates(t *testing.T) {
	t.Parallel()
	var r *rates
	if !r.spendOn(ofSends, 1_000_000) || !r.spendOnDelivery(1_000_000) {
		t.Error("a namespace without rates refuses")
	}
}

func TestFewerCredits(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	r := newRates(clock.now, 100)
	spent := 0
	for range 10 {
		for r.spendOnDelivery(7) {
			spent += 7
		}
		clock.at = clock.at.Add(r.untilNext())
	}
	if spent != 10*98 {
		t.Errorf("ten seconds of 100 credits let %d messages through, by sevens; want 980", spent)
	}
}
