package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

func TestRun(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		state  job.AttemptState
		exit   int
		reason string
		code   int
		errs   string
	}{
		"success":        {job.AttemptSucceeded, 0, "", 0, "warned\n"},
		"failure":        {job.AttemptFailed, 7, "", 7, "exit code 7"},
		"timeout":        {job.AttemptTimedOut, job.ExitTimedOut, "longer than 2s", 124, "longer than 2s"},
		"cancelled":      {job.AttemptCancelled, job.ExitCancelled, "", 130, job.CancelledByRequest},
		"start failed":   {job.AttemptStartFailed, job.ExitStartFailed, "no such program", 125, "no such program"},
		"no unix code":   {job.AttemptFailed, 3221225472, "", 1, "failed"},
		"largest a code": {job.AttemptFailed, 255, "", 255, "exit code 255"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.submitted = func(id string) {
				b.writeLog(id, "1", "stdout", "hello\x00\n")
				b.writeLog(id, "1", "stderr", "warned\n")
				node, n := b.start(id)
				if test.state == job.AttemptCancelled {
					if _, err := b.app.Jobs.Cancel(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
				b.end(node, n, test.state, test.exit, test.reason)
			}
			code, out, errs := b.run("run", "--pool", "cpu", "--", "sh", "-c", "echo hello")
			if code != test.code || out != "hello\x00\n" || !strings.Contains(errs, "warned\n") || !strings.Contains(errs, test.errs) {
				t.Errorf("got %d %q %q; want %d, %q", code, out, errs, test.code, test.errs)
			}
		})
	}
}

// A run follows every attempt, one after the other.
func TestRunFollowsRetries(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.submitted = func(id string) {
		b.writeLog(id, "1", "stdout", "first\n")
		b.writeLog(id, "2", "stdout", "second\n")
		node, n := b.start(id)
		b.end(node, n, job.AttemptFailed, 7, "")
		b.app.Clock.Set(apptest.Noon.Add(time.Minute))
		if err := b.app.Pools.Tick(t.Context(), "cpu", b.app.Clock.Now()); err != nil {
			t.Error(err)
		}
		node, n = b.start(id)
		go b.end(node, n, job.AttemptSucceeded, 0, "")
	}
	if code, out, errs := b.run("run", "--pool", "cpu", "--retry-max", "1", "--retry-on", "exitCode:7", "true"); code != 0 ||
		out != "first\nsecond\n" {
		t.Errorf("got %d %q %q", code, out, errs)
	}
}

// Ctrl-C cancels the job, and the run goes on to its end.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var node string
	var n int64
	b.submitted = func(id string) {
		b.writeLog(id, "1", "stdout", "working\n")
		node, n = b.start(id)
		interrupt()
	}
	b.cancelled = func(string) { b.end(node, n, job.AttemptCancelled, job.ExitCancelled, "") }
	code := b.program.Main(ctx, []string{"run", "--pool", "cpu", "--id", "c", "--", "sleep", "100"})
	if errs := b.err.String(); code != 130 || !strings.Contains(errs, "cancelling job c") || b.out.String() != "working\n" {
		t.Errorf("got %d %q %q", code, b.out.String(), errs)
	}
}

// Ctrl-C ends what only waits, and leaves the job alone.
func TestWaitInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if code := b.program.Main(ctx, []string{"job", "wait", "third"}); code != 130 {
		t.Errorf("got %d %q", code, b.err.String())
	}
	if j, _ := b.app.Jobs.Job(t.Context(), "third"); j.State != job.Queued {
		t.Errorf("the job is %s", j.State)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		code      int
		out, errs string // "..." stands for the end of the job
	}{
		"job logs first":                            {0, "one\nlast\n", "oops\n"},
		"job logs first --stdout":                   {0, "one\nlast\n", ""},
		"job logs first --stderr":                   {0, "", "oops\n"},
		"job logs first --stdout --stderr":          {0, "one\nlast\n", "oops\n"},
		"job logs first --attempt 1":                {0, "lost\n", ""},
		"job logs first --tail 1":                   {0, "last\n", "oops\n"},
		"job logs first -f":                         {3, "one\nlast\n", "oops\n..."},
		"job logs first -f --tail 1 --stdout":       {3, "last\n", "..."},
		"job logs --follow first --attempt 1":       {0, "lost\n", ""},
		"job logs first other --stdout":             {0, "first | one\nfirst | last\nother | else\n", ""},
		"job logs first other --stderr":             {0, "", "first | oops\n"}, // the other one has written nothing
		"job logs first first -f --stdout --tail 1": {3, "first | last\nfirst | last\n", "..."},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.writeLog("first", "1", "stdout", "lost\n")
			b.writeLog("first", "2", "stdout", "one\nlast\n")
			b.writeLog("first", "2", "stderr", "oops\n")
			if strings.Contains(args, "other") {
				if err := b.app.Submit(t.Context(), `{"id":"other","pool":"cpu","command":["true"]}`); err != nil {
					t.Fatal(err)
				}
				b.start("other")
				b.writeLog("other", "1", "stdout", "else")
			}
			code, out, errs := b.run(strings.Fields(args)...)
			start, more := strings.CutSuffix(want.errs, "...")
			if code != want.code || out != want.out || !strings.HasPrefix(errs, start) || more == (errs == start) {
				t.Errorf("got %d %q %q, want %+v", code, out, errs, want)
			}
		})
	}
}

// Following goes on through a retry, says so, and ends as the job does.
func TestLogsFollowRetries(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.app.Submit(t.Context(), `{"id":"r","pool":"cpu","command":["true"],"retry":{"max":1,"on":["agentRestarted"]}}`); err != nil {
		t.Fatal(err)
	}
	b.writeLog("r", "1", "stdout", "first\n")
	node, n := b.start("r")
	ended := make(chan int, 1)
	go func() { ended <- b.program.Main(t.Context(), []string{"job", "logs", "-f", "r"}) }()
	b.await(func() bool { return b.out.String() == "first\n" })
	b.end(node, n, job.AttemptAgentRestarted, job.ExitAgentRestarted, "the agent ended")
	b.await(func() bool {
		return strings.Contains(b.err.String(), "attempt 1 of job r is agent restarted: the agent ended; waiting for attempt 2")
	})
	b.app.Clock.Set(apptest.Noon.Add(time.Minute))
	if err := b.app.Pools.Tick(t.Context(), "cpu", b.app.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	b.writeLog("r", "2", "stdout", "second\n")
	node, n = b.start("r")
	b.end(node, n, job.AttemptFailed, 9, "")
	if code := <-ended; code != 9 || b.out.String() != "first\nsecond\n" {
		t.Errorf("got %d %q %q", code, b.out.String(), b.err.String())
	}
}

// await waits until a condition holds.
func (b *bench) await(holds func() bool) {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			b.t.Fatalf("it does not come: %q %q", b.out.String(), b.err.String())
		}
	}
}

// A job that failed is shown with the last lines that it wrote.
func TestShowLastLines(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("line\n", 100)
	for name, test := range map[string]struct{ stdout, stderr, want string }{
		"standard error":     {"out\n", many + "last\n", "last lines of stderr in attempt 2\n" + strings.Repeat("  line\n", shownLines-1) + "  last\n"},
		"of standard output": {"one\ntwo", "\n", "last lines of stdout in attempt 2\n  one\n  two\n"},
		"nothing":            {"", "", ""},
		"hostile":            {"", "a\x1b[2Jb\x00\xff\n50%\r100%\r\n", "last lines of stderr in attempt 2\n  a[2Jb\ufffd\n  100%\n"},
		"a long line":        {"", strings.Repeat("x", 3*shownBytes) + "\n", "last lines of stderr in attempt 2\n  " + strings.Repeat("x", shownBytes-1) + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.writeLog("first", "2", "stdout", test.stdout)
			b.writeLog("first", "2", "stderr", test.stderr)
			code, out, errs := b.run("job", "show", "first")
			if code != 0 || errs != "" || !strings.HasSuffix(out, test.want) || test.want == "" && strings.Contains(out, "last lines") {
				t.Errorf("got %d %q %q, want the end %q", code, out, errs, test.want)
			}
			if _, out, _ := b.run("job", "show", "first", "-o", "json"); strings.Contains(out, "last lines in") {
				t.Errorf("as JSON: %q", out)
			}
		})
	}
}

// What is missing in the logs of an attempt is said of it.
func TestShowLogsCut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.app.Submit(t.Context(), `{"id":"loud","pool":"cpu","command":["true"]}`); err != nil {
		t.Fatal(err)
	}
	node, n := b.start("loud")
	now := b.app.Clock.Now()
	b.report(node, protocol.ReportItem{Finished: &protocol.Finished{
		N: n, State: string(job.AttemptSucceeded), StartedAt: now, EndedAt: now, LogsCut: &job.LogsCut{Stdout: 12345},
	}})
	if code, out, errs := b.run("job", "show", "loud"); code != 0 || !strings.Contains(out, "12345 bytes of stdout are missing in its log\n") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if _, out, _ := b.run("job", "show", "loud", "-o", "json"); !strings.Contains(out, `"stdout": 12345`) || strings.Contains(out, `"stderr"`) {
		t.Errorf("as JSON: %q", out)
	}
}
