package disk_test

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"dsvmpools/local/disk"
)

// When a file has no list of free pages, bbolt reads the whole file at its opening,
// and writes.
func TestCloseNotesFreePages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	for range 2 {
		db, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(put("k", "v")); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		stats := b.Stats()
		if got := stats.TxStats.GetWrite(); got != 0 {
			t.Errorf("opening wrote %d times, want 0", got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
