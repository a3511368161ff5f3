//go:build unix

package functions

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dsvmpools/shared/invoke"
)

const timerHourly = `{"name":"timer","type":"timerTrigger","direction":"in","schedule":"0 0 * * * *"}`

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeTimer is a timer on a clock that only its own waits and runs move. It ends
// after a number of occurrences.
func fakeTimer(t *testing.T, schedule string, began time.Time, occurrences int,
	takes time.Duration) (*timer, func() []time.Time, *[]invoke.Tick) {
	t.Helper()
	parsed, err := parseSchedule(schedule)
	if err != nil {
		t.Fatal(err)
	}
	now := began
	ctx, cancel := context.WithCancel(t.Context())
	var at []time.Time
	ticks := &[]invoke.Tick{}
	tm := &timer{f: &function{name: "T", schedule: parsed}, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now },
		wait: func(_ context.Context, d time.Duration) { now = now.Add(d) }}
	tm.call = func(_ context.Context, tick invoke.Tick) error {
		at = append(at, now)
		*ticks = append(*ticks, tick)
		now = now.Add(takes)
		if len(at) == occurrences {
			cancel()
		}
		return errors.New("a failure is not repeated")
	}
	return tm, func() []time.Time { tm.run(ctx); return at }, ticks
}

func TestTimerRuns(t *testing.T) {
	t.Parallel()
	after := func(seconds ...int) (times []time.Time) {
		for _, s := range seconds {
			times = append(times, noon.Add(time.Duration(s)*time.Second))
		}
		return times
	}
	for _, tt := range []struct {
		name, schedule string
		takes          time.Duration
		want           []time.Time
	}{
		{"on time", "*/10 * * * * *", time.Second, after(10, 20, 30)},
		{"of five fields", "*/5 * * * *", time.Second, after(300, 600, 900)},
		// The run from 10 to 35 missed 20 and 30: one late run follows, and no second one.
		{"a run that outlasts its interval", "*/10 * * * * *", 25 * time.Second, after(10, 35, 60)},
		{"just as long as its interval", "*/10 * * * * *", 10 * time.Second, after(10, 20, 30)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, run, _ := fakeTimer(t, tt.schedule, noon, 3, tt.takes)
			if got := run(); !slices.EqualFunc(got, tt.want, time.Time.Equal) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTimerAfterDowntime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		st   status
		late bool
		next time.Duration // after noon
	}{
		{"never ran", status{}, false, 10 * time.Minute},
		{"on time", status{Last: noon.Add(-10 * time.Minute), Next: noon.Add(10 * time.Minute)}, false, 10 * time.Minute},
		{"missed one", status{Last: noon.Add(-20 * time.Minute), Next: noon.Add(-10 * time.Minute)}, true, -10 * time.Minute},
		{"missed many", status{Last: noon.Add(-48 * time.Hour), Next: noon.Add(-47 * time.Hour)}, true, -47 * time.Hour},
		{"schedule changed", status{Last: noon.Add(-13 * time.Minute), Next: noon.Add(-7 * time.Minute)}, false, 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tm, _, _ := fakeTimer(t, "0 */10 * * * *", noon, 1, 0)
			tm.path = "kept"
			next, late := tm.findNext(tt.st)
			if late != tt.late || !next.Equal(noon.Add(tt.next)) {
				t.Errorf("got %v, late %v, want %v, late %v", next, late, noon.Add(tt.next), tt.late)
			}
		})
	}
}

// After any number of missed occurrences, one run is late, and the next one is on time.
func TestTimerStatus(t *testing.T) {
	t.Parallel()
	tm, run, ticks := fakeTimer(t, "0 */10 * * * *", noon.Add(5*time.Minute), 2, time.Second)
	tm.path = filepath.Join(t.TempDir(), "deep", "T.json")
	tm.write(status{Last: noon.Add(-3 * time.Hour), Next: noon.Add(-2 * time.Hour)})
	if got, want := run(), []time.Time{noon.Add(5 * time.Minute), noon.Add(10 * time.Minute)}; !slices.EqualFunc(got, want,
		time.Time.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
	want := []invoke.Tick{
		{PastDue: true, Last: noon.Add(-3 * time.Hour), Next: noon.Add(-2 * time.Hour)},
		{Last: noon.Add(5 * time.Minute), Next: noon.Add(10 * time.Minute)},
	}
	if !slices.Equal(*ticks, want) {
		t.Errorf("ticks:\n got %v\nwant %v", *ticks, want)
	}
	// The host ended during the second run, so that run is still the next one.
	if st := tm.read(); !st.Next.Equal(noon.Add(10 * time.Minute)) {
		t.Errorf("kept: got %+v", st)
	}
	if err := os.WriteFile(tm.path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := tm.read(); st != (status{}) {
		t.Errorf("of a broken file: got %+v", st)
	}
}

func TestMonitored(t *testing.T) {
	t.Parallel()
	no := false
	for _, tt := range []struct {
		schedule string
		monitor  *bool
		want     bool
	}{{"0 * * * * *", nil, true}, {"0 * * * * *", &no, false}, {"*/30 * * * * *", nil, false}} {
		s, err := parseSchedule(tt.schedule)
		if err != nil {
			t.Fatal(err)
		}
		f := function{schedule: s, trigger: binding{UseMonitor: tt.monitor}}
		if got := f.isMonitored(noon); got != tt.want {
			t.Errorf("%s, %v: got %v, want %v", tt.schedule, tt.monitor, got, tt.want)
		}
	}
}

// Through the real handler: one that is past due, one at start, one each second.
func TestTimers(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	last := time.Now().UTC().Add(-3 * time.Hour).Truncate(time.Hour)
	root := script(
		hostJSON,
		map[string]string{
			"Hourly": timerHourly,
			"Sweep":  `{"name":"timer","type":"timerTrigger","schedule":"* * * * * *","runOnStartup":true}`,
		},
	)
	var path string
	h, _ := start(t, root, roleApp, c, func(cfg *Config) {
		path = filepath.Join(cfg.StateDir, "Hourly.json")
		b, err := json.Marshal(status{Last: last, Next: last.Add(time.Hour)})
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	sweeps, hourly := 0, 0
	for sweeps < 2 || hourly < 1 {
		switch e := c.next(t); e.name {
		case "Hourly":
			hourly++
			if want := (invoke.Tick{PastDue: true, Last: last, Next: last.Add(time.Hour)}); e.tick != want {
				t.Errorf("got %+v, want %+v", e.tick, want)
			}
		case "Sweep":
			sweeps++
			if e.tick != (invoke.Tick{}) {
				t.Errorf("a schedule of seconds came with %+v", e.tick)
			}
		}
	}
	var st status
	eventually(t, "the status of the late run", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(b, &st) == nil && st.Last.After(last) && st.Next.After(time.Now())
	})
	h.Close()
	if hourly != 1 {
		t.Errorf("the late timer ran %d times", hourly)
	}
}

// A day must fit both the day of the month and the weekday, and a schedule is in
// UTC.
func TestSchedules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ schedule, after, want string }{
		{"0 0 9 1-7 * MON", "2026-01-05T09:00:00Z", "2026-02-02T09:00:00Z"}, // each first Monday
		{"0 0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-02-13T00:00:00Z"},    // Friday the 13th
		{"0 30 9-17 * * 1-5", "2026-01-02T17:30:00Z", "2026-01-05T09:30:00Z"},
		{"*/5 * * * *", "2026-01-01T00:00:01Z", "2026-01-01T00:05:00Z"},
		{"0 0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"30 0 0 * jan,mar *", "2026-01-31T00:00:30Z", "2026-03-01T00:00:30Z"},
	} {
		s, err := parseSchedule(tt.schedule)
		if err != nil {
			t.Errorf("%s: %v", tt.schedule, err)
			continue
		}
		after, _ := time.Parse(time.RFC3339, tt.after)
		if got := s.Next(after).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s after %s: got %s, want %s", tt.schedule, tt.after, got, tt.want)
		}
	}
}
