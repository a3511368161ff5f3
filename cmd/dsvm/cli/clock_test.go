package cli

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestLocalTimes: times are those of the clock on the wall, with their offset; --utc
// writes them in UTC, and JSON always has UTC.
func TestLocalTimes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"job show first":           "2026-03-02 13:00:00 +03:00 (2h ago)",
		"job show first --utc":     "2026-03-02 10:00:00 UTC (2h ago)",
		"pool explain cpu":         "given up at 2026-03-02 15:28:30 +03:00;",
		"pool explain cpu --utc":   "given up at 2026-03-02 12:28:30 UTC;",
		"job show first -o json":   `"submittedAt": "2026-03-02T10:00:00Z"`,
		"pool explain -o json cpu": `given up at 2026-03-02T12:28:30Z;`,
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.program.Zone = time.FixedZone("EAT", 3*60*60)
			if code, out, errs := b.run(strings.Fields(args)...); code != 0 || !strings.Contains(out, want) {
				t.Errorf("got %d %q %q, want %q", code, out, errs, want)
			}
		})
	}
}

// TestPoolIsDown: a pool that its schedule holds down is shown as down, until when.
func TestPoolIsDown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	doc := `{"name":"night","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"schedule":{"downAt":"11:00","upAt":"14:00","timeZone":"UTC"}}`
	if err := b.app.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	if err := b.app.Pools.Tick(t.Context(), "night", b.app.Clock.Now().Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.app.Clock.Set(b.app.Clock.Now().Add(24 * time.Hour))
	if err := b.app.Pools.Tick(t.Context(), "night", b.app.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	_, out, _ := b.run("pool", "list")
	_, shown, _ := b.run("pool", "show", "night", "-o", "json")
	if !regexp.MustCompile(`night +batch +down +0`).MatchString(out) || !strings.Contains(out, "down by its schedule until 2026-03-03 14:00:00 UTC") ||
		!strings.Contains(shown, `"state": "ready"`) || !strings.Contains(shown, `"down": true`) {
		t.Errorf("got\n%s%s", out, shown)
	}
}

func TestPeople(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{"timedOut": "timed out", "nodeLost": "node lost", "agentRestarted": "agent restarted", "ready": "ready", "": ""} {
		if got := people(state); got != want {
			t.Errorf("%q: got %q, want %q", state, got, want)
		}
	}
}

// TestTimesToCome: a time to come is said as one, unless clocks that differ explain it.
func TestTimesToCome(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	p := &Program{Now: func() time.Time { return now }, Zone: time.UTC}
	for ahead, want := range map[time.Duration]string{50 * time.Hour: "(in 2d)", 30 * time.Second: "(0s ago)", -time.Hour: "(60m ago)"} {
		at := now.Add(ahead)
		if got := p.at(&at); !strings.Contains(got, want) {
			t.Errorf("%s ahead: got %q, want %s in it", ahead, got, want)
		}
	}
}
