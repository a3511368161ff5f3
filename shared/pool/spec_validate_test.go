package pool_test

import (
	"testing"
	"time"

	"dsvmpools/shared/pool"
)

// utc is an instant of 2026.
func utc(month time.Month, day, hour, minute int) time.Time {
	return time.Date(2026, month, day, hour, minute, 0, 0, time.UTC)
}

func TestScheduleWindow(t *testing.T) {
	t.Parallel()
	night := pool.Schedule{DownAt: "20:00", UpAt: "07:00", TimeZone: "Europe/Amsterdam"}
	noon := pool.Schedule{DownAt: "12:00", UpAt: "13:30", TimeZone: "UTC"}
	moment := pool.Schedule{DownAt: "20:00", TimeZone: "UTC"}
	skipped := pool.Schedule{DownAt: "02:30", UpAt: "07:00", TimeZone: "America/New_York"}
	twice := pool.Schedule{DownAt: "02:30", UpAt: "07:00", TimeZone: "Europe/Amsterdam"}
	midnight := pool.Schedule{DownAt: "00:30", UpAt: "07:00", TimeZone: "America/Havana"} // where the clock changes at midnight
	for _, c := range []struct {
		name         string
		schedule     pool.Schedule
		now          time.Time
		down         bool
		since, until time.Time
		next         time.Time
	}{
		{"in the evening", night, utc(1, 15, 18, 59), false, utc(1, 14, 19, 0), utc(1, 16, 6, 0), utc(1, 15, 19, 0)},
		{"as it goes down", night, utc(1, 15, 19, 0), true, utc(1, 15, 19, 0), utc(1, 16, 6, 0), utc(1, 16, 6, 0)},
		{"over midnight", night, utc(1, 16, 0, 30), true, utc(1, 15, 19, 0), utc(1, 16, 6, 0), utc(1, 16, 6, 0)},
		{"as it comes up", night, utc(1, 16, 6, 0), false, utc(1, 15, 19, 0), utc(1, 17, 6, 0), utc(1, 16, 19, 0)},
		{"within a day, before", noon, utc(6, 1, 11, 59), false, utc(5, 31, 12, 0), utc(6, 1, 13, 30), utc(6, 1, 12, 0)},
		{"within a day, down", noon, utc(6, 1, 12, 30), true, utc(6, 1, 12, 0), utc(6, 1, 13, 30), utc(6, 1, 13, 30)},
		{"within a day, after", noon, utc(6, 1, 14, 0), false, utc(6, 1, 12, 0), utc(6, 2, 13, 30), utc(6, 2, 12, 0)},
		{"the night that loses an hour", night, utc(3, 29, 0, 30), true, utc(3, 28, 19, 0), utc(3, 29, 5, 0), utc(3, 29, 5, 0)},
		{"the night that gains an hour", night, utc(10, 25, 3, 0), true, utc(10, 24, 18, 0), utc(10, 25, 6, 0), utc(10, 25, 6, 0)},
		{"a time that is skipped comes an hour later", skipped, utc(3, 8, 7, 29), false, utc(3, 7, 7, 30), utc(3, 8, 11, 0), utc(3, 8, 7, 30)},
		{"a time that is skipped has come", skipped, utc(3, 8, 7, 30), true, utc(3, 8, 7, 30), utc(3, 8, 11, 0), utc(3, 8, 11, 0)},
		{"a time that comes twice counts at first", twice, utc(10, 25, 0, 30), true, utc(10, 25, 0, 30), utc(10, 25, 6, 0), utc(10, 25, 6, 0)},
		{"a time that comes twice, again", twice, utc(10, 25, 1, 30), true, utc(10, 25, 0, 30), utc(10, 25, 6, 0), utc(10, 25, 6, 0)},
		{"skipped at midnight, before", midnight, utc(3, 8, 4, 59), false, utc(3, 7, 5, 30), utc(3, 8, 11, 0), utc(3, 8, 5, 30)},
		{"skipped at midnight, down", midnight, utc(3, 8, 5, 30), true, utc(3, 8, 5, 30), utc(3, 8, 11, 0), utc(3, 8, 11, 0)},
		{"skipped at midnight, the day before", midnight, utc(3, 7, 5, 45), true, utc(3, 7, 5, 30), utc(3, 7, 12, 0), utc(3, 7, 12, 0)},
		{"no way up, before", moment, utc(6, 1, 19, 59), false, utc(5, 31, 20, 0), utc(5, 31, 20, 0), utc(6, 1, 20, 0)},
		{"no way up, at the moment", moment, utc(6, 1, 20, 0), false, utc(6, 1, 20, 0), utc(6, 1, 20, 0), utc(6, 2, 20, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			down, since, until := c.schedule.Window(c.now)
			if down != c.down || !since.Equal(c.since) || !until.Equal(c.until) {
				t.Errorf("got  %v since %s until %s\nwant %v since %s until %s", down, since, until, c.down, c.since, c.until)
			}
			if next := c.schedule.Next(c.now); !next.Equal(c.next) {
				t.Errorf("next: got %s, want %s", next, c.next)
			}
		})
	}
}

// Over a year with both changes of the clock, the window moves only at the
// instants that Next announces, and the pool goes down once a day.
func TestScheduleOverAYear(t *testing.T) {
	t.Parallel()
	for _, s := range []pool.Schedule{
		{DownAt: "20:00", UpAt: "07:00", TimeZone: "Europe/Amsterdam"},
		{DownAt: "02:30", UpAt: "07:00", TimeZone: "Europe/Amsterdam"},
		{DownAt: "22:00", UpAt: "02:30", TimeZone: "America/New_York"},
		{DownAt: "01:30", TimeZone: "America/New_York"},
		{DownAt: "00:30", UpAt: "07:00", TimeZone: "America/Havana"},
		{DownAt: "20:00", UpAt: "00:30", TimeZone: "America/Havana"},
	} {
		t.Run(s.DownAt+" "+s.TimeZone, func(t *testing.T) {
			t.Parallel()
			now, end := utc(1, 1, 12, 0), utc(1, 1, 12, 0).AddDate(1, 0, 0)
			_, last, _ := s.Window(now)
			passings := 0
			for now.Before(end) {
				next := s.Next(now)
				if !next.After(now) {
					t.Fatalf("at %s: next is %s, not later", now, next)
				}
				down, since, _ := s.Window(now)
				before, sinceBefore, _ := s.Window(next.Add(-time.Second))
				if before != down || !sinceBefore.Equal(since) {
					t.Fatalf("between %s and %s the window moved unannounced", now, next)
				}
				if !since.Equal(last) {
					if since.Before(last) || since.Sub(last) > 26*time.Hour {
						t.Fatalf("went down at %s and then at %s", last, since)
					}
					last = since
					passings++
				}
				now = next
			}
			if passings != 365 {
				t.Errorf("went down %d times in a year, want 365", passings)
			}
		})
	}
}
