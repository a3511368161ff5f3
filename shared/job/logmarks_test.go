package job

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var markBegin = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// marksOf writes marks of one byte each, so many seconds after the begin.
func marksOf(seconds ...int) []LogMark {
	var marks []LogMark
	for i, s := range seconds {
		marks = append(marks, LogMark{At: markBegin.Add(time.Duration(s) * time.Second), Offset: int64(i * 100)})
	}
	return marks
}

func markText(marks []LogMark) string {
	var text []byte
	for _, m := range marks {
		text = AppendLogMark(text, m)
	}
	return string(text)
}

func TestLogOffsetSince(t *testing.T) {
	t.Parallel()
	marks := markText(marksOf(0, 10, 20, 3600))
	for name, test := range map[string]struct {
		marks string
		after time.Duration
		want  int64
		found bool
	}{
		"before all":               {marks, -time.Hour, 0, true},
		"the begin":                {marks, 0, 0, true},
		"within the first":         {marks, 9 * time.Second, 0, true},
		"a mark's own time":        {marks, 20 * time.Second, 200, true},
		"in the last of a part":    {marks, 29 * time.Second, 200, true},
		"while nothing came":       {marks, 10 * time.Minute, 300, true},
		"after all":                {marks, 2 * time.Hour, 1000, true},
		"no marks":                 {"", 0, 1000, false},
		"a torn last line":         {markText(marksOf(0)) + "2026-03-02T12:00:10Z 1", 15 * time.Second, 1000, true},
		"a torn line between":      {markText(marksOf(0)) + "2026-03-02T12\n" + markText(marksOf(0, 20)[1:]), 15 * time.Second, 100, true},
		"two lines that are mixed": {"2026-03-02T12:00:00Z 12026-03-02T12:00:10Z 100\n", 0, 1000, false},
		"a negative offset":        {"2026-03-02T12:00:00Z -5\n", 0, 1000, false},
		"beyond the end":           {"2026-03-02T12:00:00Z 5000\n", 0, 1000, true},
		"something else":           {"hello\n\x00\n", 0, 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, found := LogOffsetSince([]byte(test.marks), markBegin.Add(test.after), 1000)
			if got != test.want || found != test.found {
				t.Errorf("got %d %v, want %d %v", got, found, test.want, test.found)
			}
		})
	}
}

// Thinned marks leave out less, never more: for each time the log begins where it did or before.
func TestThinLogMarks(t *testing.T) {
	t.Parallel()
	for _, count := range []int{2, 3, 7, 8, MaxLogMarks} {
		seconds := make([]int, count)
		for i := range seconds {
			seconds[i] = 10 * i
		}
		all := marksOf(seconds...)
		thin := ThinLogMarks(slices.Clone(all))
		if count > 3 && len(thin) > count-count/4+1 {
			t.Errorf("of %d marks %d are left", count, len(thin))
		}
		end := int64(count * 100)
		for s := 0; s <= 10*count+20; s += max(5, count/80*5) {
			since := markBegin.Add(time.Duration(s) * time.Second)
			before, _ := LogOffsetSince([]byte(markText(all)), since, end)
			after, _ := LogOffsetSince([]byte(markText(thin)), since, end)
			if after > before || before-after > 100 || s > 10*count/2+10 && after != before {
				t.Errorf("%d marks, since %d s: got %d, before %d", count, s, after, before)
			}
		}
	}
}

// A file of as many marks as there may be is read whole.
func TestMarksFileIsBounded(t *testing.T) {
	t.Parallel()
	line := AppendLogMark(nil, LogMark{At: markBegin, Offset: 1<<63 - 1})
	if got := len(line) * MaxLogMarks; got > MaxMarksFile {
		t.Errorf("got %d bytes", got)
	}
	if !strings.HasPrefix(string(line), "2026-03-02T12:00:00Z 9") {
		t.Errorf("got %q", line)
	}
}

func FuzzLogOffsetSince(f *testing.F) {
	f.Add([]byte(markText(marksOf(0, 10))), int64(500))
	f.Add([]byte("2026-03-02T12:00:00Z "), int64(0))
	f.Fuzz(func(t *testing.T, marks []byte, end int64) {
		if end < 0 {
			return
		}
		if got, _ := LogOffsetSince(marks, markBegin, end); got < 0 || got > end {
			t.Errorf("got %d of %d", got, end)
		}
	})
}
