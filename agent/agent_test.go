//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/protocol"
)

// node is one agent under test on a bus in memory.
type node struct {
	*memBus
	cfg  Config
	stop func() error // ends the agent and waits for it
}

// vmids gives each agent its own VMID: attempts are found again by it, on the
// whole machine.
var vmids atomic.Int64

func config(tb testing.TB) Config {
	tb.Helper()
	dir := tb.TempDir()
	share := filepath.Join(dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		tb.Fatal(err)
	}
	here, err := outbound.Parse("127.0.0.1") // where the tests' own servers are
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config{AllowPrivate: here, Pool: "cpu", VMID: fmt.Sprintf("vm-%d-%d", os.Getpid(), vmids.Add(1)), Node: "cpu_0",
		Size: "Standard_D2s_v5", InstanceDir: filepath.Join(dir, "instance"), Share: share,
		ServiceBus: "Endpoint=sb://not-used", CPUs: 2, ReportEvery: time.Hour, StartedWithin: 20 * time.Millisecond, KillGrace: deadline,
		SourceTimeout: time.Hour, StartWithin: time.Hour, HandOverWithin: time.Hour, SetupTimeout: time.Hour, gpusWithin: time.Hour, stageAfter: time.Hour, SourceCache: job.Gi, LogBound: job.Gi,
		WorkQueue: "work", NodeEventsQueue: "node-events"}
	remembers(tb, cfg)
	return cfg
}

// remembers makes it the agent of a node that its pool knows: a new one takes nothing
// before the pool's counter has come, see journal_lost_test.go.
func remembers(tb testing.TB, cfg Config) {
	tb.Helper()
	if err := os.Mkdir(cfg.InstanceDir, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), lines(mine(cfg)), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// launcherOf is a launcher without an agent around it.
func launcherOf(tb testing.TB, cfg Config) *launcher {
	tb.Helper()
	l, err := newLauncher(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for n := range maps.Clone(l.slots.taken) {
			l.clean(n, protocol.Assignment{})
		}
		l.slots.close()
	})
	return l
}

// launched runs an agent until the test ends or stop is called.
func launched(tb testing.TB, cfg Config, b *memBus) *node {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- live(ctx, cfg, b) }()
	stopped := false
	n := &node{memBus: b, cfg: cfg}
	n.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(deadline):
			tb.Error("the agent does not end")
			return nil
		}
	}
	tb.Cleanup(func() {
		if err := n.stop(); err != nil {
			tb.Errorf("the agent ended with %v", err)
		}
	})
	return n
}

func begin(tb testing.TB) *node {
	tb.Helper()
	cfg := config(tb)
	cfg.KillGrace = 100 * time.Millisecond
	return launched(tb, cfg, newBus(tb))
}

func assign(n int64, command ...string) protocol.WorkItem {
	return protocol.WorkItem{N: n, Assign: &protocol.Assignment{Job: fmt.Sprintf("job-%d", n), Attempt: 1, Team: "vision", CPUs: 1,
		Command: command}}
}

func script(n int64, text string) protocol.WorkItem {
	item := assign(n)
	item.Assign.Script = text
	return item
}

func cancel(n, target int64) protocol.WorkItem {
	return protocol.WorkItem{N: n, Cancel: &protocol.Cancel{Target: target, Reason: "asked to"}}
}

// file reads a file of an attempt.
func (n *node) file(id int64, name string) string {
	n.tb.Helper()
	text, err := os.ReadFile(filepath.Join(n.cfg.Share, "jobs", "cpu", fmt.Sprintf("job-%d", id), "1", name))
	if err != nil && !(strings.HasSuffix(name, ".log") && errors.Is(err, os.ErrNotExist)) { // a log that is not there is an empty one
		n.tb.Error(err)
	}
	return string(text)
}

func TestAssignRunReport(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(assign(4, "/bin/sh", "-c", "echo out; echo err >&2; echo kept > $DSVM_OUTPUT/result"))
	f := n.finished(4)
	if f.State != string(job.AttemptSucceeded) || f.ExitCode != 0 || f.StartedAt.IsZero() || f.EndedAt.Before(f.StartedAt) {
		t.Errorf("got %+v", f)
	}
	for name, want := range map[string]string{"stdout.log": "out\n", "stderr.log": "err\n", "output/result": "kept\n"} {
		if got := n.file(4, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	first := n.reports[0]
	if r := first.Items[0].Ready; r == nil || r.Name != "cpu_0" || r.Size != "Standard_D2s_v5" || r.CPUs != 2 || r.Boot == "" ||
		r.Version == "" || first.Pool != "cpu" || first.VMID != n.cfg.VMID {
		t.Errorf("first report: got %+v", first)
	}
	if h := first.Items[len(first.Items)-1].Holds; h == nil {
		t.Error("the first report does not say what the node holds")
	}
	if last := n.reports[len(n.reports)-1]; last.Seen != 4 {
		t.Errorf("seen: got %d, want 4", last.Seen)
	}
	n.settled()
}

func TestEnds(t *testing.T) {
	t.Parallel()
	n := begin(t)
	long := script(9, "sleep 1000 & sleep 1000")
	long.Assign.TimeoutSeconds = 1
	up := assign(10, "pwd")
	up.Assign.Workdir = "../x"
	down := assign(11, "pwd")
	down.Assign.Workdir = "a/b"
	off := assign(12, "pwd")
	off.Assign.Workdir = "/usr"
	on := assign(13, "pwd")
	on.Assign.Workdir = n.cfg.Share
	badName := assign(14, "true")
	badName.Assign.Job = "../../etc"
	badEnv := assign(15, "true")
	badEnv.Assign.Env = map[string]string{"A=B": "x"}
	missing := assign(16, "pwd")
	missing.Assign.Workdir = filepath.Join(n.cfg.Share, "missing")
	both := script(17, "true")
	both.Assign.Command = []string{"true"}
	linked := assign(18, "pwd")
	linked.Assign.Workdir = filepath.Join(n.cfg.Share, "link")
	if err := os.Symlink("/usr", filepath.Join(n.cfg.Share, "link")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		item  protocol.WorkItem
		state job.AttemptState
		code  int
		says  string
	}{
		{"exit code 0", assign(1, "true"), job.AttemptSucceeded, 0, ""},
		{"exit code 3", assign(2, "sh", "-c", "exit 3"), job.AttemptFailed, 3, "exit code 3"},
		{"killed by a signal", assign(3, "sh", "-c", "kill -9 $$"), job.AttemptFailed, 137, "signal 9"},
		{"no such program", assign(4, "no-such-program"), job.AttemptStartFailed, 1003, "was not found"},
		{"no such file", assign(5, "/no/such/program"), job.AttemptStartFailed, 1003, "does not exist"},
		{"nothing to run", assign(6), job.AttemptStartFailed, 1003, "neither a command nor a script"},
		{"script", script(7, "set -e\n[ -n \"$BASH_VERSION\" ]\nshopt -q login_shell\nexit 5"), job.AttemptFailed, 5, ""},
		{"attempt 0", protocol.WorkItem{N: 8, Assign: &protocol.Assignment{Job: "j", Command: []string{"true"}}}, job.AttemptStartFailed,
			1003, "counts from 1"},
		{"timeout with a grandchild", long, job.AttemptTimedOut, 1005, "timeout of 1s"},
		{"workdir above", up, job.AttemptStartFailed, 1003, "leads out"},
		{"workdir below", down, job.AttemptSucceeded, 0, ""},
		{"workdir off the share", off, job.AttemptStartFailed, 1003, "not on the share"},
		{"workdir on the share", on, job.AttemptSucceeded, 0, ""},
		{"unsafe job id", badName, job.AttemptStartFailed, 1003, "not a safe name"},
		{"unsafe variable", badEnv, job.AttemptStartFailed, 1003, "cannot be set"},
		{"workdir missing", missing, job.AttemptStartFailed, 1003, "does not exist"},
		{"command and script", both, job.AttemptStartFailed, 1003, "one of them"},
		{"workdir through a link", linked, job.AttemptStartFailed, 1003, "not on the share"},
	}
	var items []protocol.WorkItem
	for _, test := range tests {
		items = append(items, test.item)
	}
	n.work(items...)
	for _, test := range tests {
		f := n.finished(test.item.N)
		if f.State != string(test.state) || f.ExitCode != test.code || !strings.Contains(f.Reason, test.says) {
			t.Errorf("%s: got %+v, want %s, %d, %q", test.name, f, test.state, test.code, test.says)
		}
		if started := !f.StartedAt.IsZero(); started != (test.state != job.AttemptStartFailed) {
			t.Errorf("%s: started: got %v", test.name, started)
		}
	}
	if got, want := n.file(11, "stdout.log"), filepath.Join(n.cfg.Share, "jobs/cpu/job-11/1/wd/a/b")+"\n"; got != want {
		t.Errorf("workdir below: got %q, want %q", got, want)
	}
	if got, want := n.file(13, "stdout.log"), n.cfg.Share+"\n"; got != want {
		t.Errorf("workdir on the share: got %q, want %q", got, want)
	}
	n.none(9)
	// An attempt is reported before its directory is cleaned up.
	eventually(t, "the scratch directories are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(n.cfg.InstanceDir, "attempts/*/*"))
		scripts, _ := filepath.Glob(filepath.Join(n.cfg.InstanceDir, "attempts/*.*"))
		return err == nil && len(left)+len(scripts) == 0
	})
}

// none checks that no process of an assignment is left.
func (n *node) none(id int64) {
	n.tb.Helper()
	if found := strays(n.cfg, id); len(found) > 0 {
		n.tb.Errorf("assignment %d: processes %v are left", id, found)
	}
}

// strays lists living processes of an assignment.
func strays(cfg Config, n int64) []int {
	l := launcher{cfg: cfg}
	return process.Find(map[string]process.Process{l.key(n): {}})
}

func TestEnvironment(t *testing.T) {
	t.Setenv("ServiceBusConnection", "secret-of-the-bus")
	t.Setenv("DSVM_ARM_TOKEN", "secret-of-arm")
	n := begin(t)
	item := assign(3, "env")
	item.Assign.Env = map[string]string{"K": "v", "DSVM_JOB_ID": "forged", "LANG": "C", "CUDA_VISIBLE_DEVICES": "0"}
	item.Assign.GPUs = []int{1, 3}
	n.work(item)
	n.finished(3)
	got := map[string]string{}
	for line := range strings.Lines(n.file(3, "stdout.log")) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	dir, scratch := filepath.Join(n.cfg.Share, "jobs/cpu/job-3/1"), filepath.Join(n.cfg.InstanceDir, "attempts/s0")
	want := map[string]string{"DSVM_JOB_ID": "job-3", "DSVM_ATTEMPT": "1", "DSVM_POOL": "cpu", "DSVM_NODE": "cpu_0", "DSVM_TEAM": "vision",
		"DSVM_SHARE": n.cfg.Share, "DSVM_OUTPUT": filepath.Join(dir, "output"), "DSVM_SCRATCH": scratch, "TMPDIR": scratch, "HOME": scratch,
		"K": "v", "LANG": "C", "CUDA_VISIBLE_DEVICES": "1,3", "PATH": process.Path, process.KeyVariable: "cpu." + n.cfg.VMID + ".3"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %q, want %q", name, got[name], value)
		}
	}
	for name, value := range got {
		if _, ok := want[name]; !ok && name != "USER" && name != "LOGNAME" {
			t.Errorf("the job was told %s=%q", name, value)
		}
		if strings.Contains(value, "secret") {
			t.Errorf("a secret reached the job in %s", name)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	n := begin(t)
	count := func(id int64) protocol.WorkItem { return assign(id, "sh", "-c", "echo ran") }
	n.work(count(5), count(5))
	n.finished(5)
	n.work(count(5)) // again, after its end
	n.work(count(3)) // late: the pool learns at once that it was not taken
	n.work(cancel(7, 6), cancel(7, 6), count(6), cancel(8, 20), count(20), cancel(21, 5), count(22))
	n.finished(22)
	n.settled()
	for id, state := range map[int64]string{6: "cancelled", 20: "cancelled", 5: "succeeded", 22: "succeeded"} {
		f := n.finished(id)
		if f.State != state || (state == "cancelled") != f.StartedAt.IsZero() {
			t.Errorf("assignment %d: got %+v, want %s", id, f, state)
		}
	}
	if got := n.file(5, "stdout.log"); got != "ran\n" {
		t.Errorf("assignment 5: got %q, want one run", got)
	}
	for _, id := range []string{"job-3", "job-6", "job-20"} {
		if _, err := os.Stat(filepath.Join(n.cfg.Share, "jobs/cpu", id)); err == nil {
			t.Errorf("%s was prepared, want it refused", id)
		}
	}
	n.until("a list without number 3", func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Holds != nil && r.Seen >= 5 && len(i.Holds.N) > 0 && i.Holds.N[0] == 5 {
					return true
				}
			}
		}
		return false
	})
}

func TestCancelRunning(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(assign(1, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"))
	n.until("the start", started(1))
	n.work(cancel(2, 1))
	if f := n.finished(1); f.State != "cancelled" || f.ExitCode != 1006 || f.Reason != "asked to" || f.StartedAt.IsZero() {
		t.Errorf("got %+v", f)
	}
	n.none(1)
}

func started(id int64) func([]protocol.Report) bool {
	return func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Started != nil && i.Started.N == id {
					return true
				}
			}
		}
		return false
	}
}

func TestAcknowledge(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.ReportEvery = 30 * time.Millisecond
	n := launched(t, cfg, newBus(t))
	n.work(assign(1, "true"), assign(2, "true"))
	n.until("results that are repeated", func(all []protocol.Report) bool {
		times := map[int64]int{}
		for _, f := range ends(all) {
			times[f.N]++
		}
		return times[1] > 2 && times[2] > 2
	})
	n.work(protocol.WorkItem{Ack: []int64{1, 99}})
	n.until("a list without what was acknowledged", func(all []protocol.Report) bool {
		last := all[len(all)-1].Items
		h := last[len(last)-1].Holds
		return h != nil && len(h.N) == 1 && h.N[0] == 2
	})
	n.work(protocol.WorkItem{Ack: []int64{2}})
	n.until("an empty list", func(all []protocol.Report) bool {
		last := all[len(all)-1].Items
		return len(last) == 1 && last[0].Holds != nil && len(last[0].Holds.N) == 0
	})
}

func TestShortJobCostsOneMessage(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.StartedWithin = deadline
	n := launched(t, cfg, newBus(t))
	n.until("the first report", func(all []protocol.Report) bool { return len(all) == 1 })
	n.work(assign(1, "true"))
	n.finished(1)
	if len(n.reports) != 2 || len(n.reports[1].Items) != 1 {
		got, _ := json.Marshal(n.reports[1:])
		t.Errorf("got %s, want one report with one item", got)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(assign(1, "sleep", "1000"))
	n.until("the start", started(1))
	n.work(protocol.WorkItem{Stop: "given up"})
	n.settled()
	ctx, done := context.WithTimeout(context.Background(), deadline)
	defer done()
	if n.await(ctx, func() bool { return !n.taken }) != nil {
		t.Fatal("the session is still held")
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.none(1)
	if got := ends(n.reports); len(got) > 0 {
		t.Errorf("got %+v reported after the stop", got)
	}
	again := launched(t, n.cfg, newBus(t))
	again.work(assign(2, "true"))
	if err := again.stop(); err != nil || again.accepts > 0 {
		t.Errorf("after a restart: got %d sessions taken, %v; want none", again.accepts, err)
	}
}

// eventually waits for what no channel tells.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick, end := time.NewTicker(2*time.Millisecond), time.After(deadline)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestUnreadableMessage(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.raw([]byte(`{"v":2,"items":[]}`))
	n.raw([]byte(`{`))
	n.work(assign(1, "true"))
	n.finished(1)
	n.settled()
	if len(n.put) != 2 || !strings.Contains(strings.Join(n.put, " "), "version 2") {
		t.Errorf("put aside: got %q", n.put)
	}
}

func TestHugeOutput(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(assign(1, "sh", "-c", "head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2"))
	if f := n.finished(1); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
	if out, err := len(n.file(1, "stdout.log")), len(n.file(1, "stderr.log")); out != 20000000 || err != 3000000 {
		t.Errorf("got %d and %d bytes", out, err)
	}
}

func TestSecondAgentInTheSameDirectory(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.until("the first report", func(all []protocol.Report) bool { return len(all) == 1 })
	if err := live(t.Context(), n.cfg, newBus(t)); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestEndOfTheAgent(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	n := launched(t, cfg, newBus(t))
	n.work(assign(1, "sh", "-c", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.01; done"))
	n.until("the start", started(1))
	eventually(t, "the attempt to come up", func() bool { return n.file(1, "stdout.log") != "" })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.none(1)
	if got := n.file(1, "stdout.log"); got != "up\nasked\n" {
		t.Errorf("got %q, want the attempt to be asked first", got)
	}
	if got := ends(n.reports); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	again := launched(t, cfg, newBus(t))
	if f := again.finished(1); f.State != string(job.AttemptAgentRestarted) || f.ExitCode != 1004 {
		t.Errorf("after a restart: got %+v", f)
	}
}
