package queue

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/local/disk"
)

// remembered returns how many ids are stored, and the time up to which they were deleted.
func remembered(t *testing.T, b *Broker, q *Queue) (n int, forgotten int64) {
	t.Helper()
	err := b.disk.db.View(func(tx *disk.Tx) error {
		in := tx.Bucket([]byte(q.key)).Bucket([]byte(recentBucket))
		forgotten = int64(in.Sequence())
		return in.ForEach(func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, forgotten
}

// Ids are forgotten in the order of their times, from where the last ones were, also when
// the clock is set back. What is deleted is not passed over again and again.
func TestIdsAreForgotten(t *testing.T) {
	t.Parallel()
	c := newClock()
	b, q := open(t, filepath.Join(t.TempDir(), "q.db"), c, Options{Duplicates: time.Minute})
	sent := 0
	step := func(d time.Duration) {
		c.advance(d)
		send(t, q, New{ID: fmt.Sprint(sent), Raw: []byte("x")})
		sent++
	}
	for range 100 {
		step(time.Second)
	}
	first := q.recent.order[0].until
	n, forgotten := remembered(t, b, q)
	if n != len(q.recent.order) || forgotten != first-int64(time.Second) {
		t.Errorf("%d ids are stored up to %d, want %d up to %d", n, forgotten, len(q.recent.order), first-int64(time.Second))
	}
	step(-30 * time.Second) // the time of the next one comes before some that are there
	for range 10 {
		step(20 * time.Second)
	}
	if n, _ := remembered(t, b, q); n != 3 {
		t.Errorf("%d ids are stored, want those of one minute: 3", n)
	}
	step(-time.Hour)
	step(2 * time.Minute)
	step(2 * time.Hour)
	if n, _ := remembered(t, b, q); n != 1 {
		t.Errorf("%d ids are stored, want 1: none stays for ever", n)
	}
}
