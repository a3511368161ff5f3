package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// logText is the text of a log: one file, or for a log that has more than its bound the
// file with its begin and those with its last parts. Offsets are those of all that the
// job has written. It reads the share with bounds, and never more than it is asked for.
type logText struct {
	server *server
	job    *pool.Job
	want   logRequest
	grows  bool       // the last piece is read as far as it goes, whatever its size was
	pieces []logPiece // by offset; none = there is no log (yet)
}

// logPiece is a file of a log.
type logPiece struct {
	file     *os.File
	from, to int64 // offsets in the log; of the last one, to is what there was when it was looked at
}

// logBegin is where an answer begins.
type logBegin struct {
	note      string // says what was cut out before it
	from, end int64  // bytes of the log; what lies between them is there
}

// tailScan is how much of a log is read, at most, to find its last lines.
const tailScan = 8 << 20

// open opens the files of a log.
func (t *logText) open() error {
	f, err := t.server.openFile(t.job, t.want, job.LogFile(t.want.stream, t.want.rank))
	if err != nil {
		return err
	}
	t.close()
	t.pieces = []logPiece{{file: f}}
	return t.measure()
}

// measure finds out how long a log is, and where its parts are.
func (t *logText) measure() error {
	head := &t.pieces[0]
	size, err := t.sizeOf(head.file)
	if err != nil {
		return err
	}
	head.to = size
	if size < job.LeastLogHead {
		return nil
	}
	cut, ok := t.readCut()
	if !ok || cut.Head > size {
		return nil
	}
	head.to = cut.Head
	return t.openParts(cut.Parts)
}

// openParts opens the parts of a log that are not open yet, and closes those that were
// removed meanwhile.
func (t *logText) openParts(parts []int64) error {
	open := map[int64]*os.File{}
	for _, p := range t.pieces[1:] {
		open[p.from] = p.file
	}
	t.pieces = t.pieces[:1]
	var failed error
	for i, from := range parts {
		f := open[from]
		delete(open, from)
		if f == nil {
			var err error
			if f, err = t.server.openFile(t.job, t.want, job.PartFile(t.want.stream, t.want.rank, from)); errors.Is(err, fs.ErrNotExist) {
				continue // removed since: another part has come
			} else if err != nil {
				failed = err
				break
			}
		}
		piece := logPiece{file: f, from: from}
		if i+1 < len(parts) {
			piece.to = parts[i+1]
		} else if size, err := t.sizeOf(f); err == nil {
			piece.to = from + size
		} else {
			failed = err
		}
		t.pieces = append(t.pieces, piece)
	}
	for _, f := range open {
		f.Close()
	}
	return failed
}

func (t *logText) sizeOf(f *os.File) (int64, error) {
	found, err := onShare(t.server, f.Stat, nil)
	if err != nil {
		return 0, fmt.Errorf("size of a log: %w", err)
	}
	return found.Size(), nil
}

// sinceBegin is the offset at which begins what was written since a time, exact to
// job.LogMarkEvery where the agent has kept marks of the log. What has none is older when
// the whole attempt is.
func (t *logText) sinceBegin(since time.Time) int64 {
	if from, ok := job.LogOffsetSince(t.readBeside(job.MarksFile(t.want.stream, t.want.rank), job.MaxMarksFile), since, t.size()); ok {
		return from
	}
	end := t.job.EndedAt // of its last attempt, or after it
	if i := t.want.attempt - 1; i < len(t.job.Attempts) {
		end = t.job.Attempts[i].EndedAt
	}
	if !end.IsZero() && end.Before(since) {
		return t.size()
	}
	return 0
}

// readBeside reads a small file beside a log; nil = it is not there, or cannot be read. Of
// one that is larger than most it reads one byte more than that.
func (t *logText) readBeside(name string, most int64) []byte {
	f, err := t.server.openFile(t.job, t.want, name)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(shareFile{t.server, f}, 0, most+1))
	if err != nil {
		return nil
	}
	return text
}

// readCut reads where the parts of a log are; false = it is all in one file.
func (t *logText) readCut() (job.LogCut, bool) {
	return job.DecodeLogCut(t.readBeside(job.CutFile(t.want.stream, t.want.rank), job.MaxCutFile))
}

// size is how many bytes the job has written.
func (t *logText) size() int64 {
	if len(t.pieces) == 0 {
		return 0
	}
	return t.pieces[len(t.pieces)-1].to
}

// begin says where an answer begins and how far it may go.
func (t *logText) begin() (logBegin, error) {
	from := t.want.offset
	if !t.want.since.IsZero() {
		from = t.sinceBegin(t.want.since)
	}
	if t.want.tail >= 0 {
		last, err := t.tailBegin(t.want.tail)
		return logBegin{from: max(from, last), end: t.size()}, err
	}
	for i, p := range t.pieces {
		switch {
		case from < p.from: // in what was cut out, at the least
			return logBegin{note: cutNote(p.from - from), from: p.from, end: t.endOf(i)}, nil
		case from < p.to:
			return logBegin{from: from, end: t.endOf(i)}, nil
		}
	}
	return logBegin{from: from, end: t.size()}, nil
}

// cutNote is what stands in a log in the place of what was cut out. It is never longer than
// that.
func cutNote(missing int64) string {
	return fmt.Sprintf("\n[dsvm: %d bytes of this log were cut out here, since it has more than its bound]\n", missing)
}

// endOf is where the bytes end that follow each other from a piece on.
func (t *logText) endOf(i int) int64 {
	for i+1 < len(t.pieces) && t.pieces[i+1].from == t.pieces[i].to {
		i++
	}
	return t.pieces[i].to
}

// isGap reports whether the bytes at an offset were cut out.
func (t *logText) isGap(offset int64) bool {
	for i, p := range t.pieces {
		if offset < p.from {
			return i > 0 && offset >= t.pieces[i-1].to
		}
	}
	return false
}

// ReadAt reads bytes that follow each other; it ends with io.EOF where some were cut out.
func (t *logText) ReadAt(b []byte, offset int64) (n int, err error) {
	for i, p := range t.pieces {
		to := p.to
		if t.grows && i == len(t.pieces)-1 {
			// The size may come from a cache that is older than the bytes.
			to = math.MaxInt64
		}
		if offset < p.from || offset >= to {
			continue
		}
		want := b[n : min(int64(len(b)-n), to-offset)+int64(n)]
		got, err := shareFile{t.server, p.file}.ReadAt(want, offset-p.from)
		n, offset = n+got, offset+int64(got)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if got < len(want) || n == len(b) {
			break
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// tailBegin is the offset at which the last lines begin. Of very long lines there may be fewer.
func (t *logText) tailBegin(lines int64) (int64, error) {
	end := t.size()
	if lines == 0 || len(t.pieces) == 0 {
		return end, nil
	}
	last := len(t.pieces) - 1
	first := last
	for first > 0 && t.pieces[first].from == t.pieces[first-1].to {
		first--
	}
	least := max(t.pieces[first].from, end-tailScan)
	buffer := make([]byte, chunk)
	for at := end; at > least; {
		from := max(least, at-chunk)
		b := buffer[:at-from]
		n, err := t.ReadAt(b, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for b = b[:n]; ; {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if from+int64(i)+1 < end { // the last line's own end begins no other line
				if lines--; lines == 0 {
					return from + int64(i) + 1, nil
				}
			}
			b = b[:i]
		}
		at = from
	}
	return least, nil
}

func (t *logText) close() {
	for _, p := range t.pieces {
		p.file.Close()
	}
	t.pieces = nil
}

// shareFile reads a file with a bound for each call. What a call that was given up
// brings goes into a buffer of its own.
type shareFile struct {
	server *server
	file   *os.File
}

func (f shareFile) ReadAt(p []byte, offset int64) (int, error) {
	type part struct {
		bytes []byte
		err   error
	}
	got, err := onShare(f.server, func() (part, error) {
		b := make([]byte, len(p))
		n, err := f.file.ReadAt(b, offset)
		return part{b[:n], err}, nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return copy(p, got.bytes), got.err
}
