package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"

	"go.etcd.io/bbolt"

	"dsvmpools/local/internal/mutant"
)

// state is what the tree says of the log, in a bucket that no caller sees.
type state struct {
	id      uint64 // of the log; there is one as long as the state is stored
	applied uint64 // sequence of the last record that is in the tree
	tx      uint64 // number of the tree's transaction that stored this
}

var (
	stateBucket = []byte("\x00log")
	stateKey    = []byte("state")
)

func readState(tx *bbolt.Tx) (s state, ok bool, err error) {
	b := tx.Bucket(stateBucket)
	if b == nil {
		return s, false, nil
	}
	v := b.Get(stateKey)
	if len(v) != 24 {
		return s, false, errors.New("what the store says of its log is damaged")
	}
	return state{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), binary.BigEndian.Uint64(v[16:])}, true, nil
}

// write stores the state. The nil state says that there is no log.
func (s *state) write(tx *bbolt.Tx) error {
	if s == nil {
		if tx.Bucket(stateBucket) == nil {
			return nil
		}
		return tx.DeleteBucket(stateBucket)
	}
	b, err := tx.CreateBucketIfNotExists(stateBucket)
	if err != nil {
		return err
	}
	v := binary.BigEndian.AppendUint64(nil, s.id)
	v = binary.BigEndian.AppendUint64(v, s.applied)
	return b.Put(stateKey, binary.BigEndian.AppendUint64(v, uint64(tx.ID())))
}

// replay brings what the log has and the tree has not into the tree, and removes the
// log. It may be cut off at any moment, and begins again then. Its error says what is
// wrong; nothing was changed then.
func replay(path string, b *bbolt.DB) error {
	var s state
	var found bool
	var last uint64
	err := b.View(func(tx *bbolt.Tx) (err error) {
		s, found, err = readState(tx)
		last = uint64(tx.ID())
		return err
	})
	if err != nil {
		return err
	}
	if found {
		if last != s.tx {
			return errors.New("its log has changes that another version of this program did not see: that one must not open a store " +
				"after a kill")
		}
		changed, err := readLog(path, s)
		if err != nil {
			return err
		}
		if mutant.SkipReplay {
			changed = &layer{}
		}
		if err := (&tree{DB: b}).apply(changed, &s, nil); err != nil {
			return err
		}
	}
	removeLog(path)
	return nil
}

// record is one record of the log.
type record struct {
	sequence       uint64
	stored         []byte // the changes, as they are stored
	length         int    // of the changes
	size, wantSize int64  // of its file: now, and when it was written
}

// readLog returns the changes that are not in the tree.
func readLog(path string, s state) (*layer, error) {
	var all []record
	for i, name := range logPaths(path) {
		found, err := readLogFile(name, i, s.id)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	all = slices.DeleteFunc(all, func(r record) bool { return r.sequence <= s.applied })
	slices.SortFunc(all, func(a, b record) int { return cmp.Compare(a.sequence, b.sequence) })
	changed, o := &layer{}, &owner{}
	for i, r := range all {
		if want := s.applied + uint64(i) + 1; r.sequence != want {
			return nil, fmt.Errorf("record %d of its log is damaged or missing, and record %d comes after it", want, r.sequence)
		}
		// The last one may not be acknowledged, nor the length of its file.
		if i < len(all)-1 && r.size < r.wantSize {
			return nil, fmt.Errorf("a file of its log is cut off: it has %d bytes of %d", r.size, r.wantSize)
		}
		changes, err := unpack(r.stored, r.length)
		if err == nil {
			err = redo(changed, o, changes)
		}
		if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// readLogFile returns the records of a file, in any order, also those of an earlier use.
func readLogFile(path string, number int, id uint64) (found []record, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: it has the last changes of the store", path)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(logHead(id, number)))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if !bytes.Equal(head, logHead(id, number)) {
		return nil, fmt.Errorf("the beginning of %s is damaged, or it belongs to another store", path)
	}
	for at := int64(logPage); at < info.Size(); {
		r, err := readRecord(f, at, info.Size(), id)
		if err != nil {
			return nil, err
		}
		if r == nil {
			at += logPage
			continue
		}
		found = append(found, *r)
		at += recordLength(len(r.stored))
	}
	return found, nil
}

// readRecord reads the record at a place, nil if there is none.
func readRecord(f io.ReaderAt, at, size int64, id uint64) (*record, error) {
	if size-at < recordHead {
		return nil, nil
	}
	head := make([]byte, recordHead)
	if _, err := f.ReadAt(head, at); err != nil {
		return nil, err
	}
	length, n := int(binary.BigEndian.Uint32(head[32:])), int64(binary.BigEndian.Uint32(head[36:]))
	if binary.BigEndian.Uint32(head) != recordMagic || binary.BigEndian.Uint64(head[8:]) != id || n > size-at-recordHead ||
		length > maxRecord || n > int64(length) {
		return nil, nil
	}
	r := &record{sequence: binary.BigEndian.Uint64(head[16:]), stored: make([]byte, n), length: length, size: size,
		wantSize: int64(binary.BigEndian.Uint64(head[24:]))}
	if _, err := f.ReadAt(r.stored, at+recordHead); err != nil {
		return nil, err
	}
	if crc32.Update(crc32.Checksum(head[8:], checksums), checksums, r.stored) != binary.BigEndian.Uint32(head[4:]) {
		return nil, nil
	}
	return r, nil
}
