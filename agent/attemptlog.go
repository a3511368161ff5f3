package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// Parts of a log's bound: its first half stays, and of its end there are two parts, of
// which the older one goes when a third one begins.
const (
	headShare = 2 // 1/2 of the bound
	partShare = 4 // 1/4 of the bound
	keptParts = 2
)

// retryLog is between two tries to write to a log that could not be written.
const retryLog = time.Second

// attemptLog is a log that keeps its first and its last part. It is written by one
// goroutine. An attempt never learns of an error of its log: what cannot be written is
// counted, and the log says so where it goes on.
type attemptLog struct {
	dir    *logDir
	stream string
	rank   int
	owner  owner // who gets its files
	bound  int64

	head    *os.File // nil = nothing was written yet
	part    *os.File // nil = everything is in the head
	left    int64    // bytes that the file which is written to may still get
	torn    bool     // the last line that was written has no end yet
	at      int64    // offset in the log of the next byte
	cut     job.LogCut
	lost    int64 // bytes that could not be written since the last one that was
	failed  error
	triedAt time.Time
	missing atomic.Int64 // bytes that are in no file
	marks   logMarks
}

// newAttemptLog begins a log. Its file is made with its first byte.
func newAttemptLog(dir *logDir, stream string, rank int, bound int64, has owner) *attemptLog {
	l := &attemptLog{dir: dir, stream: stream, rank: rank, bound: bound, owner: has, left: bound / headShare}
	l.marks.begin(time.Now())
	return l
}

// open makes the file with the log's begin. Something may be in it already: an attempt that
// was sent twice overwrites nothing.
func (l *attemptLog) open() error {
	dir, err := l.dir.open()
	if err != nil {
		return err
	}
	head, err := openFileAt(dir, job.LogFile(l.stream, l.rank), os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_ = l.owner.giveFile(head) // a share may have one owner for everything
	if at, err := head.Stat(); err == nil {
		l.at = at.Size()
		l.left = max(l.left-l.at, 0)
	}
	l.head, l.marks.lineBegin = head, l.at
	return nil
}

// write writes what the attempt has written.
func (l *attemptLog) write(b []byte, now time.Time) {
	if l.failed != nil && now.Sub(l.triedAt) < retryLog {
		l.drop(len(b))
		return
	}
	if l.head == nil {
		if err := l.open(); err != nil {
			l.fail(err, now)
			l.drop(len(b))
			return
		}
	}
	l.mark(now)
	if l.lost > 0 {
		note := fmt.Sprintf("\n[dsvm: %d bytes of this log could not be written here: %s]\n", l.lost, startfault.Innermost(l.failed))
		if l.append([]byte(note)) > 0 {
			l.fail(l.failed, now)
			l.drop(len(b))
			return
		}
	}
	l.lost, l.failed = 0, nil
	if left := l.append(b); left > 0 {
		l.fail(l.failed, now)
		l.drop(left)
	}
}

// append writes to the log's files, and returns how many bytes it could not write.
func (l *attemptLog) append(b []byte) int {
	for len(b) > 0 {
		n := l.fitting(b)
		if n == 0 {
			if err := l.nextPart(); err != nil {
				l.failed = err
				return len(b)
			}
			n = min(len(b), int(l.left))
		}
		m, err := l.file().Write(b[:n])
		if m > 0 {
			l.torn = b[m-1] != '\n'
			l.marks.passLines(b[:m], l.at)
		}
		l.at, l.left, b = l.at+int64(m), l.left-int64(m), b[m:]
		if err != nil {
			l.failed = err
			return len(b)
		}
	}
	return 0
}

// longestRest is how much of a line that has begun is written beyond the bound of its file.
const longestRest = 4 << 10

// fitting is how much of some text belongs into the file that is written to: whole lines,
// where lines are not very long.
func (l *attemptLog) fitting(b []byte) int {
	if int64(len(b)) <= l.left {
		return len(b)
	}
	n := bytes.LastIndexByte(b[:max(l.left, 0)], '\n') + 1
	if n == 0 && l.torn {
		n = bytes.IndexByte(b[:min(len(b), longestRest)], '\n') + 1
	}
	return n
}

func (l *attemptLog) file() *os.File {
	if l.part != nil {
		return l.part
	}
	return l.head
}

// fail notes that writing has failed.
func (l *attemptLog) fail(err error, now time.Time) { l.failed, l.triedAt = err, now }

// drop counts bytes that are lost.
func (l *attemptLog) drop(n int) {
	l.lost += int64(n)
	l.missing.Add(int64(n))
}

// nextPart begins another part. What lies between the head and the parts that are kept is
// removed after the description of the log says so: a reader that has an older description
// finds a part missing, and looks again.
func (l *attemptLog) nextPart() error {
	name := job.PartFile(l.stream, l.rank, l.at)
	dir, err := l.dir.open()
	if err != nil {
		return err
	}
	part, err := openFileAt(dir, name, os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if err := emptyFile(part); err != nil {
		part.Close()
		return err
	}
	_ = l.owner.giveFile(part) // a share may have one owner for everything
	cut := l.cut
	if len(cut.Parts) == 0 {
		cut.Head = l.at
	}
	cut.Parts = append(cut.Parts[:len(cut.Parts):len(cut.Parts)], l.at)
	var old []int64
	if over := len(cut.Parts) - keptParts; over > 0 {
		old, cut.Parts = cut.Parts[:over], cut.Parts[over:]
	}
	if err := l.describe(cut); err != nil {
		part.Close()
		_ = removeFileAt(dir, name)
		return err
	}
	for _, from := range old {
		_ = removeFileAt(dir, job.PartFile(l.stream, l.rank, from))
	}
	if l.part != nil {
		l.part.Close()
	}
	l.missing.Add(cut.Missing() - l.cut.Missing())
	l.part, l.cut, l.left = part, cut, l.bound/partShare
	return nil
}

// describe writes where the parts of the log are, as a whole.
func (l *attemptLog) describe(cut job.LogCut) error {
	text, err := json.Marshal(cut)
	if err != nil {
		return err
	}
	return l.replaceFile(job.CutFile(l.stream, l.rank), text)
}

// replaceFile writes a file beside the log as a whole: a reader has the old one or the new one.
func (l *attemptLog) replaceFile(name string, text []byte) error {
	dir, err := l.dir.open()
	if err != nil {
		return err
	}
	next, err := openFileAt(dir, name+".new", 0, 0o644)
	if err != nil {
		return err
	}
	_ = l.owner.giveFile(next)
	if err = next.Truncate(0); err == nil {
		_, err = next.Write(text)
	}
	err = errors.Join(err, next.Close())
	if err == nil {
		err = renameFileAt(dir, name+".new", name)
	}
	return err
}

// close ends the log. The file with its begin says then, to a person who reads it on the
// share, where it goes on.
func (l *attemptLog) close() {
	l.marks.close()
	if l.head == nil && (l.lost == 0 || l.open() != nil) {
		return
	}
	if l.lost > 0 {
		l.append(fmt.Appendf(nil, "\n[dsvm: the last %d bytes of this log could not be written: %s]\n", l.lost, startfault.Innermost(l.failed)))
	}
	if l.part != nil {
		l.part.Close()
		note := fmt.Sprintf("\n[dsvm: this log has more than its bound and goes on in %s", job.PartFile(l.stream, l.rank, l.cut.Parts[0]))
		if n := l.cut.Missing(); n > 0 {
			note += fmt.Sprintf("; %d bytes were cut out between", n)
		}
		_, _ = l.head.WriteString(note + "]\n")
	}
	l.head.Close()
}
