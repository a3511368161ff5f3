package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// boundable skips a test where nothing can be bounded.
func boundable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root bounds what attempts use")
	}
	if len(cgroupMounts()) == 0 {
		t.Skip("there are no control groups here")
	}
}

// fillMemory is a program that fills memory; both amounts are bytes.
func fillMemory(n int64, bytes, memory int64) protocol.WorkItem {
	item := assign(n, "python3", "-c", fmt.Sprintf("b = bytearray(%d)\nprint('had it', flush=True)", bytes))
	item.Assign.Memory = memory
	return item
}

// TestMemory: an attempt gets what it asks for and no more, and is told so; a slot
// keeps no bound, and no count, for the next one.
func TestMemory(t *testing.T) {
	t.Parallel()
	boundable(t)
	const mi = 1 << 20
	cfg := config(t)
	cfg.CPUs = 1
	slotsFirst(&cfg)
	n := launched(t, cfg, newBus(t))
	whole := fillMemory(5, 200*mi, 64*mi)
	whole.Assign.Whole = true
	for _, test := range []struct {
		item  protocol.WorkItem
		state job.AttemptState
		says  string
	}{
		{fillMemory(1, 200*mi, 64*mi), job.AttemptFailed, "signal 9 (killed); out of memory: it needed more than its 64Mi"},
		{fillMemory(2, 20*mi, 64*mi), job.AttemptSucceeded, ""},
		{fillMemory(3, 200*mi, 0), job.AttemptSucceeded, ""},
		{script(4, "exit 7"), job.AttemptFailed, "its process ended with exit code 7"},
		{whole, job.AttemptSucceeded, ""},
	} {
		n.work(test.item)
		f := n.finished(test.item.N)
		if f.State != string(test.state) || !strings.HasSuffix(f.Reason, test.says) || test.says == "" && f.Reason != "" {
			t.Errorf("attempt %d: got %+v, want %s and %q", test.item.N, f, test.state, test.says)
		}
	}
}

// slotsFirst makes an agent that reports no end before the slot is free.
func slotsFirst(c *Config) { c.quickEnd = deadline }

// TestOutOfMemoryBelow: it is named as well when the process that was killed is not
// the first.
func TestOutOfMemoryBelow(t *testing.T) {
	t.Parallel()
	boundable(t)
	n := begin(t)
	item := script(1, "python3 -c 'b = bytearray(200 << 20)' || exit 5")
	item.Assign.Memory = 64 << 20
	n.work(item)
	if f := n.finished(1); f.ExitCode != 5 || f.Reason != "its process ended with exit code 5; out of memory: it needed more than its 64Mi" {
		t.Errorf("got %+v", f)
	}
}

// TestProcessors: what an attempt starts has as many processors as it asked for
// between them.
func TestProcessors(t *testing.T) {
	t.Parallel()
	boundable(t)
	if runtime.NumCPU() < 2 {
		t.Skip("a machine with one processor has nothing to bound")
	}
	n := begin(t)
	n.work(script(1, "for i in 1 2 3 4; do (while :; do :; done) & done; echo up; wait"))
	awaitText(t, n, 1, "up\n")
	file := findBound(n.cfg, "cpu.max", "cpu.cfs_quota_us")
	if file == "" {
		t.Skip("no control group bounds processors here")
	}
	text, _ := os.ReadFile(file)
	if got := strings.Fields(string(text)); len(got) == 0 || got[0] != "100000" {
		t.Errorf("got %q in %s, want one processor's worth of 100000 us", got, file)
	}
	n.work(cancel(2, 1))
	n.finished(1)
}

// TestProcesses: an attempt has a bound on its processes and threads, which is there
// again after each end, so that one that starts ever more of them leaves the node some.
func TestProcesses(t *testing.T) {
	t.Parallel()
	boundable(t)
	cfg := config(t)
	cfg.CPUs = 1
	slotsFirst(&cfg)
	n := launched(t, cfg, newBus(t))
	for i := int64(1); i < 6; i += 2 {
		n.work(script(i, "echo up; sleep 60"))
		awaitText(t, n, i, "up\n")
		file := findBound(n.cfg, "pids.max")
		if file == "" {
			t.Skip("no control group bounds processes here")
		}
		text, _ := os.ReadFile(file)
		if got := strings.TrimSpace(string(text)); got != fmt.Sprint(mostProcesses()) {
			t.Errorf("attempt %d: got %q in %s, want %d", i, got, file, mostProcesses())
		}
		n.work(cancel(i+1, i))
		n.finished(i)
	}
	all, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	if most, _ := strconv.Atoi(strings.TrimSpace(string(all))); mostProcesses() > most/2 {
		t.Errorf("an attempt may have %d of %d processes", mostProcesses(), most)
	}
}

// findBound finds the file of one of these names that bounds a node's first slot; "" =
// there is none.
func findBound(cfg Config, names ...string) string {
	for _, m := range cgroupMounts() {
		for _, name := range names {
			for _, at := range []string{m[1], "."} {
				if file := filepath.Join(m[0], at, groupPrefix+cfg.Pool+"."+cfg.VMID, "s0", name); fileExists(file) {
					return file
				}
			}
		}
	}
	return ""
}

// freezer freezes processes, so that they cannot be killed until they are thawed.
func freezer(t *testing.T) (freeze func(pid string), thaw func()) {
	t.Helper()
	m, ok := cgroupMounts()["freezer"]
	if !ok {
		t.Skip("no freezer of version 1, in which a process cannot be killed")
	}
	ice := filepath.Join(m[0], m[1], fmt.Sprintf("ice-%d-%d", os.Getpid(), vmids.Add(1)))
	if err := os.Mkdir(ice, 0o755); err != nil {
		t.Skip(err)
	}
	state := filepath.Join(ice, "freezer.state")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(state, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the freezer to be "+text, func() bool {
			now, err := os.ReadFile(state)
			return err == nil && strings.TrimSpace(string(now)) == text
		})
	}
	thaw = func() { set("THAWED") }
	t.Cleanup(func() {
		thaw()
		eventually(t, "the ice to be empty", func() bool { return unix.Rmdir(ice) == nil })
	})
	return func(pid string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(ice, "cgroup.procs"), []byte(pid), 0); err != nil {
			t.Fatal(err)
		}
		set("FROZEN")
	}, thaw
}

// TestLeftover: a process that cannot be ended keeps its slot, with its processors,
// from everybody, and the node says so; once it is gone the slot is as any other.
func TestLeftover(t *testing.T) {
	t.Parallel()
	boundable(t)
	freeze, thaw := freezer(t)
	cfg := config(t) // of 2 processors
	cfg.KillGrace = 100 * time.Millisecond
	slotsFirst(&cfg)
	n := launched(t, cfg, newBus(t))
	n.work(script(1, "setsid sleep 1000 & echo $! > $DSVM_OUTPUT/pid; echo up; wait"))
	awaitText(t, n, 1, "up\n")
	freeze(n.file(1, "output/pid"))
	n.work(cancel(2, 1))
	if f := n.finished(1); f.State != string(job.AttemptCancelled) {
		t.Errorf("got %+v", f)
	}
	two := func(id int64) protocol.WorkItem {
		item := assign(id, "true")
		item.Assign.CPUs = 2
		return item
	}
	n.work(two(3))
	if f := n.finished(3); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseLeftover ||
		!strings.Contains(f.Reason, "cannot be ended") {
		t.Errorf("got %+v, want it refused for what is left", f)
	}
	n.work(assign(4, "true"))
	if f := n.finished(4); f.State != string(job.AttemptSucceeded) {
		t.Errorf("beside it: got %+v", f)
	}
	thaw()
	for id, end := int64(5), time.Now().Add(deadline); ; id++ {
		n.work(two(id))
		if f := n.finished(id); f.State == string(job.AttemptSucceeded) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("after it is gone: got %+v", f)
		}
	}
}

// TestKeeperKilled: a job of the agent's own user can kill what keeps it. Nobody
// knows then what is left, so its place is not used again.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.holdBy = holdKeeper
	slotsFirst(&cfg)
	n := launched(t, cfg, newBus(t))
	n.work(script(1, "sleep 1000 & kill -9 $PPID; sleep 1000"))
	if f := n.finished(1); f.State != string(job.AttemptFailed) || !strings.Contains(f.Reason, "was killed") {
		t.Errorf("got %+v", f)
	}
	item := assign(2, "true")
	item.Assign.CPUs = 2
	n.work(item)
	if f := n.finished(2); f.Cause != job.CauseLeftover {
		t.Errorf("got %+v, want it refused for what may be left", f)
	}
	n.work(assign(3, "true"))
	if f := n.finished(3); f.State != string(job.AttemptSucceeded) {
		t.Errorf("beside it: got %+v", f)
	}
	n.none(1)
}
