package disk

import (
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// bbolt must know which pages of the file are free. A commit does not write the
// list of them, because it may be larger than the commit itself; Close does. After a
// kill, bbolt reads the whole file to find them.

// slowOpen is more than the time that opening takes when bbolt has the list.
const slowOpen = 100 * time.Millisecond

// readAtOnce is how many bytes of the file one call reads ahead.
const readAtOnce = 1 << 20

// options are those of every open store.
func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout:        lockTimeout,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true,
	}
}

// maxReplaced bounds how often a file may be replaced between its opening and its
// locking. Only a process that has just opened it does that, once.
const maxReplaced = 3

// openBolt opens the file for writing, and makes sure that it is still the one at
// path when it is locked.
func openBolt(path string, open openFile) (b *bbolt.DB, err error) {
	defer recoverDamage(&err) // of a large file, whose pages are not checked
	opened := make(chan struct{})
	defer close(opened)
	go readAhead(path, opened)
	for range maxReplaced {
		var file *os.File
		o := options()
		o.OpenFile = func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			f, err = open(name, flag, mode)
			file = f
			return f, err
		}
		if b, err = bbolt.Open(path, 0o600, o); err != nil {
			return nil, err
		}
		// The lock is on the file that was opened: since then another process may have
		// put a compacted one in its place.
		mine, err := file.Stat()
		current, err2 := os.Stat(path)
		if err == nil && err2 == nil && os.SameFile(mine, current) {
			return b, nil
		}
		b.Close()
	}
	return nil, fmt.Errorf("another process replaces it: %w", bbolterrors.ErrTimeout)
}

// openFile has the form of os.OpenFile.
type openFile func(name string, flag int, mode os.FileMode) (*os.File, error)

// readAhead reads the file from its beginning to its end while bbolt reads it page
// by page, for which a cold disk takes half a minute per gigabyte. It reports no
// error: bbolt does.
func readAhead(path string, opened <-chan struct{}) {
	slow := time.NewTimer(slowOpen)
	defer slow.Stop()
	select {
	case <-opened:
		return
	case <-slow.C:
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for b := make([]byte, readAtOnce); err == nil; {
		select {
		case <-opened:
			return
		default:
			_, err = f.Read(b)
		}
	}
}

// recordFreePages writes the list of free pages for the next Open. Without the list
// nothing is lost, so Close ignores its error.
func recordFreePages(b *bbolt.DB) {
	b.NoFreelistSync = false
	_ = b.Update(func(*bbolt.Tx) error { return nil })
}
