package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"
	"go.etcd.io/bbolt"
)

// The store's file is looked at before bbolt opens it, since bbolt panics in a
// goroutine of its own on a damaged page, and makes a new store of an empty file.
// The format is the one of version 2 of bbolt's files: pages with a header of 16
// bytes, of which the first two tell where the tree begins.
const (
	magic    = 0xED0CDAED
	version  = 2
	metaSize = 64
	noList   = 1<<64 - 1 // in place of a page number
	minPage  = 512
	maxPage  = 64 << 10

	metaPage = 0x04
)

// maxChecked bounds the files of which every page is looked at: that takes about
// a second at this size. A damaged page of a larger one is met when it is read.
const maxChecked = 256 << 20

// create makes a store file in one move, so that an empty one is never the rest
// of a start that was cut off.
func create(path string) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := bbolt.Open(fresh, 0o600, nil)
	if err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	// A link fails where a rename would replace what another process has made.
	if err := os.Link(fresh, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Remove(fresh)
}

// lockRetry is how often a lock is tried for that a process may just be letting
// go of.
const lockRetry = 20 * time.Millisecond

// examineAlone examines a file that nobody has open; false: somebody has.
func examineAlone(path string) (free bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	lock := flock.New(path)
	if free, err = lock.TryRLockContext(ctx, lockRetry); !free || err != nil {
		return free || !errors.Is(err, context.DeadlineExceeded), err
	}
	return true, errors.Join(examine(path), lock.Unlock())
}

// file is a store's file as it is examined.
type file struct {
	*os.File
	size  int64
	page  int64
	pages uint64 // in use, by the newest meta page
	free  uint64 // the page that lists those that are not; noList
}

// examine says what is wrong with a store's file. It changes nothing.
func examine(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return errors.New("it is empty")
	}
	s := file{File: f, size: info.Size()}
	root, err := s.meta()
	if err != nil {
		return err
	}
	if s.pages > uint64(s.size/s.page) {
		return fmt.Errorf("it is cut off: it has %d bytes of %d", s.size, s.pages*uint64(s.page))
	}
	if s.size > maxChecked {
		return nil
	}
	w := walk{file: f, size: int(s.page), seen: make([]bool, s.pages)}
	if err := w.page(root, nil, nil, 0); err != nil || s.free == noList {
		return err
	}
	return w.list(s.free)
}

// meta finds the newest meta page that is whole, and with it the root's page.
func (s *file) meta() (root uint64, err error) {
	newest := uint64(0)
	for _, at := range []int64{0, int64(os.Getpagesize()), 4096, 16384} {
		b := make([]byte, headerSize+metaSize)
		if n, _ := s.ReadAt(b, at); n < len(b) {
			continue // too short to have a page there
		}
		m := b[headerSize:]
		h := fnv.New64a()
		h.Write(m[:metaSize-8])
		page := int64(binary.LittleEndian.Uint32(m[8:]))
		if binary.LittleEndian.Uint16(b[8:])&metaPage == 0 || binary.LittleEndian.Uint32(m) != magic || binary.LittleEndian.Uint32(m[4:]) != version ||
			binary.LittleEndian.Uint64(m[metaSize-8:]) != h.Sum64() || page < minPage || page > maxPage || at > 0 && at != page {
			continue
		}
		s.page = page
		if tx := binary.LittleEndian.Uint64(m[48:]); tx >= newest {
			newest, root = tx, binary.LittleEndian.Uint64(m[16:])
			s.free, s.pages = binary.LittleEndian.Uint64(m[32:]), binary.LittleEndian.Uint64(m[40:])
		}
	}
	if s.page == 0 {
		return 0, errors.New("it is no store, or both of its first pages are damaged")
	}
	return root, nil
}
