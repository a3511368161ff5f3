package cli

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

// endMembers runs the members of a sweep with these exit codes, one after the other.
func (b *bench) endMembers(id string, codes ...int) {
	for index, code := range codes {
		member := job.MemberID(id, index)
		b.writeLog(member, "1", "stderr", "begun\noops from "+member+"\n")
		node, n := b.start(member)
		state, reason := job.AttemptSucceeded, ""
		if code != 0 {
			state, reason = job.AttemptFailed, "it did not work"
		}
		b.end(node, n, state, code, reason)
	}
}

// A run of a sweep says how far it has come, shows what failed, and ends as its first
// failure did.
func TestRunSweep(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		codes    []int
		width    int
		code     int
		has, not []string
	}{
		"success": {[]int{0, 0}, 0, 0, []string{"sweep s is succeeded: 2 of 2 members have ended, 0 running, 0 failed\n"}, []string{"oops", "\r"}},
		"failures": {[]int{0, 4, 5}, 0, 4, []string{
			"sweep s is failed: 3 of 3 members have ended, 0 running, 2 failed\n",
			"s.1 is failed: it did not work\n  last lines of stderr in attempt 1\n    begun\n    oops from s.1\n",
			"oops from s.2", "exit code 4",
		}, []string{"more have failed"}},
		"many failures": {[]int{1, 1, 1, 1, 1}, 0, 1, []string{"2 more have failed; `dsvm job list --sweep s --state failed,timedOut`"}, nil},
		"on a terminal": {[]int{0, 3}, 60, 3, []string{"\rdsvm: sweep s is failed: 2 of 2 members have ended, 0 ru...\x1b[K\n", "oops from s.1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.program.ErrWidth = test.width
			b.submitted = func(id string) { b.endMembers(id, test.codes...) }
			code, out, errs := b.run("run", "--pool", "cpu", "--id", "s", "--count", strconv.Itoa(len(test.codes)), "--", "true")
			if code != test.code || out != "" {
				t.Errorf("got %d %q", code, out)
			}
			for _, text := range test.has {
				if !strings.Contains(errs, text) {
					t.Errorf("%q is missing in %q", text, errs)
				}
			}
			for _, text := range test.not {
				if strings.Contains(errs, text) {
					t.Errorf("%q is in %q", text, errs)
				}
			}
		})
	}
}

// Ctrl-C cancels a sweep as it does a job.
func TestRunSweepInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.program.ErrWidth = 80
	ctx, interrupt := context.WithCancel(t.Context())
	b.submitted = func(string) { interrupt() }
	code := b.program.Main(ctx, []string{"run", "--pool", "cpu", "--id", "s", "--count", "3", "--", "true"})
	if errs := b.err.String(); code != 130 || !strings.Contains(errs, "cancelling job s") {
		t.Errorf("got %d %q", code, errs)
	}
	if j, err := b.app.Jobs.Job(t.Context(), "s"); err != nil || j.State != job.Cancelled {
		t.Errorf("the sweep is %s, %v", j.State, err)
	}
}

// The logs of a sweep are those of its members.
func TestLogsOfSweep(t *testing.T) {
	t.Parallel()
	for _, follow := range []string{"--follow=false", "--follow"} {
		b := newBench(t)
		if err := b.app.Submit(t.Context(), `{"id":"s","pool":"cpu","command":["true"],"sweep":{"count":2}}`); err != nil {
			t.Fatal(err)
		}
		b.endMembers("s", 0)
		if code, _, errs := b.run("job", "logs", "s", follow); code != 2 || !strings.Contains(errs, "s.0 to s.1") {
			t.Errorf("%s: got %d %q", follow, code, errs)
		}
		if code, _, errs := b.run("job", "logs", "s.0", follow); code != 0 || !strings.HasSuffix(errs, "begun\noops from s.0\n") {
			t.Errorf("a member, %s: got %d %q", follow, code, errs)
		}
	}
}
