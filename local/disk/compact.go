package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bbolt never makes a file smaller: free pages are used again, and stay. When more
// than half of a file is free at its opening, what is in use is copied into a new
// file, which then takes its place in one move. At whatever moment the process is
// killed, the old file or the new one is there as a whole.

const (
	// minCompacted is the smallest file that is compacted, in bytes. A smaller one
	// takes no room worth the work.
	minCompacted = 4 << 20
	// copyAtOnce is how many bytes one transaction copies.
	copyAtOnce = 16 << 20
)

// compact returns the store, in a smaller file if that is worth it. Only disk space
// depends on it, so a store that cannot be copied stays as it is.
func compact(path string, b *bbolt.DB) *bbolt.DB {
	fresh := path + ".compact"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a start that was killed
		return b
	}
	if !isMostlyFree(b) {
		return b
	}
	small, err := copyStore(b, fresh)
	if err == nil {
		// The copy is locked, and stays locked in its new place: no other process can open it.
		if err = os.Rename(fresh, path); err != nil {
			small.Close()
		}
	}
	if err != nil {
		os.Remove(fresh)
		return b
	}
	syncDir(filepath.Dir(path))
	b.Close()
	return small
}

// isMostlyFree reports whether more than half of a large file is free.
func isMostlyFree(b *bbolt.DB) bool {
	var size int64
	if err := b.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return false
	}
	stats := b.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(b.Info().PageSize)
	return size >= minCompacted && 2*free > size
}

// copyStore copies what is in use into a new file. When it returns, the whole new
// file is on disk.
func copyStore(b *bbolt.DB, path string) (small *bbolt.DB, err error) {
	o := options()
	o.NoSync = true // once, at the end
	if small, err = bbolt.Open(path, 0o600, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			small.Close()
		}
	}()
	defer recoverDamage(&err) // of a large file, whose pages are not checked
	if err := bbolt.Compact(small, b, copyAtOnce); err != nil {
		return nil, err
	}
	small.NoSync = false
	return small, small.Sync()
}

// syncDir writes a move in a directory to the disk. If that fails, the system does
// it later.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}
