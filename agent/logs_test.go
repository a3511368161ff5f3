//go:build unix

package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/job"
)

// readCutLog puts a log together from its files: its begin, its end, and how many bytes
// are missing between.
func readCutLog(t *testing.T, dir, stream string) (head, tail string, cut job.LogCut) {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	cut, ok := job.DecodeLogCut(read(job.CutFile(stream, 0)))
	if !ok {
		t.Fatalf("got %q", read(job.CutFile(stream, 0)))
	}
	var end bytes.Buffer
	for i, from := range cut.Parts {
		text := read(job.PartFile(stream, 0, from))
		if i+1 < len(cut.Parts) && from+int64(len(text)) != cut.Parts[i+1] {
			t.Errorf("the part from %d on has %d bytes, the next one begins at %d", from, len(text), cut.Parts[i+1])
		}
		end.Write(text)
	}
	return string(read(job.LogFile(stream, 0))), end.String(), cut
}

// TestLogBound: of a log with more than its bound the first and the last part are kept,
// whole lines of them, and the attempt's end says how much is missing.
func TestLogBound(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.LogBound = job.LeastLogBound
	n := launched(t, cfg, newBus(t))
	const lines = 1 << 18
	n.work(script(1, fmt.Sprintf("seq -f %%08.0f 1 %d; echo few >&2", lines)))
	f := n.finished(1)
	dir := filepath.Join(cfg.Share, "jobs/cpu/job-1/1")
	head, tail, cut := readCutLog(t, dir, "stdout")
	if f.State != string(job.AttemptSucceeded) || f.LogsCut == nil || f.LogsCut.Stdout != cut.Missing() || f.LogsCut.Stderr != 0 {
		t.Errorf("got %+v with %+v, %d bytes are missing", f, f.LogsCut, cut.Missing())
	}
	if got := n.file(1, "stderr.log"); got != "few\n" {
		t.Errorf("standard error: got %q", got)
	}
	var want strings.Builder
	for i := 1; int64(want.Len()) < cut.Head; i++ {
		fmt.Fprintf(&want, "%08d\n", i)
	}
	note := fmt.Sprintf("\n[dsvm: this log has more than its bound and goes on in stdout.log.%d; %d bytes were cut out between]\n",
		cut.Parts[0], cut.Missing())
	if head != want.String()+note {
		t.Errorf("the begin has %d bytes and ends with %.200q", len(head), head[max(0, len(head)-200):])
	}
	first := int(cut.Parts[0]/9) + 1
	if !strings.HasPrefix(tail, fmt.Sprintf("%08d\n", first)) || !strings.HasSuffix(tail, fmt.Sprintf("%08d\n", lines)) ||
		len(tail) != 9*(lines-first+1) {
		t.Errorf("the end has %d bytes, from %.9q to %q", len(tail), tail, tail[len(tail)-9:])
	}
	files, err := filepath.Glob(filepath.Join(dir, "stdout.log*"))
	size := int64(0)
	for _, name := range files {
		if at, err := os.Stat(name); err == nil {
			size += at.Size()
		}
	}
	if err != nil || len(files) != 4 || size > job.LeastLogBound+1024 || size < job.LeastLogBound/2 {
		t.Errorf("got %v with %d bytes", files, size)
	}
}

// TestLogsAreFiles: without a bound an attempt writes to its logs itself.
func TestLogsAreFiles(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]job.Bytes{"bounded": job.Gi, "not bounded": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			cfg.LogBound = bound
			n := launched(t, cfg, newBus(t))
			n.work(script(1, "test -p /dev/fd/1 && echo pipe; test -f /dev/fd/1 && echo file; echo again > /dev/stderr"))
			want := "pipe\n"
			if bound == 0 {
				want = "file\n"
			}
			if f := n.finished(1); f.State != string(job.AttemptSucceeded) || n.file(1, "stdout.log") != want || n.file(1, "stderr.log") != "again\n" {
				t.Errorf("got %+v, %q %q", f, n.file(1, "stdout.log"), n.file(1, "stderr.log"))
			}
		})
	}
}

// openLogs makes the logs of an attempt that has no process.
func openLogs(t *testing.T) (dir string, logs *attemptLogs) {
	t.Helper()
	dir = t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	pipes, err := newLogPipes(nobodyElse)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pipes.close)
	find := func() (*os.File, error) { return openExistingDirAt(d, ".") }
	return dir, newAttemptLogs(pipes, &logDir{find: find}, job.LeastLogBound, 0, nobodyElse)
}

// TestLogHeldOpen: a program that holds an attempt's pipe does not hold up its end.
func TestLogHeldOpen(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	fd, err := syscall.Dup(logs.pipes.streams[0].write)
	if err != nil {
		t.Fatal(err)
	}
	held := os.NewFile(uintptr(fd), "held")
	defer held.Close()
	if _, err := held.WriteString("said\n"); err != nil {
		t.Fatal(err)
	}
	if reusable := logs.finish(false); reusable || logs.cut() != (job.LogsCut{}) {
		t.Errorf("got %v, %+v", reusable, logs.cut())
	}
	select {
	case <-logs.done:
	default:
		t.Error("the log goes on")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "stdout.log")); err != nil || string(text) != "said\n" {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestQuietLogsCostLittle: an attempt that runs and writes nothing more holds no buffers.
func TestQuietLogsCostLittle(t *testing.T) {
	const attempts, most = 100, 40 << 10 // bytes an attempt; with a buffer for each stream it was three times that
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.StackInuse + m.HeapAlloc)
	}
	before := used()
	var all []*attemptLogs
	for range attempts {
		_, logs := openLogs(t)
		all = append(all, logs)
	}
	// Each has read something, and waits for more.
	for _, logs := range all {
		for _, fd := range logs.pipes.ends() {
			if _, err := syscall.Write(int(fd), []byte("line\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, logs := range all {
		eventually(t, "both lines are written", func() bool { return logs.written.Load() == int64(len("line\nline\n")) })
	}
	if cost := (used() - before) / attempts; cost > most {
		t.Errorf("the logs of an attempt hold %d bytes; want %d at most", cost, most)
	}
	for _, logs := range all {
		if !logs.finish(true) {
			t.Error("the pipes cannot be used again")
		}
	}
}

// TestLogCannotBeWritten: an attempt goes on when its log cannot be written, and the log
// says what is missing.
func TestLogCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	defer logs.close()
	l := logs.logs[0]
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no full disk to write to:", err)
	}
	now := time.Now()
	l.write([]byte("one\n"), now)
	file := l.head
	l.head = full
	l.write([]byte("two\n"), now)
	l.head = file
	l.write([]byte("too early\n"), now.Add(retryLog/2))
	l.write([]byte("three\n"), now.Add(2*retryLog))
	full.Close()
	text, err := os.ReadFile(filepath.Join(dir, "stdout.log"))
	want := "one\n\n[dsvm: 14 bytes of this log could not be written here: no space left on device]\nthree\n"
	if err != nil || string(text) != want || l.missing.Load() != 14 || l.at != int64(len(want)) {
		t.Errorf("got %q, %v, %d of %d bytes", text, err, l.missing.Load(), l.at)
	}
}

// TestLogObstacle: what stands in the place of a part of a log is not written to.
func TestLogObstacle(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	defer logs.close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := logs.logs[1]
	half := strings.Repeat("x\n", job.LeastLogBound/headShare/2)
	if err := os.Link(secret, filepath.Join(dir, "stderr.log."+strconv.Itoa(len(half)))); err != nil {
		t.Fatal(err)
	}
	l.write([]byte(half), time.Now())
	l.write([]byte("more\n"), time.Now())
	if text, err := os.ReadFile(secret); err != nil || string(text) != "mine" || l.missing.Load() != 5 {
		t.Errorf("got %q, %v, %d", text, err, l.missing.Load())
	}
}
