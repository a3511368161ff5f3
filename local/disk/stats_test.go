package disk_test

import (
	"path/filepath"
	"testing"

	"dsvmpools/local/disk"
)

// Other tests of this process write at the same time, so that the counts may be higher.
func TestTotals(t *testing.T) {
	t.Parallel()
	before := disk.Totals()
	db, err := disk.Open(filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const updates, size = 3, 1000
	for range updates {
		if err := db.Update(put("k", string(make([]byte, size)))); err != nil {
			t.Fatal(err)
		}
	}
	got := countedSince(before)
	if got.Updates < updates || got.Commits < updates || got.Syncs < updates || got.Bytes < updates*size {
		t.Errorf("after %d updates of %d bytes: got %+v", updates, size, got)
	}
}

// countedSince returns what was counted since before.
func countedSince(before disk.Stats) disk.Stats {
	s := disk.Totals()
	return disk.Stats{
		Updates: s.Updates - before.Updates,
		Commits: s.Commits - before.Commits,
		Syncs:   s.Syncs - before.Syncs,
		Bytes:   s.Bytes - before.Bytes,
	}
}
