package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"dsvmpools/shared/job"
)

func openDir(t *testing.T) (path string, dir *os.File) {
	t.Helper()
	path, err := os.MkdirTemp("", "agent") // t.TempDir cannot be removed again by Wine 8
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close(); _ = os.RemoveAll(path) })
	return path, dir
}

func TestFilesBelowAFolder(t *testing.T) {
	path, dir := openDir(t)
	write := func(name, text string, flags int) {
		t.Helper()
		f, err := openFileAt(dir, name, flags, 0o644)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	has := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	write("log", "one\n", os.O_APPEND)
	write("log", "two\n", os.O_APPEND)
	has("log", "one\ntwo\n")
	write("next", "new", 0)
	if err := renameFileAt(dir, "next", "log"); err != nil {
		t.Fatal(err)
	}
	has("log", "new")
	if err := removeFileAt(dir, "log"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "log")); !os.IsNotExist(err) {
		t.Errorf("got %v; want no file", err)
	}
	below, err := openDirAt(dir, "below", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	below.Close()
	if _, err := openFileAt(dir, "below", 0, 0o644); causeOf(err) != job.CauseNoWorkdir {
		t.Errorf("a folder in the place of a file: got %v", err)
	}
	write("file", "", 0)
	if _, err := openDirAt(dir, "file", 0o755); causeOf(err) != job.CauseNoWorkdir {
		t.Errorf("a file in the place of a folder: got %v", err)
	}
	for _, name := range []string{"..", `a\b`, "a/b", "a:b", ""} {
		if f, err := openFileAt(dir, name, 0, 0o644); err == nil {
			f.Close()
			t.Errorf("the name %q is taken", name)
		}
	}
}

// A log beyond its bound keeps its first part and its last.
func TestLogIsCut(t *testing.T) {
	path, dir := openDir(t)
	const bound = 4 << 10
	l := newAttemptLog(&logDir{file: dir}, "stdout", 0, bound, nobodyElse)
	for i := range 1000 {
		l.write(fmt.Appendf(nil, "line %d of many\n", i), time.Now())
	}
	l.close()
	if l.missing.Load() == 0 || l.failed != nil {
		t.Fatalf("got %d bytes missing, %v", l.missing.Load(), l.failed)
	}
	var last []byte
	parts, err := filepath.Glob(filepath.Join(path, "stdout*"))
	for _, file := range parts {
		text, failed := os.ReadFile(file)
		if failed != nil {
			t.Fatal(failed)
		}
		last = append(last, text...)
	}
	if err != nil || !bytes.HasPrefix(last, []byte("line 0 of many\n")) || !strings.Contains(string(last), "line 999 of many\n") {
		t.Errorf("got %q, %v", last, err)
	}
}

// A program that holds an attempt's pipe does not hold up its end.
func TestLogHeldOpen(t *testing.T) {
	path, dir := openDir(t)
	pipes, err := newLogPipes(nobodyElse)
	if err != nil {
		t.Fatal(err)
	}
	logs := newAttemptLogs(pipes, &logDir{file: dir}, int64(job.LeastLogBound), 0, nobodyElse)
	var held windows.Handle
	self := windows.CurrentProcess()
	err = windows.DuplicateHandle(self, pipes.streams[0].write, self, &held, 0, false, windows.DUPLICATE_SAME_ACCESS)
	if err != nil {
		t.Fatal(err)
	}
	program := os.NewFile(uintptr(held), "held")
	defer program.Close()
	if _, err := program.WriteString("said\n"); err != nil {
		t.Fatal(err)
	}
	if logs.finish(true) {
		t.Error("the pipes are used again")
	}
	if text, err := os.ReadFile(filepath.Join(path, "stdout.log")); err != nil || string(text) != "said\n" {
		t.Errorf("got %q, %v", text, err)
	}
}

// The journal is written anew while the agent lives, and read by the next life.
func TestJournalIsReplaced(t *testing.T) {
	path, _ := openDir(t)
	j, st, _, err := openJournal(filepath.Join(path, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	b := newNotebook(Config{}, nil, j, st)
	for i := range int64(3) {
		b.mu.Lock()
		b.record(record{Node: "win.vm-1", Seen: i + 1, N: i + 1, Drop: "asked to"})
		b.mu.Unlock()
		j.broken.Store(i == 1)
		if err := b.flush(true); err != nil {
			t.Fatal(err)
		}
	}
	j.close()
	again, st, damaged, err := openJournal(filepath.Join(path, "journal"))
	if err != nil || damaged > 0 || st.damaged || st.seen != 3 || st.node != "win.vm-1" {
		t.Errorf("got %+v with %d damaged lines, %v", st, damaged, err)
	}
	again.close()
}
