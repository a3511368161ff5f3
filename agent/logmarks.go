package agent

import (
	"bytes"
	"os"
	"time"

	"dsvmpools/shared/job"
)

// logMarks say when a log was written, in a file beside it. An attempt that ends within
// job.LogMarkEvery has none, and no file of them.
type logMarks struct {
	file      *os.File // nil = none was written yet
	marks     []job.LogMark
	first     job.LogMark // of what there is from the begin on, written with the next one
	nextAt    time.Time   // no mark is written before
	torn      bool        // the last line of the file may have no end
	lineBegin int64       // offset of the line that was begun last
	unmarked  int64       // offset of what is older than the next mark; < 0 = nothing is
}

// begin begins the marks of a log.
func (m *logMarks) begin(now time.Time) {
	m.first, m.nextAt = job.LogMark{At: wholeSecond(now)}, now.Add(job.LogMarkEvery)
	m.unmarked = -1
}

// wholeSecond rounds up: a mark says what was written before a time.
func wholeSecond(t time.Time) time.Time {
	return t.Add(time.Second - 1).Truncate(time.Second)
}

// passLines notes where the last line begins of text that was written at an offset.
func (m *logMarks) passLines(text []byte, at int64) {
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		m.lineBegin = at + int64(i) + 1
	}
}

// mark writes a mark before something is written to the log, when it is time for one. A log
// whose marks cannot be written goes on without: the next mark then is for more of it.
func (l *attemptLog) mark(now time.Time) {
	m := &l.marks
	if now.Before(m.nextAt) {
		return
	}
	m.nextAt = now.Add(job.LogMarkEvery)
	offset := l.at
	if l.at-m.lineBegin <= longestRest {
		offset = m.lineBegin // a line is not torn
	}
	if m.unmarked >= 0 {
		offset = m.unmarked
	}
	m.unmarked = offset
	if l.writeMark(job.LogMark{At: wholeSecond(now), Offset: offset}) == nil {
		m.unmarked = -1
	}
}

// writeMark appends a mark to the file of marks, which it makes when there is none, and
// writes as a whole with fewer of them when it is full.
func (l *attemptLog) writeMark(mark job.LogMark) error {
	m := &l.marks
	name := job.MarksFile(l.stream, l.rank)
	if len(m.marks) >= job.MaxLogMarks {
		thin := append(job.ThinLogMarks(m.marks), mark)
		if err := l.replaceFile(name, marksText(thin)); err != nil {
			return err
		}
		m.file.Close()
		m.marks, m.file, m.torn = thin, nil, false
		return nil
	}
	if m.file == nil {
		dir, err := l.dir.open()
		if err != nil {
			return err
		}
		file, err := openFileAt(dir, name, os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		_ = l.owner.giveFile(file)
		m.file = file
	}
	added := []job.LogMark{mark}
	if len(m.marks) == 0 {
		if err := emptyFile(m.file); err != nil {
			return err
		}
		added = []job.LogMark{m.first, mark}
	}
	text := marksText(added)
	if m.torn {
		text = append([]byte("\n"), text...)
	}
	if _, err := m.file.Write(text); err != nil {
		m.torn = true
		return err
	}
	m.marks, m.torn = append(m.marks, added...), false
	return nil
}

func marksText(marks []job.LogMark) []byte {
	var text []byte
	for _, m := range marks {
		text = job.AppendLogMark(text, m)
	}
	return text
}

func (m *logMarks) close() {
	if m.file != nil {
		m.file.Close()
		m.file = nil
	}
}
