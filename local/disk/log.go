package disk

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"dsvmpools/local/internal/mutant"
)

// The log has two files beside the store's file. One takes records; the changes in
// the other one go into the tree meanwhile. Each begins with a page that names the
// log. A record begins at a page of its own, so that a write which is cut off damages
// no other record:
//
//	magic, checksum of all that follows, log, sequence, length of the file, length of the
//	changes, length of the changes as they are stored, changes, zeroes to the end of the page
//
// Changes that take more than a page are compressed, if that makes them shorter.
//
// Sequences go up by one from record to record, through both files. Of what an
// earlier use of a file left, every record has a sequence that is in the tree.
// A record is written only when the one before it is on disk. So one that is missing
// before another was acknowledged, and is lost; a last one that is not whole was never
// acknowledged.

const (
	logPage = 4096
	// logGrowth is by how much a file grows at least, and of which its length is a
	// multiple. Zeroes are written, because a later sync then has no metadata to write.
	logGrowth = 64 << 10
	// maxLogGrowth is by how much a file grows at most for a record that is shorter.
	maxLogGrowth = 4 << 20
	// maxRecord bounds the changes of one record, in bytes.
	maxRecord = 256 << 20

	logMagic    = "dsvm log of a store, form 1\n"
	recordMagic = 0xd5fa10c3
	recordHead  = 4 + 4 + 8 + 8 + 8 + 4 + 4
)

var checksums = crc32.MakeTable(crc32.Castagnoli)

// logPaths are the files of the log of a store.
func logPaths(path string) [2]string { return [2]string{path + ".log1", path + ".log2"} }

// log is the log of an open store. Only its writer uses it.
type log struct {
	id       uint64
	files    [2]*logFile
	current  int    // the file that takes records
	sequence uint64 // of the last record
	b        []byte // the record that is being written
	packed   bytes.Buffer
	packer   *flate.Writer // into packed; nil until it is needed
	failed   error         // of a sync: nobody knows what is on disk
	torn     bool          // what is after the last record may be a record that was refused
}

type logFile struct {
	f    *os.File
	size int64
	end  int64 // where the next record begins
}

// createLog makes the two files, and waits until they are on disk.
func createLog(path string) (l *log, err error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	l = &log{id: binary.BigEndian.Uint64(id[:])}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for i, name := range logPaths(path) {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, err
		}
		l.files[i] = &logFile{f: f, size: logGrowth, end: logPage}
		if err := writeZeroes(f, 0, logGrowth); err != nil {
			return nil, err
		}
		if _, err := f.WriteAt(logHead(l.id, i), 0); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		countWrite(0, 1)
	}
	return l, syncDir(filepath.Dir(path))
}

// logHead is the beginning of the first page of a file.
func logHead(id uint64, number int) []byte {
	b := binary.BigEndian.AppendUint64([]byte(logMagic), id)
	b = append(b, byte(number))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, checksums))
}

// append writes a record and returns when it is on disk.
func (l *log) append(changes []byte) error {
	if l.failed != nil {
		return l.failed
	}
	if len(changes) > maxRecord {
		return fmt.Errorf("a change of %d bytes is too large", len(changes))
	}
	stored, err := l.pack(changes)
	if err != nil {
		return err
	}
	file := l.files[l.current]
	length := recordLength(len(stored))
	if err := file.grow(file.end + length); err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(l.b[:0], recordMagic)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, l.id)
	b = binary.BigEndian.AppendUint64(b, l.sequence+1)
	b = binary.BigEndian.AppendUint64(b, uint64(file.size))
	b = binary.BigEndian.AppendUint32(b, uint32(len(changes)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(stored)))
	b = append(b, stored...)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], checksums))
	b = append(b, make([]byte, length-int64(len(b)))...)
	if l.b = b; len(b) > maxLogGrowth {
		l.b, l.packed = nil, bytes.Buffer{}
	}
	if _, err := file.f.WriteAt(b, file.end); err != nil {
		l.torn = true // until the next record is written over it; that one has the same sequence
		return err
	}
	l.torn = false
	if !mutant.SkipSync {
		if err := syncData(file.f); err != nil {
			// The system may have dropped what it could not write: only a new start can tell.
			l.failed = fmt.Errorf("the log of the store cannot be written to the disk (%w); mend the disk and start again", err)
			return l.failed
		}
	}
	countWrite(length, 1)
	file.end += length
	l.sequence++
	return nil
}

// pack returns changes in the shorter of the two forms in which a record may have them.
func (l *log) pack(changes []byte) ([]byte, error) {
	if recordLength(len(changes)) == logPage {
		return changes, nil
	}
	l.packed.Reset()
	if l.packer == nil {
		var err error
		if l.packer, err = flate.NewWriter(&l.packed, flate.BestSpeed); err != nil {
			return nil, err
		}
	} else {
		l.packer.Reset(&l.packed)
	}
	if _, err := l.packer.Write(changes); err != nil {
		return nil, err
	}
	if err := l.packer.Close(); err != nil {
		return nil, err
	}
	if l.packed.Len() >= len(changes) {
		return changes, nil
	}
	return l.packed.Bytes(), nil
}

// unpack returns changes of which a record has stored.
func unpack(stored []byte, length int) ([]byte, error) {
	if len(stored) == length {
		return stored, nil
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(stored)), b); err != nil {
		return nil, fmt.Errorf("%w: %w", errOps, err)
	}
	return b, nil
}

// recordLength is what a record with so many bytes of changes takes in its file.
func recordLength(changes int) int64 {
	return int64(recordHead+changes+logPage-1) / logPage * logPage
}

// grow makes the file at least as long as needed.
func (f *logFile) grow(needed int64) error {
	if needed <= f.size {
		return nil
	}
	longer := max(needed, min(2*f.size, f.size+maxLogGrowth))
	longer = (longer + logGrowth - 1) / logGrowth * logGrowth
	if err := writeZeroes(f.f, f.size, longer); err != nil {
		return errors.Join(err, f.f.Truncate(f.size))
	}
	f.size = longer
	return nil
}

// writeZeroes writes page by page: the system would keep what is written at once in
// larger parts, and take all of a part for changed when a record changes a page of it.
func writeZeroes(f *os.File, from, to int64) error {
	var zeroes [logPage]byte
	for at := from; at < to; at += logPage {
		if _, err := f.WriteAt(zeroes[:], at); err != nil {
			return err
		}
	}
	countWrite(to-from, 0)
	return nil
}

// changeFile makes the other file take the records. All that it has is in the tree.
func (l *log) changeFile() {
	l.current = 1 - l.current
	l.files[l.current].end = logPage
}

func (l *log) close() {
	for _, file := range l.files {
		if file != nil {
			file.f.Close()
		}
	}
}

// removeLog removes the files of a log of which everything is in the tree.
func removeLog(path string) {
	for _, name := range logPaths(path) {
		_ = os.Remove(name) // one that stays is not looked at, and made anew with the next log
	}
}
