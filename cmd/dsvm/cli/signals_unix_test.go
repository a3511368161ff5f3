//go:build unix

package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/job"
)

// playsProgram, when it is set, has the test's own program play dsvm, so that signals reach
// a process of its own.
const playsProgram = "DSVM_TEST_PLAYS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(playsProgram) == "" {
		os.Exit(m.Run())
	}
	ctx, signals := Listen(context.Background())
	p := System()
	p.Signals = signals
	os.Exit(p.Main(ctx, os.Args[1:]))
}

// process is dsvm as a process of its own.
type process struct {
	cmd  *exec.Cmd
	errs bytes.Buffer
}

// startProcess starts dsvm. before is what a shell does first, such as ignoring a signal.
func (b *bench) startProcess(before string, out *os.File, args ...string) *process {
	b.t.Helper()
	b.takeTurn()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	p := &process{cmd: exec.Command("sh", append([]string{"-c", before + ` exec "$0" "$@"`, self}, args...)...)}
	p.cmd.Env = append(os.Environ(), playsProgram+"=1", "DSVM_URL="+b.program.Getenv("DSVM_URL"), "DSVM_KEY="+b.program.Getenv("DSVM_KEY"))
	p.cmd.Stdout, p.cmd.Stderr = out, &p.errs
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

func (p *process) signal(signals ...syscall.Signal) {
	for _, s := range signals {
		p.cmd.Process.Signal(s)
	}
}

// end returns the exit code; -1 = a signal ended it.
func (p *process) end(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signals cancel the job of a run, however many come and however soon.
func TestRunSignals(t *testing.T) {
	t.Parallel()
	type times struct{ submitting, cancelling []syscall.Signal } // when the instance has done that, before it answers
	const INT, HUP, TERM = syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM
	for name, test := range map[string]struct {
		times
		says string
	}{
		"Ctrl-C twice":                      {times{[]syscall.Signal{INT}, []syscall.Signal{INT}}, "left without waiting"},
		"the terminal closes after Ctrl-C":  {times{[]syscall.Signal{INT}, []syscall.Signal{HUP, HUP}}, "left without waiting"},
		"the terminal closes":               {times{[]syscall.Signal{HUP}, nil}, "left without waiting"},
		"the terminal says it three times":  {times{[]syscall.Signal{HUP, HUP, HUP}, []syscall.Signal{HUP}}, "left without waiting"},
		"twice before the submission ended": {times{[]syscall.Signal{INT, TERM}, nil}, "left without waiting"},
		"once":                              {times{[]syscall.Signal{TERM}, nil}, "cancelled by request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(name, "the terminal") && signal.Ignored(HUP) {
				t.Skip("the tests run under nohup, and programs ignore what they are started to ignore")
			}
			b := newBench(t)
			var p *process
			started := make(chan struct{})
			var node string
			var n int64
			b.submitted = func(id string) {
				<-started
				node, n = b.start(id)
				p.signal(test.submitting...)
			}
			b.cancelled = func(string) {
				p.signal(test.cancelling...)
				if test.says == "cancelled by request" {
					b.end(node, n, job.AttemptCancelled, job.ExitCancelled, job.CancelledByRequest)
				}
			}
			p = b.startProcess("", nil, "run", "--pool", "cpu", "--id", "c", "--", "sleep", "100")
			close(started)
			if code := p.end(t); code != 130 || !strings.Contains(p.errs.String(), test.says) {
				t.Errorf("got %d %q, want %q", code, &p.errs, test.says)
			}
			if j, err := b.app.Jobs.Job(t.Context(), "c"); err != nil || j.Cancel == "" && j.State != job.Cancelled {
				t.Errorf("the job is %s, %v", j.State, err)
			}
		})
	}
}

// What nohup has a process ignore does not cancel the job.
func TestRunUnderNohup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var p *process
	started := make(chan struct{})
	b.submitted = func(id string) {
		<-started
		p.signal(syscall.SIGHUP)
		node, n := b.start(id)
		b.end(node, n, job.AttemptSucceeded, 0, "")
	}
	p = b.startProcess("trap '' HUP;", nil, "run", "--pool", "cpu", "--id", "c", "--", "true")
	close(started)
	if code := p.end(t); code != 0 {
		t.Errorf("got %d %q", code, &p.errs)
	}
}

// A reader of the output that has gone cancels the job.
func TestRunOutputClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.submitted = func(id string) {
		b.start(id)
		b.writeLog(id, "1", "stdout", "hello\n")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	p := b.startProcess("", w, "run", "--pool", "cpu", "--id", "c", "--", "true")
	if code := p.end(t); code != 130 || !strings.Contains(p.errs.String(), "cancelling job c") {
		t.Errorf("got %d %q", code, &p.errs)
	}
	if j, err := b.app.Jobs.Job(t.Context(), "c"); err != nil || j.Cancel == "" {
		t.Errorf("the job is %s, %v", j.State, err)
	}
}

// A cancel that the instance does not take is said, with what to do.
func TestRunCannotCancel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, interrupt := context.WithCancel(t.Context())
	b.submitted = func(string) {
		b.denies.Store(true)
		interrupt()
	}
	code := b.program.Main(ctx, []string{"run", "--pool", "cpu", "--id", "c", "--", "true"})
	if errs := b.err.String(); code != 1 || !strings.Contains(errs, "could not be cancelled") || !strings.Contains(errs, "`dsvm job cancel c`") {
		t.Errorf("got %d %q", code, errs)
	}
}

// A detached run leaves the job alone, and says how to follow it.
func TestRunDetached(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, out, errs := b.run("run", "--detach", "--pool", "cpu", "--id", "c", "--", "true")
	if code != 0 || out != "c\n" || !strings.Contains(errs, "`dsvm job logs -f c`") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if j, err := b.app.Jobs.Job(t.Context(), "c"); err != nil || j.State.Final() {
		t.Errorf("got %v", err)
	}
}
