//go:build unix

package agent

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// Other tests of this process sync at the same time, so that the count may be higher.
func TestSyncCount(t *testing.T) {
	shared := syncCount.Load()
	defer func() { syncCount.Store(shared) }()
	path := filepath.Join(t.TempDir(), "count")
	if err := shareSyncCount(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const syncs = 3
	for range syncs {
		if err := toDisk(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := syncDir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := binary.NativeEndian.Uint64(b); got < syncs+1 {
		t.Errorf("the file counts %d syncs, want %d or more", got, syncs+1)
	}
	if err := shareSyncCount(t.TempDir()); err == nil {
		t.Error("a folder was taken for the file of the count")
	}
}
