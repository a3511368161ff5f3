//go:build unix

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// TestWorkingDirectory: an attempt starts in an empty directory of its own, and what
// it does there harms neither its logs nor its output.
func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.CPUs = 8
	n := launched(t, cfg, newBus(t))
	deep := script(5, "pwd; touch here")
	deep.Assign.Workdir = "a/b"
	gang := script(6, "pwd; ls -A")
	gang.Assign.Gang = &protocol.Gang{Rank: 1, Hosts: []string{"a", "b"}, Port: 1}
	n.work(script(1, "ls -A; pwd"),
		script(2, "echo before; echo kept > $DSVM_OUTPUT/x; rm -rf ./* ./.[!.]*; echo after; echo more >> $DSVM_OUTPUT/x"),
		script(3, "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a"+
			" && cd .. && mv r $DSVM_SCRATCH/r && git clone -q $DSVM_SCRATCH/r ."),
		script(4, "echo mine > result; mkdir sub; echo more > sub/x"), deep, gang)
	for id := int64(1); id <= 6; id++ {
		if f := n.finished(id); f.State != string(job.AttemptSucceeded) {
			t.Errorf("attempt %d: got %+v; %s", id, f, n.file(id, "stderr.log"))
		}
	}
	dir := func(id string) string { return filepath.Join(cfg.Share, "jobs/cpu", id, "1") }
	if got, want := n.file(1, "stdout.log"), dir("job-1")+"/wd\n"; got != want {
		t.Errorf("an empty directory: got %q, want %q", got, want)
	}
	if got := n.file(2, "stdout.log"); got != "before\nafter\n" || n.file(2, "output/x") != "kept\nmore\n" {
		t.Errorf("after everything was removed: got %q and %q", got, n.file(2, "output/x"))
	}
	if _, err := os.Stat(dir("job-3") + "/wd/.git"); err != nil {
		t.Errorf("a clone into the directory: %v", err)
	}
	if n.file(4, "wd/result") != "mine\n" || n.file(4, "wd/sub/x") != "more\n" {
		t.Error("what was written there is gone")
	}
	if got, want := n.file(5, "stdout.log"), dir("job-5")+"/wd/a/b\n"; got != want {
		t.Errorf("workdir: got %q, want %q", got, want)
	}
	text, err := os.ReadFile(filepath.Join(dir("job-6"), job.LogFile("stdout", 1)))
	if want := dir("job-6") + "/wd.1\n"; string(text) != want {
		t.Errorf("a rank: got %q, %v; want %q", text, err, want)
	}
	for _, id := range []string{"job-1", "job-2", "job-6"} {
		if left, _ := filepath.Glob(dir(id) + "/wd*"); len(left) > 0 {
			t.Errorf("empty directories are left: %v", left)
		}
	}
}

// TestStopLeader: with it the first process alone is asked to end, and can still use
// the others; without it all of them are.
func TestStopLeader(t *testing.T) {
	t.Parallel()
	const child = `sh -c 'trap "echo child asked; exit 0" TERM; echo up; while :; do sleep 0.01; done' &
child=$!
`
	for _, test := range []struct {
		name, stop, script, want string
	}{
		{"leader", job.StopLeader, `trap 'kill -0 $child && echo child lives; exit 0' TERM
` + child + "while :; do wait $child; done", "up\nchild lives\n"},
		{"group", "", "trap : TERM\n" + child + "while kill -0 $child; do wait $child; done", "up\nchild asked\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			n := launched(t, cfg, newBus(t)) // with a long grace: only SIGTERM ends them
			timed := script(2, test.script)
			timed.Assign.TimeoutSeconds = 1
			one := script(1, test.script)
			one.Assign.Stop, timed.Assign.Stop = test.stop, test.stop
			n.work(one, timed)
			for _, id := range []int64{1, 2} {
				awaitText(t, n, id, "up\n")
			}
			n.work(cancel(3, 1))
			for _, id := range []int64{1, 2} {
				n.finished(id)
				if got := n.file(id, "stdout.log"); got != test.want {
					t.Errorf("attempt %d: got %q, want %q", id, got, test.want)
				}
			}
		})
	}
}

// TestStopLeaderStubborn: what does not end by itself is killed, all of it.
func TestStopLeaderStubborn(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.KillGrace = 100 * time.Millisecond
	n := launched(t, cfg, newBus(t))
	item := script(1, "trap '' TERM; sleep 1000 & echo up; while :; do sleep 0.01; done")
	item.Assign.Stop = job.StopLeader
	n.work(item)
	awaitText(t, n, 1, "up\n")
	n.work(cancel(2, 1))
	if f := n.finished(1); f.State != string(job.AttemptCancelled) {
		t.Errorf("got %+v", f)
	}
	n.none(1)
}

// awaitText waits until an attempt has written something.
func awaitText(t *testing.T, n *node, id int64, text string) {
	t.Helper()
	eventually(t, "an attempt's output", func() bool {
		got, _ := os.ReadFile(filepath.Join(n.cfg.Share, "jobs", "cpu", fmt.Sprintf("job-%d", id), "1", "stdout.log"))
		return strings.Contains(string(got), text)
	})
}
