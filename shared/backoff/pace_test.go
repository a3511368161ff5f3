package backoff

import (
	"testing"
	"time"
)

// service counts units in seconds of its own and refuses what is above its limit.
type service struct {
	limit  int
	second int64
	used   int
}

func (s *service) accepts(now time.Time, n int) bool {
	if second := now.Unix(); second != s.second {
		s.second, s.used = second, 0
	}
	if s.used+n > s.limit {
		return false
	}
	s.used += n
	return true
}

// run sends requests of n units one after the other, as fast as the pace lets it, and
// returns how many passed and how many were refused. A request takes the time of one.
func run(p *Pace, s *service, from time.Time, during, one time.Duration, n int) (passed, refused int) {
	for now := from; now.Sub(from) < during; {
		now = now.Add(p.Reserve(now, n))
		for try := 1; !s.accepts(now, n); try++ {
			refused++
			p.Refuse(now, n)
			now = now.Add(After(try, 200*time.Millisecond, 2*time.Second))
		}
		passed++
		now = now.Add(one)
	}
	return passed, refused
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		limit, n   int
		one        time.Duration
		maxRefused float64 // share of all requests
		minUsed    float64 // share of the limit
	}{
		{"transactions of 50 entities", 2000, 50, 5 * time.Millisecond, 0.005, 0.93},
		{"transactions of 100 entities", 2000, 100, 10 * time.Millisecond, 0.01, 0.9},
		{"single messages", 1000, 1, 100 * time.Microsecond, 0.0005, 0.95},
		{"batches of messages", 1000, 20, time.Millisecond, 0.005, 0.93},
		{"a tenth of the entities", 200, 10, 5 * time.Millisecond, 0.01, 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, s := &Pace{}, &service{limit: c.limit}
			start := time.Unix(1_000_000, 123_456_789)
			const during = 300 * time.Second
			passed, refused := run(p, s, start, during, c.one, c.n)
			share := float64(refused) / float64(passed+refused)
			used := float64(passed*c.n) / (during.Seconds() * float64(c.limit))
			t.Logf("%d passed, %.2f %% refused, %.1f %% of the limit used", passed, 100*share, 100*used)
			if share > c.maxRefused || refused == 0 {
				t.Errorf("%d refused, %.2f %%; want some, and at most %.2f %%", refused, 100*share, 100*c.maxRefused)
			}
			if used < c.minUsed {
				t.Errorf("%.1f %% of the limit was used, want %.1f %%", 100*used, 100*c.minUsed)
			}
		})
	}
}

func TestPaceWithoutRefusal(t *testing.T) {
	t.Parallel()
	p, now := &Pace{}, time.Unix(1_000_000, 0)
	for range 100_000 {
		if wait := p.Reserve(now, 100); wait != 0 {
			t.Fatalf("a service that has refused nothing is waited for: %s", wait)
		}
		now = now.Add(time.Millisecond)
	}
}

// TestPaceFollows has the limit halve, and then go.
func TestPaceFollows(t *testing.T) {
	t.Parallel()
	p, s, now := &Pace{}, &service{limit: 2000}, time.Unix(1_000_000, 0)
	run(p, s, now, time.Minute, time.Millisecond, 50)
	now = now.Add(time.Minute)
	s.limit = 1000
	run(p, s, now, time.Minute, time.Millisecond, 50)
	now = now.Add(time.Minute)
	if passed, refused := run(p, s, now, time.Minute, time.Millisecond, 50); passed < 1080 || refused > 12 {
		t.Errorf("at half of the limit %d requests passed and %d were refused, want 1,080 and 12", passed, refused)
	}
	now = now.Add(time.Minute)
	s.limit = 1_000_000
	passed, refused := run(p, s, now, 3*time.Minute, time.Millisecond, 50)
	now = now.Add(3 * time.Minute)
	if rate := p.Rate(now); rate != 0 || refused > 0 || passed < 40_000 {
		t.Errorf("without a limit %d requests passed in 3 minutes, %d were refused, and the rate is %.0f", passed, refused, rate)
	}
}

// TestPaceFloor has others use the whole limit, first while this process is busy and then
// while it does little.
func TestPaceFloor(t *testing.T) {
	t.Parallel()
	p, now := &Pace{Floor: 100}, time.Unix(1_000_000, 0)
	p.Spend(now, 500)
	for range 600 {
		p.Reserve(now, 1)
		p.Refuse(now, 1)
		now = now.Add(2 * time.Second)
	}
	if rate := p.Rate(now); rate < 100 || rate > 150 {
		t.Errorf("the rate is %.1f units a second, want the floor of 100", rate)
	}
	now = now.Add(forget * lastRecovery)
	p.Reserve(now, 1)
	p.Refuse(now, 1)
	if rate := p.Rate(now); rate != 0 {
		t.Errorf("one request in a second was refused, and the rate is %.0f; want no limit", rate)
	}
}

// TestPaceForgetsChance has one refusal whose cause is not the rate of requests.
func TestPaceForgetsChance(t *testing.T) {
	t.Parallel()
	p, now := &Pace{}, time.Unix(1_000_000, 0)
	for range 100 {
		p.Reserve(now, 3)
		now = now.Add(10 * time.Millisecond)
	}
	p.Refuse(now, 3)
	if rate := p.Rate(now); rate < 250 || rate > 300 {
		t.Errorf("after a refusal at 300 units a second the rate is %.0f", rate)
	}
	if rate := p.Rate(now.Add(12 * time.Second)); rate < 1500 {
		t.Errorf("12 s later the rate is %.0f, want 1,500 at least", rate)
	}
	if rate := p.Rate(now.Add(forget * firstRecovery)); rate != 0 {
		t.Errorf("%s later the rate is %.0f, want no limit", forget*firstRecovery, rate)
	}
}

// TestPaceRefusesOnce has many requests refused in one overload: the rate is cut once.
func TestPaceRefusesOnce(t *testing.T) {
	t.Parallel()
	p, now := &Pace{}, time.Unix(1_000_000, 0)
	p.Spend(now, 1000)
	for range 50 {
		p.Spend(now, 10)
		p.Refuse(now, 10)
		now = now.Add(10 * time.Millisecond)
	}
	if rate := p.Rate(now); rate < 940 || rate > 1000 {
		t.Errorf("the rate after one overload at 1,000 units is %.0f, want 950 and a little", rate)
	}
	p.Spend(now, 1_000_000)
	if wait := p.Reserve(now, 1); wait != maxWait {
		t.Errorf("a request after a million units waits %s, want %s", wait, maxWait)
	}
}

// TestPaceOfASharedLimit has two processes share a limit. One of them begins at a multiple of
// what is left for it.
func TestPaceOfASharedLimit(t *testing.T) {
	t.Parallel()
	s := &service{limit: 1000}
	type client struct {
		pace            Pace
		next            time.Time
		try             int
		passed, refused int
	}
	start := time.Unix(1_000_000, 0)
	clients := []*client{{next: start}, {next: start}}
	for now := start; now.Sub(start) < 2*time.Minute; now = now.Add(time.Millisecond) {
		for _, c := range clients {
			if now.Before(c.next) {
				continue
			}
			const n = 20
			if !s.accepts(now, n) {
				c.try++
				c.refused++
				c.pace.Refuse(now, n)
				c.next = now.Add(After(c.try, 250*time.Millisecond, 2*time.Second))
				continue
			}
			c.try = 0
			c.passed++
			c.next = now.Add(c.pace.Reserve(now, n))
		}
	}
	passed, refused := clients[0].passed+clients[1].passed, clients[0].refused+clients[1].refused
	t.Logf("%d and %d passed, %d and %d refused", clients[0].passed, clients[1].passed, clients[0].refused, clients[1].refused)
	if used := float64(passed*20) / 120_000; used < 0.85 {
		t.Errorf("%.0f %% of the limit was used, want 85 %%", 100*used)
	}
	if share := float64(refused) / float64(passed+refused); share > 0.02 {
		t.Errorf("%.1f %% of the requests were refused, want 2 %% at most", 100*share)
	}
}

// TestPaceClockSetBack has the clock of the machine set back by an hour: what passed in that
// hour is not taken for what passed in a second.
func TestPaceClockSetBack(t *testing.T) {
	t.Parallel()
	p, now := &Pace{}, time.Unix(1_000_000, 0)
	p.Spend(now, 1)
	now = now.Add(-time.Hour)
	for range 1000 {
		now = now.Add(100 * time.Millisecond)
		p.Spend(now, 100)
	}
	p.Refuse(now, 100)
	if rate := p.Rate(now); rate < 800 || rate > 1000 {
		t.Errorf("the rate is %.0f after 1,000 passed in the last second", rate)
	}
}
