package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bbolt never makes a file smaller: pages that are free are used again, and stay.
// When more than half of a file is free as it is opened, what is in use is copied
// into a new file, which then takes its place in one move. Whenever the process is
// killed, the one or the other is there as a whole.

const (
	// worthCompacting is from which size on it is done: a smaller file is no burden.
	worthCompacting = 4 << 20
	// copyAtOnce is how much one transaction of the copying holds.
	copyAtOnce = 16 << 20
)

// compacted is the store, in a smaller file if that is worth it. Nothing but disk
// space depends on it, so that a store which cannot be copied stays as it is.
func compacted(path string, b *bbolt.DB) *bbolt.DB {
	fresh := path + ".compact"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that was cut off
		return b
	}
	if !mostlyFree(b) {
		return b
	}
	small, err := copyStore(b, fresh)
	if err == nil {
		// The copy is locked, and stays so in its place: no other process can come between.
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

// mostlyFree reports whether more than half of a file of some size is free.
func mostlyFree(b *bbolt.DB) bool {
	var size int64
	if err := b.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return false
	}
	stats := b.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(b.Info().PageSize)
	return size >= worthCompacting && 2*free > size
}

// copyStore copies what is in use into a new file, which is on disk as a whole when
// it returns.
func copyStore(b *bbolt.DB, path string) (small *bbolt.DB, err error) {
	o := options()
	o.NoSync = true // once, at the end
	if small, err = bbolt.Open(path, 0o600, o); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil { // a damaged page that nobody has looked at yet
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			small.Close()
		}
	}()
	if err := bbolt.Compact(small, b, copyAtOnce); err != nil {
		return nil, err
	}
	small.NoSync = false
	return small, small.Sync()
}

// syncDir makes a move in a directory last; where that cannot be, the system does so
// in its own time.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
