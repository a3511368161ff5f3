package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// bbolt never makes a file smaller: free pages are used again, and stay. When more
// than half of a file is free, at its opening or after a layer has gone into it, what
// is in use is copied into a new file, which then takes its place in one move. At
// whatever moment the process is killed, the old file or the new one is there as a
// whole; the log fits both.

const (
	// minCompacted is the smallest file that is compacted, in bytes. A smaller one
	// takes no room worth the work.
	minCompacted = 4 << 20
	// minCompactedOpen is the same while the store is in use: its layers wait meanwhile.
	minCompactedOpen = 16 << 20
	// compactPause is how long a file is left alone that could not be copied.
	compactPause = 10 * time.Minute
	// copyAtOnce is how many bytes one transaction copies.
	copyAtOnce = 16 << 20
)

// compact returns the store, in a smaller file if that is worth it. Only disk space
// depends on it, so a store that cannot be copied stays as it is; fails says so. The
// caller closes the old one, and writes to the new one after it has synced the directory:
// until then a loss of power may bring the old one back.
func compact(path string, b *bbolt.DB, smallest int64, finish func(small *bbolt.DB) error) (now *bbolt.DB, fails bool) {
	fresh := path + ".compact"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a start that was killed
		return b, true
	}
	if !isMostlyFree(b, smallest) {
		return b, false
	}
	small, err := copyStore(b, fresh)
	if err == nil {
		if err = finish(small); err == nil {
			// The copy is locked, and stays locked in its new place: no other process can open it.
			err = os.Rename(fresh, path)
		}
		if err != nil {
			small.Close()
		}
	}
	if err != nil {
		os.Remove(fresh)
		return b, true
	}
	return small, false
}

// compactAtOpen compacts a store that nobody uses, and has no log.
func compactAtOpen(path string, b *bbolt.DB) (*bbolt.DB, error) {
	small, _ := compact(path, b, minCompacted, func(*bbolt.DB) error { return nil })
	if small == b {
		return b, nil
	}
	b.Close()
	return small, syncDir(filepath.Dir(path))
}

// compactInUse compacts a store that may be read meanwhile. s is what the tree says of
// the log, which has the number of a transaction of the old file. Only the saver calls it.
func (db *DB) compactInUse(s state) {
	if time.Now().Before(db.compactAfter) {
		return
	}
	old := db.version.Load().tree
	small, fails := compact(db.path, old.DB, db.limits.compacted, func(small *bbolt.DB) error {
		return (&tree{DB: small}).apply(&layer{}, &s, &s)
	})
	if fails {
		db.compactAfter = time.Now().Add(compactPause)
	}
	if small == old.DB {
		return
	}
	now := &tree{DB: small}
	if err := db.syncDir(filepath.Dir(db.path)); err != nil {
		err = fmt.Errorf("%w: %w", errUnsynced, err)
		now.failed.Store(&err)
	}
	db.change(func(v *version) { v.tree, v.saved = now, v.saved+1 })
	db.retired.Go(func() { _ = old.close() }) // when those who read it have ended
}

// isMostlyFree reports whether more than half of a file is free that has a size at least.
func isMostlyFree(b *bbolt.DB, smallest int64) bool {
	var size int64
	if err := b.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return false
	}
	stats := b.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(b.Info().PageSize)
	return size >= smallest && 2*free > size
}

// copyStore copies what is in use into a new file. When it returns, the whole new
// file is on disk.
func copyStore(b *bbolt.DB, path string) (small *bbolt.DB, err error) {
	o := options()
	o.NoSync = true // once, at the end
	if small, err = bbolt.Open(path, 0o600, o); err != nil {
		return nil, err
	}
	small.AllocSize = growth
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

// syncDir waits until the names in a directory are on the disk, where the system can do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
