package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
)

// Layout of a page: a header, then elements, each of which says where its key
// and value begin, counted from the element.
const (
	headerSize   = 16
	elementSize  = 16
	bucketHeader = 16 // in front of what stands in a value that is a bucket
	branchPage   = 0x01
	leafPage     = 0x02
	listPage     = 0x10
	longList     = 0xffff // as the count: the count stands in front of the list
	bucketFlag   = 0x01   // of an element: its value is a bucket
)

// metas is how many pages tell where the others are.
const metas = 2

// maxDepth is more than the levels of any tree here: a page has room for some
// dozens of keys at least.
const maxDepth = 64

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
	if depth > maxDepth {
		return damaged(id)
	}
	p, err := w.read(id, depth)
	if err != nil {
		return err
	}
	return w.content(id, p, from, to, depth)
}

// read reads a page, which nothing else may have led to.
func (w *walk) read(id uint64, depth int) ([]byte, error) {
	if id < metas || id >= uint64(len(w.seen)) {
		return nil, fmt.Errorf("page %d is asked for, and is none of its %d pages", id, len(w.seen))
	}
	if w.room[depth] == nil {
		w.room[depth] = make([]byte, w.size)
	}
	head := w.room[depth]
	if _, err := w.file.ReadAt(head, int64(id)*int64(w.size)); err != nil {
		return nil, err
	}
	run := uint64(binary.LittleEndian.Uint32(head[12:])) + 1
	if binary.LittleEndian.Uint64(head) != id || run > uint64(len(w.seen))-id {
		return nil, damaged(id)
	}
	for i := id; i < id+run; i++ {
		if w.seen[i] {
			return nil, fmt.Errorf("page %d is in use twice", i)
		}
		w.seen[i] = true
	}
	if run > 1 {
		head = append(head[:len(head):len(head)], make([]byte, (run-1)*uint64(w.size))...)
		if _, err := w.file.ReadAt(head[w.size:], int64(id+1)*int64(w.size)); err != nil {
			return nil, err
		}
	}
	return head, nil
}

// list looks at the list of free pages, after all that are in use were seen: bbolt
// writes to what it names.
func (w *walk) list(id uint64) error {
	p, err := w.read(id, 0)
	if err != nil {
		return err
	}
	count, ids := uint64(binary.LittleEndian.Uint16(p[10:])), p[headerSize:]
	if count == longList {
		count, ids = binary.LittleEndian.Uint64(ids), ids[8:]
	}
	if binary.LittleEndian.Uint16(p[8:]) != listPage || count > uint64(len(ids)/8) {
		return damaged(id)
	}
	for ; count > 0; count, ids = count-1, ids[8:] {
		free := binary.LittleEndian.Uint64(ids)
		if free < metas || free >= uint64(len(w.seen)) || w.seen[free] {
			return damaged(id)
		}
		w.seen[free] = true
	}
	return nil
}

func damaged(id uint64) error { return fmt.Errorf("page %d is damaged", id) }

// content looks at the elements of a page, or of a bucket that is so small that
// it stands in a value.
func (w *walk) content(id uint64, p, from, to []byte, depth int) error {
	if len(p) < headerSize {
		return damaged(id)
	}
	flags, count := binary.LittleEndian.Uint16(p[8:]), int(binary.LittleEndian.Uint16(p[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 || headerSize+count*elementSize > len(p) {
		return damaged(id)
	}
	element := func(i int) (kind uint32, key, value []byte, child uint64, ok bool) {
		e := p[headerSize+i*elementSize:]
		var pos, keys, values uint64
		if flags == branchPage {
			pos, keys = uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:]))
			child = binary.LittleEndian.Uint64(e[8:])
		} else {
			kind, pos = binary.LittleEndian.Uint32(e), uint64(binary.LittleEndian.Uint32(e[4:]))
			keys, values = uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
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
			if root := binary.LittleEndian.Uint64(value); root != 0 {
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
