package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// bbolt maps the file into memory and trusts its pages: one that points outside,
// or a file cut short, would end the process and not name the file. What bbolt
// follows while it opens a file, which is every page in use, is therefore looked
// at before it does. Values have no checksum; a damaged one is not seen here.

// Layout of a page: a header, then elements, each of which says where its key
// and value begin, counted from the element.
const (
	headerSize   = 16
	elementSize  = 16
	bucketHeader = 16 // in front of what stands in a value that is a bucket
	branchPage   = 0x01
	leafPage     = 0x02
	bucketFlag   = 0x01
)

// maxDepth is more than the levels of any tree here: a page has room for some
// dozens of keys at least.
const maxDepth = 64

// check reports what is wrong with a file that is there. It waits for another
// process to let go of it.
func check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 { // bbolt would take it for a new one
		return errors.New("it is empty, and a store never is")
	}
	b, err := bbolt.Open(path, fileMode, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return err
	}
	defer b.Close()
	return b.View(func(tx *bbolt.Tx) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err = f.Stat(); err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("it has %d bytes, and should have %d", info.Size(), tx.Size())
		}
		size := b.Info().PageSize
		w := walk{file: f, size: size, seen: make([]bool, tx.Size()/int64(size))}
		return w.page(uint64(tx.Cursor().Bucket().RootPage()), nil, nil, 0)
	})
}

// walk follows the pages of a file.
type walk struct {
	file *os.File
	size int
	seen []bool
	room [maxDepth + 1][]byte // for a page of each level; there are many pages
}

// page looks at the page and all below it. Its keys are not before from, and
// before to; nil is no bound.
func (w *walk) page(id uint64, from, to []byte, depth int) error {
	const metas = 2
	if id < metas || id >= uint64(len(w.seen)) || depth > maxDepth {
		return fmt.Errorf("page %d is asked for, and is none of its %d pages", id, len(w.seen))
	}
	if w.room[depth] == nil {
		w.room[depth] = make([]byte, w.size)
	}
	head := w.room[depth]
	if _, err := w.file.ReadAt(head, int64(id)*int64(w.size)); err != nil {
		return err
	}
	run := uint64(binary.NativeEndian.Uint32(head[12:])) + 1
	if binary.NativeEndian.Uint64(head) != id || run > uint64(len(w.seen))-id {
		return damaged(id)
	}
	for i := id; i < id+run; i++ {
		if w.seen[i] {
			return fmt.Errorf("page %d is in use twice", i)
		}
		w.seen[i] = true
	}
	if run > 1 {
		head = append(head[:len(head):len(head)], make([]byte, (run-1)*uint64(w.size))...)
		if _, err := w.file.ReadAt(head[w.size:], int64(id+1)*int64(w.size)); err != nil {
			return err
		}
	}
	return w.content(id, head, from, to, depth)
}

func damaged(id uint64) error { return fmt.Errorf("page %d is damaged", id) }

// content looks at the elements of a page, or of a bucket that is so small that
// it stands in a value.
func (w *walk) content(id uint64, p, from, to []byte, depth int) error {
	if len(p) < headerSize {
		return damaged(id)
	}
	flags, count := binary.NativeEndian.Uint16(p[8:]), int(binary.NativeEndian.Uint16(p[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 || headerSize+count*elementSize > len(p) {
		return damaged(id)
	}
	element := func(i int) (kind uint32, key, value []byte, child uint64, ok bool) {
		e := p[headerSize+i*elementSize:]
		var pos, keys, values uint64
		if flags == branchPage {
			pos, keys = uint64(binary.NativeEndian.Uint32(e)), uint64(binary.NativeEndian.Uint32(e[4:]))
			child = binary.NativeEndian.Uint64(e[8:])
		} else {
			kind, pos = binary.NativeEndian.Uint32(e), uint64(binary.NativeEndian.Uint32(e[4:]))
			keys, values = uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
		}
		if pos+keys+values > uint64(len(e)) {
			return 0, nil, nil, 0, false
		}
		return kind, e[pos : pos+keys], e[pos+keys : pos+keys+values], child, true
	}
	for i := range count {
		kind, key, value, child, ok := element(i)
		if !ok || from != nil && (bytes.Compare(key, from) < 0 || i > 0 && bytes.Equal(key, from)) || to != nil && bytes.Compare(key, to) >= 0 {
			return damaged(id)
		}
		from = key
		var err error
		switch {
		case flags == branchPage:
			end := to
			if i+1 < count {
				if _, end, _, _, ok = element(i + 1); !ok {
					return damaged(id)
				}
			}
			err = w.page(child, key, end, depth+1)
		case kind&bucketFlag != 0 && len(value) < bucketHeader:
			err = damaged(id)
		case kind&bucketFlag != 0:
			if root := binary.NativeEndian.Uint64(value); root != 0 {
				err = w.page(root, nil, nil, depth+1)
			} else if depth > maxDepth {
				err = damaged(id)
			} else {
				err = w.content(id, value[bucketHeader:], nil, nil, depth+1)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
