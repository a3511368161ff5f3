package wire

import (
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// TestGangHasAStart: a job on several nodes has started when the first of them has.
func TestGangHasAStart(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	ranks := []job.Rank{{Rank: 0, StartedAt: noon.Add(time.Minute)}, {Rank: 1, StartedAt: noon}, {Rank: 2}}
	for name, test := range map[string]struct {
		attempts []job.Attempt
		want     *time.Time
	}{
		"a gang":                   {[]job.Attempt{{Ranks: ranks}}, &noon},
		"one that waits":           {[]job.Attempt{{Ranks: ranks[2:]}}, nil},
		"the first attempt is it":  {[]job.Attempt{{Ranks: ranks}, {StartedAt: noon.Add(time.Hour)}}, &noon},
		"the attempt's own counts": {[]job.Attempt{{StartedAt: noon, Ranks: ranks[:1]}}, &noon},
	} {
		got := NewJob(&pool.Job{Attempts: test.attempts}).StartedAt
		if (got == nil) != (test.want == nil) || got != nil && !got.Equal(*test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
