package usage_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/usage"
)

func TestPhases(t *testing.T) {
	t.Parallel()
	type part struct {
		letter     byte
		begin, end time.Duration
	}
	s := time.Second
	for name, test := range map[string]struct {
		parts []part
		want  usage.Phases
	}{
		"in order":           {[]part{{'b', 0, 180 * s}, {'w', 180 * s, 600 * s}, {'i', 600 * s, 640 * s}}, "b180w600i640"},
		"joined":             {[]part{{'w', 0, 5 * s}, {'w', 5 * s, 9 * s}}, "w9"},
		"shorter than 1s":    {[]part{{'i', 0, 10 * s}, {'w', 10 * s, 10*s + s/2}, {'i', 10*s + s/2, 20 * s}}, "i20"},
		"no drift":           {[]part{{'i', 0, s / 2}, {'w', s / 2, 3 * s / 2}, {'i', 3 * s / 2, 5 * s / 2}}, "w1i2"},
		"something missing":  {[]part{{'b', 0, 10 * s}, {'w', 60 * s, 90 * s}}, "b10?60w90"},
		"begins too late":    {[]part{{'w', 60 * s, 90 * s}}, "?60w90"},
		"nothing":            {[]part{{'w', 0, 0}}, ""},
		"counted once again": {[]part{{'w', 0, 9 * s}, {'i', 0, 9 * s}}, "w9"},
	} {
		var got usage.Phases
		for _, p := range test.parts {
			got = got.Add(p.letter, p.begin, p.end)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// Whatever a node does, its phases are few, rise, differ from their neighbours, and end where it
// has ended.
func TestPhasesAreFew(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var p usage.Phases
		at := time.Duration(0)
		for range rng.IntN(200) {
			next := at + time.Duration(rng.Int64N(int64(time.Minute)))
			p = p.Add("bwidx"[rng.IntN(5)], at, next)
			at = next
			all := p.Parse()
			last := int64(0)
			for i, one := range all {
				if one.End <= last || i > 0 && all[i-1].Letter == one.Letter {
					t.Fatalf("phase %d of %q is out of order", i, p)
				}
				last = one.End
			}
			if len(all) > 24 || last != int64(at/time.Second) {
				t.Fatalf("%q has %d phases up to %d s, want 24 at most and %s", p, len(all), last, at)
			}
		}
	}
}

// What cannot be read is not known, and is no error.
func FuzzPhases(f *testing.F) {
	for _, text := range []string{"", "b180w600i640", "b", "b1b1", "99", "w-5", "w9223372036854775807", "w1x", strings.Repeat("w1i2", 99)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		last := int64(0)
		for _, one := range usage.Phases(text).Parse() {
			if one.End <= last {
				t.Fatalf("%q rises not at %d", text, one.End)
			}
			last = one.End
		}
	})
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	entry := func(node string, from, to int, phases usage.Phases) usage.Entry {
		return usage.Entry{Kind: usage.KindNode, Pool: "cpu", Node: node, From: noon.Add(minutes(from)), To: noon.Add(minutes(to)), Phases: phases}
	}
	old := entry("old", 0, 60, "")
	old.Boot, old.Busy, old.Idle, old.Draining = minutes(10), minutes(20), minutes(20), minutes(10)
	line := usage.NewTimeline(noon, minutes(10), 6)
	attempt := entry("none", 0, 60, "w3600")
	attempt.Kind = usage.KindAttempt
	for _, e := range []usage.Entry{
		entry("a", 5, 25, "b600w900i1200"), entry("a", 25, 35, "i600"), entry("a", 5, 25, "b600w900i1200"),
		entry("b", -60, 5, "w3900"), entry("c", 50, 110, "i1200x3600"), entry("d", 60, 90, "w1800"), entry("d", -90, 0, "w5400"),
		entry("gap", 0, 60, "b600?1800d3600"), old, attempt,
	} {
		line.Add(&e)
	}
	want := map[string]string{"a": "bbii--", "b": "w-----", "c": "-----i", "gap": "biiddd", "old": "bwwiid"}
	got := map[string]string{}
	for _, n := range line.Nodes() {
		got[n.Node] = string(n.States)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A day of 1,000 nodes takes at most 60 KB on the wire.
func TestTimelineIsSmall(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	rng := rand.New(rand.NewPCG(1, 2))
	line := usage.NewTimeline(noon, 5*time.Minute, 288)
	for n := range 1000 {
		at := noon.Add(time.Duration(rng.IntN(8)) * time.Hour)
		for at.Before(noon.Add(24 * time.Hour)) {
			e := usage.Entry{Kind: usage.KindNode, Pool: "cpu", Node: fmt.Sprintf("dsvm-cpu_%d", n), From: at, To: at.Add(time.Hour)}
			for begin := time.Duration(0); begin < time.Hour; {
				end := min(begin+time.Duration(1+rng.IntN(40))*time.Minute, time.Hour)
				e.Phases = e.Phases.Add("bwwwiid"[rng.IntN(7)], begin, end)
				begin = end
			}
			line.Add(&e)
			at = at.Add(time.Hour)
		}
	}
	var wire bytes.Buffer
	z := gzip.NewWriter(&wire)
	for _, n := range line.Nodes() {
		fmt.Fprintf(z, `{"node":%q,"pool":%q,"states":"%s"},`, n.Node, n.Pool, n.States)
	}
	if z.Close(); wire.Len() > 60<<10 {
		t.Errorf("a day of 1,000 nodes has %d bytes", wire.Len())
	}
	t.Logf("%d bytes", wire.Len())
}
