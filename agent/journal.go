package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/protocol"
)

// Limits of the journal.
const (
	maxLine     = 2*protocol.MaxBytes + 1024 // an assignment is at most a message; JSON may escape it again
	compactFrom = 4 << 20                    // below this size a journal is not worth rewriting
	checksum    = 8                          // hexadecimal digits before each line
)

// journal is a file of records, one a line, each with a checksum before it. A
// line that was not written to its end is left out when the file is read.
type journal struct {
	path string

	mu     sync.Mutex // writing
	f      *os.File
	size   int64
	live   int64       // size after the last rewriting; 0 = of another life
	used   time.Time   // when the reserve was used; zero = it is there
	broken atomic.Bool // what the file holds is not known: rewrite it

	syncing sync.Mutex   // flushing
	written atomic.Int64 // writes so far
	synced  int64        // writes known to be on disk; under syncing
}

// openJournal reads the file at path, which need not exist, and returns the
// state that it describes. Damaged says how many lines could not be read, the torn last
// one left out.
func openJournal(path string) (j *journal, s *state, damaged int, err error) {
	if at, err := os.Lstat(path); err == nil && !at.Mode().IsRegular() {
		return nil, nil, 0, fmt.Errorf("the agent's journal %s is no plain file; remove what is there", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("the agent's journal cannot be opened; check DSVM_INSTANCE_DIR: %w", err)
	}
	s = newState()
	good, damaged, err := replay(f, s)
	if err == nil {
		at, failed := f.Stat()
		if err = failed; err == nil && (damaged > 0 || at.Size() > good) {
			// A torn line looks like garbage over good ones: both leave doubt.
			s.apply(record{Doubt: true})
			s.damaged = true
		}
	}
	if err == nil {
		err = f.Truncate(good) // so that the next line does not grow out of a torn one
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, nil, 0, fmt.Errorf("the agent's journal cannot be read; check the disk: %w", err)
	}
	j = &journal{path: path, f: f, size: good}
	j.keepReserve()
	return j, s, damaged, nil
}

// replay applies all lines that are whole. Good is where the next one goes.
func replay(r io.Reader, s *state) (good int64, damaged int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	bad := 0 // unreadable lines since the last good one
	var at int64
	for {
		line, n, err := readLine(in)
		at += n
		if err == io.EOF {
			return good, damaged, nil
		}
		if err != nil {
			return good, damaged, err
		}
		var rec record
		if decodeLine(line, &rec) {
			s.apply(rec)
			good, damaged, bad = at, damaged+bad, 0
		} else {
			bad++
		}
	}
}

// readLine reads one line that ends in a newline, with n bytes consumed. A
// longer one than maxLine is nil. What follows the last newline is io.EOF.
func readLine(in *bufio.Reader) (line []byte, n int64, err error) {
	for {
		part, err := in.ReadSlice('\n')
		n += int64(len(part))
		if n <= maxLine {
			line = append(line, part...)
		} else {
			line = nil
		}
		if err == nil {
			return bytes.TrimSuffix(line, []byte("\n")), n, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, n, err
		}
	}
}

func decodeLine(line []byte, into *record) bool {
	if len(line) <= checksum || line[checksum] != ' ' {
		return false
	}
	sum, err := strconv.ParseUint(string(line[:checksum]), 16, 32)
	body := line[checksum+1:]
	return err == nil && crc32.ChecksumIEEE(body) == uint32(sum) && json.Unmarshal(body, into) == nil
}

// appendLine encodes a record.
func appendLine(to []byte, r record) []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // a record holds texts, numbers and times of this century only
	}
	to = fmt.Appendf(to, "%0*x ", checksum, crc32.ChecksumIEEE(body))
	return append(append(to, body...), '\n')
}

// write appends the lines that take returns, without flushing: they survive the
// end of this process, though not that of the machine. When the file has grown
// large, or a write has failed, it is rewritten from what all returns, which
// contains everything that take would have.
func (j *journal) write(take func() []byte, all func() []record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.renewReserve()
	if j.broken.Load() || j.size > compactFrom && j.size > 4*j.live {
		err := j.rewrite(take, all)
		if startfault.IsFull(err) && j.useReserve() {
			err = j.rewrite(take, all)
		}
		return err
	}
	lines := take()
	if len(lines) == 0 {
		return nil
	}
	if _, err := j.f.Write(lines); err != nil {
		j.broken.Store(true)
		if startfault.IsFull(err) && j.useReserve() {
			return j.rewrite(take, all)
		}
		return fmt.Errorf("the agent's journal cannot be written; free the disk of DSVM_INSTANCE_DIR: %w", err)
	}
	j.size += int64(len(lines))
	j.written.Add(1)
	return nil
}

// sync flushes what was written before the call. Calls side by side share one
// flush.
func (j *journal) sync() error {
	want := j.written.Load()
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= want {
		return nil
	}
	have := j.written.Load()
	if err := toDisk(j.f); err != nil {
		// What did not reach the disk may be forgotten by the system as well:
		// only writing everything again is safe.
		j.broken.Store(true)
		return fmt.Errorf("the agent's journal cannot be flushed; check the disk of DSVM_INSTANCE_DIR: %w", err)
	}
	j.synced = have
	return nil
}

// rewrite puts a new file in the old one's place. The caller holds j.mu.
func (j *journal) rewrite(take func() []byte, all func() []record) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.broken.Store(true) // until it is done
	take()
	var lines []byte
	for _, r := range all() {
		lines = appendLine(lines, r)
	}
	f, err := os.OpenFile(j.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		if _, err = f.Write(lines); err == nil {
			err = toDisk(f)
		}
		if err == nil {
			f, err = j.putInPlace(f)
		}
		if err == nil {
			err = syncDir(filepath.Dir(j.path))
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("the agent's journal cannot be written; free the disk of DSVM_INSTANCE_DIR: %w", err)
	}
	j.f.Close()
	j.f, j.size, j.live = f, int64(len(lines)), int64(len(lines))
	j.broken.Store(false)
	j.synced = j.written.Add(1)
	return nil
}

func (j *journal) close() error { return j.f.Close() }
