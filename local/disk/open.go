package disk

import (
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// bbolt has to know which pages of the file are free. Commits do not write that
// down, as it may be larger than what they write; Close does. After a kill, bbolt
// walks over the whole file to find out.

// slowOpen is how long opening takes when bbolt need not walk, with room to
// spare.
const slowOpen = 100 * time.Millisecond

// readAtOnce is how much of the file is read ahead with one call.
const readAtOnce = 1 << 20

// options are those of every store that is open.
func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout:        lockTimeout,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true,
	}
}

// replaced is how often a file may be replaced between its opening and its locking:
// only a process that has just opened it does that, and once.
const replaced = 3

// openBolt opens the file.
func openBolt(path string, open openFile) (b *bbolt.DB, err error) {
	defer func() { // in a large file that was not looked at
		if p := recover(); p != nil {
			b, err = nil, fmt.Errorf("%v", p)
		}
	}()
	opened := make(chan struct{})
	defer close(opened)
	go readAhead(path, opened)
	for range replaced {
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
		// The lock is of the file that was opened: in the meantime another process may
		// have put a compacted one in its place.
		mine, err := file.Stat()
		current, err2 := os.Stat(path)
		if err == nil && err2 == nil && os.SameFile(mine, current) {
			return b, nil
		}
		b.Close()
	}
	return nil, fmt.Errorf("another process replaces it: %w", bbolterrors.ErrTimeout)
}

// openFile is os.OpenFile, or stands in for it.
type openFile func(name string, flag int, mode os.FileMode) (*os.File, error)

// readAhead reads the file from its beginning to its end while bbolt walks over
// it: page by page, as bbolt does, a cold disk takes half a minute for a
// gigabyte. What it cannot read is bbolt's to report.
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

// noteFree writes down which pages are free, for the next Open. Without it
// nothing is lost, so its error is not one of Close.
func noteFree(b *bbolt.DB) {
	b.NoFreelistSync = false
	b.Update(func(*bbolt.Tx) error { return nil })
}
