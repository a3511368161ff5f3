package httpapi

import (
	"net/url"
	"testing"
	"time"
)

// Times of the past are written in one way, in lists of jobs as in reports of usage.
func TestTimesOfAJobList(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 13, 30, 0, 0, time.FixedZone("", 2*3600))
	for text, want := range map[string]string{
		"2h": "2026-03-02T09:30:00Z", "today": "2026-03-02T00:00:00Z", "2026-01-31": "2026-01-31T00:00:00Z",
		"2026-01-31T18:00:00+02:00": "2026-01-31T16:00:00Z",
	} {
		q, err := jobQuery(url.Values{"since": {text}}, now)
		if got := q.Since.Format(time.RFC3339); err != nil || got != want {
			t.Errorf("since %s: got %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"tomorrow", "-7d", "31.1.2026"} {
		if q, err := jobQuery(url.Values{"until": {text}}, now); err == nil {
			t.Errorf("until %q was taken for %s", text, q.Until)
		}
	}
}
