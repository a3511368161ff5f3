package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
)

// mark is a mark of a log, made so long ago.
type mark struct {
	ago    time.Duration
	offset int64
}

// writeMarks writes the marks of a log.
func (b *bench) writeMarks(id, attempt, stream string, marks ...mark) {
	var text []byte
	for _, m := range marks {
		text = job.AppendLogMark(text, job.LogMark{At: b.program.Now().Add(-m.ago), Offset: m.offset})
	}
	at := filepath.Join(b.app.Share, "jobs", "cpu", id, attempt, job.MarksFile(stream, 0))
	if err := os.WriteFile(at, text, 0o644); err != nil {
		b.t.Error(err)
	}
}

// What was written since a time is printed of both streams and of several jobs, with the
// last lines of it, and followed.
func TestLogsSince(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		code      int
		out, errs string // "..." stands for the end of the job
	}{
		"job logs first":                                    {0, "one\ntwo\nlast\n", "oops\n"},
		"job logs first --since 2h":                         {0, "one\ntwo\nlast\n", "oops\n"},
		"job logs first --since 10m":                        {0, "two\nlast\n", ""},
		"job logs first --since 30s":                        {0, "", ""},
		"job logs first --since 10m --tail 1":               {0, "last\n", ""},
		"job logs first --since 10m --tail 9":               {0, "two\nlast\n", ""},
		"job logs first --since 10m --stderr":               {0, "", ""},
		"job logs first --since 10m -f":                     {3, "two\nlast\n", "..."},
		"job logs first --since 2026-03-02T11:00Z":          {2, "", "..."},
		"job logs first --since 2026-03-02":                 {0, "one\ntwo\nlast\n", "oops\n"},
		"job logs first first --since 10m --stdout":         {0, "first | two\nfirst | last\nfirst | two\nfirst | last\n", ""},
		"job logs first first -f --since 10m --tail 1":      {3, "first | last\nfirst | last\n", "..."},
		"job logs first --attempt 1 --since 1m":             {0, "", ""},
		"job logs first --since 2030-01-01":                 {2, "", "..."},
		"job logs first --attempt 1 --since 2020-01-01":     {0, "lost\n", ""},
		"job logs first --since 2026-03-02T10:00:00+01:00 ": {0, "one\ntwo\nlast\n", "oops\n"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.writeLog("first", "1", "stdout", "lost\n")
			b.writeLog("first", "2", "stdout", "one\ntwo\nlast\n")
			b.writeLog("first", "2", "stderr", "oops\n")
			b.writeMarks("first", "2", "stdout", mark{time.Hour, 0}, mark{time.Minute, 4})
			b.writeMarks("first", "2", "stderr", mark{time.Hour, 0})
			code, out, errs := b.run(strings.Fields(args)...)
			start, more := strings.CutSuffix(want.errs, "...")
			if code != want.code || out != want.out || !strings.HasPrefix(errs, start) || more == (errs == start) {
				t.Errorf("got %d %q %q, want %+v", code, out, errs, want)
			}
		})
	}
}

// The attempts that come after the first one that is followed are followed from their begin.
func TestLogsSinceFollowsRetries(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.app.Submit(t.Context(), `{"id":"r","pool":"cpu","command":["true"],"retry":{"max":1,"on":["exitCode:7"]}}`); err != nil {
		t.Fatal(err)
	}
	b.writeLog("r", "1", "stdout", "old\nnew\n")
	b.writeMarks("r", "1", "stdout", mark{time.Hour, 0}, mark{time.Second, 4})
	b.writeLog("r", "2", "stdout", "second\n")
	b.writeMarks("r", "2", "stdout", mark{time.Hour, 0}) // by a clock that is wrong
	node, n := b.start("r")
	ended := make(chan int, 1)
	go func() { ended <- b.program.Main(t.Context(), []string{"job", "logs", "-f", "r", "--since", "10m"}) }()
	b.await(func() bool { return b.out.String() == "new\n" })
	b.end(node, n, job.AttemptFailed, 7, "its process ended with exit code 7")
	b.app.Clock.Set(apptest.Noon.Add(time.Minute))
	if err := b.app.Pools.Tick(t.Context(), "cpu", b.app.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	node, n = b.start("r")
	b.end(node, n, job.AttemptFailed, 9, "")
	if code := <-ended; code != 9 || b.out.String() != "new\nsecond\n" {
		t.Errorf("got %d %q %q", code, b.out.String(), b.err.String())
	}
}
