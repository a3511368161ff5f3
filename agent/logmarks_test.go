//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
)

// listed are the names in a directory.
func listed(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// sinceOf is what a log has from a time on, as its marks say.
func sinceOf(t *testing.T, dir string, since time.Time) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "stdout.log"))
	if err != nil {
		t.Fatal(err)
	}
	marks, err := os.ReadFile(filepath.Join(dir, "stdout.log.marks"))
	if err != nil {
		t.Fatal(err)
	}
	from, ok := job.LogOffsetSince(marks, since, int64(len(text)))
	if !ok {
		t.Fatalf("no marks in %q", marks)
	}
	return string(text[from:])
}

// TestShortAttemptHasNoMarks: an attempt that ends soon has no file beside its logs, and one
// that is silent after its begin has none either.
func TestShortAttemptHasNoMarks(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	l, now := logs.logs[0], time.Now()
	l.write([]byte("one\n"), now)
	l.write([]byte("two\n"), now.Add(job.LogMarkEvery-time.Second))
	logs.close()
	if got := listed(t, dir); !slices.Equal(got, []string{"stdout.log"}) || l.marks.file != nil {
		t.Errorf("got %v", got)
	}
}

// TestLogMarks: the marks of a log lead to what was written since a time, exact to 10 s and
// in whole lines.
func TestLogMarks(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	defer logs.close()
	l, now := logs.logs[0], time.Now()
	begin := now
	for _, w := range []struct {
		after time.Duration
		text  string
	}{
		{0, "a\n"},
		{9 * time.Second, "b\nbegun "},
		{12 * time.Second, "ended\nc\n"},
		{15 * time.Second, "d\n"},
		{time.Hour, "e\n"},
		{time.Hour + 11*time.Second, "f\n"},
	} {
		l.write([]byte(w.text), begin.Add(w.after))
	}
	for _, test := range []struct {
		after time.Duration
		want  string
	}{
		{-time.Hour, "a\nb\nbegun ended\nc\nd\ne\nf\n"},
		{9 * time.Second, "a\nb\nbegun ended\nc\nd\ne\nf\n"},
		{15 * time.Second, "begun ended\nc\nd\ne\nf\n"},
		{time.Minute, "e\nf\n"},
		{time.Hour, "e\nf\n"},
		{time.Hour + 12*time.Second, "f\n"},
		{2 * time.Hour, ""},
	} {
		if got := sinceOf(t, dir, begin.Add(test.after)); got != test.want {
			t.Errorf("since %s: got %q, want %q", test.after, got, test.want)
		}
	}
	if got := listed(t, dir); !slices.Equal(got, []string{"stdout.log", "stdout.log.marks"}) {
		t.Errorf("got %v", got)
	}
}

// TestLogMarksAreBounded: of a log that is written for long the older marks are joined, and
// the newer ones stay as they are.
func TestLogMarksAreBounded(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	defer logs.close()
	l, now := logs.logs[0], time.Now()
	const writes = 3 * job.MaxLogMarks
	for i := range writes {
		l.write([]byte("x\n"), now.Add(time.Duration(i)*job.LogMarkEvery))
	}
	marks, err := os.ReadFile(filepath.Join(dir, "stdout.log.marks"))
	if n := strings.Count(string(marks), "\n"); err != nil || n > job.MaxLogMarks || n < job.MaxLogMarks/2 {
		t.Errorf("got %d marks, %v", n, err)
	}
	for _, back := range []int{1, 5, job.MaxLogMarks / 4} {
		got := len(sinceOf(t, dir, now.Add((writes-time.Duration(back))*job.LogMarkEvery))) / 2
		if got < back || got > back+1 {
			t.Errorf("since %d writes ago: got %d", back, got)
		}
	}
	if got := len(sinceOf(t, dir, now.Add(-time.Hour))) / 2; got != writes {
		t.Errorf("since before: got %d of %d", got, writes)
	}
	if got := listed(t, dir); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

// TestLogMarksCannotBeWritten: the log goes on without its marks, and the next mark is for
// what has none.
func TestLogMarksCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	defer logs.close()
	l, now := logs.logs[0], time.Now()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "stdout.log.marks")
	if err := os.Link(secret, place); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("a\n"), now)
	l.write([]byte("b\n"), now.Add(time.Minute))
	l.write([]byte("c\n"), now.Add(2*time.Minute))
	if text, err := os.ReadFile(secret); err != nil || string(text) != "mine" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("d\n"), now.Add(3*time.Minute))
	l.write([]byte("e\n"), now.Add(4*time.Minute))
	for after, want := range map[time.Duration]string{time.Minute: "b\nc\nd\ne\n", 3 * time.Minute: "b\nc\nd\ne\n", 4 * time.Minute: "e\n"} {
		if got := sinceOf(t, dir, now.Add(after)); got != want {
			t.Errorf("since %s: got %q, want %q", after, got, want)
		}
	}
	// A line that could not be written to its end does not spoil the next one.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no full disk to write to:", err)
	}
	defer full.Close()
	file := l.marks.file
	l.marks.file = full
	l.write([]byte("f\n"), now.Add(5*time.Minute))
	l.marks.file = file
	if _, err := file.WriteString("2026-11-2"); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("g\n"), now.Add(6*time.Minute))
	if got := sinceOf(t, dir, now.Add(6*time.Minute)); got != "f\ng\n" {
		t.Errorf("after a torn line: got %q", got)
	}
}
