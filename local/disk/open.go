package disk

import (
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// bbolt has to know which pages of the file are free. Commits do not write that
// down, as it may be larger than what they write; Close does. After a kill, bbolt
// walks over the whole file to find out.

// slowOpen is how long opening takes when bbolt need not walk, with room to
// spare.
const slowOpen = 100 * time.Millisecond

// readAtOnce is how much of the file is read ahead with one call.
const readAtOnce = 1 << 20

// openBolt opens the file.
func openBolt(path string) (b *bbolt.DB, err error) {
	defer func() { // in a large file that was not looked at
		if p := recover(); p != nil {
			b, err = nil, fmt.Errorf("%v", p)
		}
	}()
	opened := make(chan struct{})
	defer close(opened)
	go readAhead(path, opened)
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        lockTimeout,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true,
	})
}

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
