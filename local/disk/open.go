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
		// bbolt makes its map of the file larger when it must, and then waits for all who
		// read, and they for it. A map takes addresses and no memory.
		InitialMmapSize: mapped,
	}
}

// mapped is up to which size of the file nobody waits for a larger map, in bytes.
const mapped = 1 << 30

// growth is by how much bbolt makes the file larger, in bytes.
const growth = 1 << 20

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
		b.AllocSize = growth
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
