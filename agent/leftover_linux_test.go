package agent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// escapes are ways for a process to leave its attempt, by name: SELF is the program,
// MARK what it is found by, UP a file that it makes when it runs.
var escapes = map[string]string{
	"no environment, own session": `env -i setsid SELF linger MARK UP </dev/null >/dev/null 2>&1 &`,
	"double fork":                 `( ( SELF linger MARK UP >/dev/null 2>&1 & ) & )`,
	"nohup":                       `nohup SELF linger MARK UP >/dev/null 2>&1 &`,
	"daemon(3)":                   `SELF daemon MARK UP`,
	"fork loop":                   `SELF hop MARK UP &`,
	"a crowd":                     `env -i setsid SELF spread MARK UP &`,
}

// marked lists the living processes with a word in their command line.
func marked(mark string) (found []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.Contains(line, []byte("\x00"+mark+"\x00")) {
			found = append(found, e.Name()+": "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// gone checks, for a moment, that nothing marked lives: a fork loop may be between
// two processes at one look.
func gone(t *testing.T, mark string) {
	t.Helper()
	const looks = 20
	for range looks {
		if found := marked(mark); len(found) > 0 {
			t.Fatalf("%d processes are left, such as %s", len(found), found[0])
		}
	}
}

// holds are the ways of holding processes that can be tried here.
func holds() map[string]int {
	if os.Geteuid() != 0 {
		return map[string]int{"keeper": holdKeeper}
	}
	return map[string]int{"best": holdBest, "version 1": holdV1, "keeper": holdKeeper}
}

// escaping is a script that starts all escapes, waits until they run, and then does
// something.
func escaping(t *testing.T, mark, then string) string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	i := 0
	for _, line := range escapes {
		i++
		b.WriteString(strings.NewReplacer("SELF", self, "MARK", mark, "UP", fmt.Sprintf("$PWD/up%d", i)).Replace(line) + "\n")
	}
	fmt.Fprintf(&b, "while [ $(ls | grep -c '^up') -lt %d ]; do sleep 0.02; done\necho ready\n%s\n", i, then)
	return b.String()
}

// ready waits until an attempt says so.
func (n *node) ready(id int64) {
	n.tb.Helper()
	eventually(n.tb, "the escapes to run", func() bool {
		text, _ := os.ReadFile(filepath.Join(n.cfg.Share, "jobs", "cpu", fmt.Sprintf("job-%d", id), "1", "stdout.log"))
		n.mu.Lock()
		told := ends(n.reports)
		n.mu.Unlock()
		for _, f := range told {
			if f.N == id {
				n.tb.Fatalf("attempt %d has ended before: %+v", id, f)
			}
		}
		return strings.Contains(string(text), "ready")
	})
}

// TestNothingSurvives ends attempts in every way, and looks for what they have
// started and hidden: nothing of it lives when the end is told.
func TestNothingSurvives(t *testing.T) {
	t.Parallel()
	for name, by := range holds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			cfg := config(t)
			cfg.holdBy, cfg.KillGrace, cfg.CPUs = by, 100*time.Millisecond, 8
			cfg.Metadata = h.url
			n := launched(t, cfg, newBus(t))
			mark := func(id int64) string { return fmt.Sprintf("mark-%s-%d", cfg.VMID, id) }
			item := func(id int64, then string) protocol.WorkItem { return script(id, escaping(t, mark(id), then)) }
			late := item(4, "sleep 1000")
			late.Assign.TimeoutSeconds = 2
			stubborn := item(5, "trap '' TERM; while :; do sleep 0.01; done")
			stubborn.Assign.Stop = job.StopLeader
			n.work(item(1, "exit 0"), item(2, "exit 3"), item(3, "sleep 1000"), late, stubborn)
			n.ready(3)
			n.ready(5)
			n.work(cancel(6, 3), cancel(7, 5))
			for id, state := range map[int64]job.AttemptState{1: job.AttemptSucceeded, 2: job.AttemptFailed, 3: job.AttemptCancelled,
				4: job.AttemptTimedOut, 5: job.AttemptCancelled} {
				if f := n.finished(id); f.State != string(state) {
					t.Errorf("attempt %d: got %+v, want %s", id, f, state)
				}
				gone(t, mark(id))
			}
			n.work(item(8, "sleep 1000"))
			n.ready(8)
			h.announce(2*time.Second, "Preempt", "cpu_0")
			if f := n.finished(8); f.State != string(job.AttemptEvicted) {
				t.Errorf("got %+v, want it evicted", f)
			}
			gone(t, mark(8))
		})
	}
}

// TestNothingSurvivesTheAgent kills agents while attempts run: the next start ends
// what is left of them before it reports anything, and SIGTERM leaves nothing either.
func TestNothingSurvivesTheAgent(t *testing.T) {
	t.Parallel()
	for name, by := range holds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onServiceBus(t, time.Minute)
			n := &node{memBus: s.memBus, cfg: s.cfg}
			mark := "mark-" + s.cfg.VMID
			var log bytes.Buffer
			first := s.child(&log, fmt.Sprintf("AGENT_HOLDS_BY=%d", by))
			s.give(script(1, escaping(t, mark, "sleep 1000")))
			n.ready(1)
			if len(marked(mark)) == 0 {
				t.Fatal("nothing has escaped, so nothing is tried")
			}
			first.Process.Kill()
			first.Wait()
			s.change(func() { s.reports = nil })
			second := s.child(&log, fmt.Sprintf("AGENT_HOLDS_BY=%d", by))
			if f := s.finished(1); f.State != string(job.AttemptAgentRestarted) {
				t.Errorf("got %+v", f)
			}
			gone(t, mark)
			s.give(script(2, escaping(t, mark, "sleep 1000")))
			n.ready(2)
			second.Process.Signal(syscall.SIGTERM)
			if err := second.Wait(); err != nil {
				t.Errorf("got %v, want exit code 0; log:\n%s", err, log.String())
			}
			gone(t, mark)
		})
	}
}

// TestNothingSurvivesUnprivileged runs the tests of this file as somebody who is not
// root, which is how they run where the tests are not.
func TestNothingSurvivesUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the others are run by such a user already")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "unprivileged")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Copied by another program: a process that this one starts meanwhile would hold
	// the file open for writing, and it could not be run.
	program := filepath.Join(dir, "agent.test")
	if out, err := exec.Command("cp", self, program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program,
		"-test.run=^TestNothingSurvives|^TestStopLeader|^TestWorkingDirectory|^TestKeeperKilled", "-test.v")
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + process.Path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestNothingSurvives/keeper")) {
		t.Errorf("%v\n%s", err, out)
	}
}
