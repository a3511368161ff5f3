package cli

import (
	"testing"
	"time"
)

// TestLengthFlag: a length of time is written as in documents, or as Go writes it.
func TestLengthFlag(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "1d": 24 * time.Hour, "1d12h": 36 * time.Hour, "1.5s": 1500 * time.Millisecond, "-1s": -time.Second,
	} {
		var got time.Duration
		if err := (length{&got}).Set(text); err != nil || got != want {
			t.Errorf("%q: got %s, %v; want %s", text, got, err, want)
		}
	}
	var got time.Duration
	if err := (length{&got}).Set("10"); err == nil {
		t.Errorf("a number without a unit is taken for %s", got)
	}
}
