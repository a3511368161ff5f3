package job

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// LogMark is a line of the file beside a log that says when the log was written: what
// begins at Offset was written before At plus LogMarkEvery, up to the next mark's offset.
// Offsets are those of all that the attempt has written.
type LogMark struct {
	At     time.Time // of the node, in whole seconds
	Offset int64
}

const (
	// LogMarkEvery is between two marks of a log that grows, and how long an attempt runs
	// before it has any. Marks of short attempts would cost more than they are good for.
	LogMarkEvery = 10 * time.Second
	// MaxLogMarks is how many marks a log has at most: for 11 hours in which it grows.
	MaxLogMarks = 4096
	// MaxMarksFile is the most bytes that are read of a file of marks.
	MaxMarksFile = 256 << 10
)

// MarksFile is the name of the file beside a log that holds its marks, one a line.
func MarksFile(stream string, rank int) string { return LogFile(stream, rank) + ".marks" }

// AppendLogMark appends the line of a mark: a time in UTC, a blank, an offset.
func AppendLogMark(text []byte, m LogMark) []byte {
	return fmt.Appendf(text, "%s %d\n", m.At.UTC().Format(time.RFC3339), m.Offset)
}

// ThinLogMarks makes room for more marks: of the older half it joins every two. The offset
// of the first one stays with the time of the second one, so that nothing which was written
// since a time is left out.
func ThinLogMarks(marks []LogMark) []LogMark {
	half := len(marks) / 2
	var out []LogMark
	for i := 0; i < half; i += 2 {
		last := marks[min(i+1, half-1)]
		out = append(out, LogMark{At: last.At, Offset: marks[i].Offset})
	}
	return append(out, marks[half:]...)
}

// LogOffsetSince is the offset at which a log begins that leaves out what its marks show to
// be older than a time, at most end, where the log ends. It reports false where there are no
// marks. Lines that are no marks, such as a torn last one, are ignored.
func LogOffsetSince(marks []byte, since time.Time, end int64) (int64, bool) {
	found := false
	for line := range bytes.Lines(marks) {
		m, ok := parseLogMark(line)
		if !ok {
			continue
		}
		found = true
		if m.At.Add(LogMarkEvery).After(since) {
			return min(m.Offset, end), true
		}
	}
	return end, found
}

func parseLogMark(line []byte) (LogMark, bool) {
	text, ended := bytes.CutSuffix(line, []byte("\n"))
	at, offset, two := bytes.Cut(text, []byte(" "))
	if !ended || !two {
		return LogMark{}, false
	}
	t, err := time.Parse(time.RFC3339, string(at))
	n, noNumber := strconv.ParseInt(string(offset), 10, 64)
	return LogMark{At: t, Offset: n}, err == nil && noNumber == nil && n >= 0
}
