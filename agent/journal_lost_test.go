//go:build unix

package agent

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// asks waits until the agent of the latest start asks for the counter, and returns
// its boot.
func (n *node) asks() string {
	n.tb.Helper()
	boot := ""
	n.until("a question for the counter", func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Ready != nil && i.Ready.Counter {
					boot = i.Ready.Boot
				}
			}
		}
		return boot != ""
	})
	return boot
}

// without waits for a list up to a number that lacks an assignment, and returns it.
func (n *node) without(seen, id int64) protocol.Holds {
	n.tb.Helper()
	var found protocol.Holds
	n.until("a list without the assignment", func(all []protocol.Report) bool {
		for _, r := range all {
			for _, i := range r.Items {
				if i.Holds != nil && r.Seen >= seen && !slices.Contains(i.Holds.N, id) {
					found = *i.Holds
					return true
				}
			}
		}
		return false
	})
	return found
}

func counter(boot string, n int64) protocol.WorkItem {
	return protocol.WorkItem{Counter: &protocol.Counter{Boot: boot, N: n}}
}

// TestNewAgentAsksForTheCounter: before the pool has said which numbers it has
// given, any of them may have run here and been forgotten.
func TestNewAgentAsksForTheCounter(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.ReportEvery = 20 * time.Millisecond
	if err := os.RemoveAll(cfg.InstanceDir); err != nil {
		t.Fatal(err)
	}
	n := launched(t, cfg, newBus(t))
	boot := n.asks()
	n.work(assign(5, "echo", "again"))
	if h := n.without(5, 5); h.Lost != 0 {
		t.Errorf("lost before the answer: got %d", h.Lost)
	}
	n.until("the question again, since the answer may be lost", func(all []protocol.Report) bool {
		times := 0
		for _, r := range all {
			for _, i := range r.Items {
				if i.Ready != nil && i.Ready.Counter && i.Ready.Boot == boot {
					times++
				}
			}
		}
		return times > 2
	})
	n.work(counter("another start", 99), assign(6, "true")) // an answer to an earlier life
	n.without(6, 6)
	n.work(counter(boot, 40), counter(boot, 90), assign(40, "echo", "again"), assign(41, "true"))
	n.finished(41)
	if h := n.without(41, 40); h.Lost != 40 {
		t.Errorf("lost: got %d, want 40", h.Lost)
	}
	if _, err := os.Stat(filepath.Join(cfg.Share, "jobs/cpu/job-5")); err == nil {
		t.Error("a number was started that may have run before")
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	// The answer is in the journal: the next life does not ask.
	again := launched(t, cfg, newBus(t))
	again.work(assign(41, "true"), assign(42, "true"))
	again.finished(42)
	if r := again.reports[0].Items[0].Ready; r.Counter {
		t.Error("asked again")
	}
}

// TestLostJournal takes an agent's journal away, or damages it, in every way.
// Nothing of before may go on, run again, or be held.
func TestLostJournal(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("\xde\xad\xbe\xef"), 50)
	for name, damage := range map[string]func(string) error{
		"deleted":                os.Remove,
		"emptied":                func(at string) error { return os.Truncate(at, 0) },
		"the directory is empty": func(at string) error { return os.RemoveAll(filepath.Dir(at)) },
		"half of it": func(at string) error {
			text, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			return os.Truncate(at, int64(bytes.LastIndex(text, []byte(`"assign"`))))
		},
		"garbage in the middle": func(at string) error {
			text, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			return os.WriteFile(at, slices.Concat(text[:len(text)/3], garbage, text[len(text)/3+len(garbage):]), 0o600)
		},
		"garbage at the end": func(at string) error {
			text, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			return os.WriteFile(at, slices.Concat(text[:len(text)-len(garbage)], garbage), 0o600)
		},
		"garbage after the end": func(at string) error {
			text, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			return os.WriteFile(at, slices.Concat(text, garbage, []byte("\n")), 0o600)
		},
		"all garbage": func(at string) error { return os.WriteFile(at, garbage, 0o600) },
		"zeros":       func(at string) error { return os.WriteFile(at, make([]byte, 4096), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			cfg.KillGrace = 100 * time.Millisecond
			n := launched(t, cfg, newBus(t))
			n.work(assign(3, "echo", "first"), assign(4, "sleep", "1000"))
			n.finished(3)
			n.until("the start", started(4))
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(cfg.InstanceDir, "journal")); err != nil {
				t.Fatal(err)
			}
			var left *exec.Cmd
			if runtime.GOOS == "linux" { // what the life before has left of number 4
				left = exec.Command("sleep", "1000")
				left.Env = []string{process.KeyVariable + "=" + (&launcher{cfg: cfg}).key(4)}
				if err := left.Start(); err != nil {
					t.Fatal(err)
				}
			}
			again := launched(t, cfg, newBus(t))
			again.work(assign(3, "echo", "second"), assign(4, "echo", "second")) // late copies
			boot := again.asks()
			again.work(counter(boot, 9), assign(3, "echo", "third"), assign(9, "echo", "third"), assign(10, "true"))
			again.finished(10)
			if h := again.without(10, 9); h.Lost != 9 {
				t.Errorf("lost: got %d, want 9", h.Lost)
			}
			for _, f := range ends(again.reports) {
				if f.N < 10 && f.State != string(job.AttemptAgentRestarted) && f.N != 3 {
					t.Errorf("got %+v", f)
				}
			}
			if left != nil {
				ended := make(chan error, 1)
				go func() { ended <- left.Wait() }()
				select {
				case err := <-ended:
					if err == nil || !strings.Contains(err.Error(), "killed") {
						t.Errorf("the process that was left: got %v", err)
					}
				case <-time.After(deadline):
					t.Error("a process of the life before is left")
					left.Process.Kill()
				}
			}
			if out := again.file(3, "stdout.log"); out != "first\n" {
				t.Errorf("number 3 ran again: %q", out)
			}
			if out := again.file(4, "stdout.log"); out != "" {
				t.Errorf("number 4 ran again: %q", out)
			}
		})
	}
}

// TestWaitingInADamagedJournal: what seems not to have started may have.
func TestWaitingInADamagedJournal(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	file := append(lines(mine(cfg), record{Seen: 1, N: 1, Assign: assign(1, "true").Assign}), "garbage\n"...)
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), append(file, lines(record{Seen: 2})...), 0o600); err != nil {
		t.Fatal(err)
	}
	n := launched(t, cfg, newBus(t))
	if f := n.finished(1); f.State != string(job.AttemptAgentRestarted) || f.Cause != job.CauseJournalLost {
		t.Errorf("got %+v", f)
	}
}

// TestCounterForASoundJournal: a journal that lost whole lines does not show it.
// The pool sees it by the number, and its counter is taken.
func TestCounterForASoundJournal(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	n := launched(t, cfg, newBus(t))
	n.until("the first word", func(all []protocol.Report) bool { return len(all) > 0 })
	ready := n.reports[0].Items[0].Ready
	if ready.Counter {
		t.Error("a sound journal was doubted")
	}
	n.work(assign(1, "true"))
	n.finished(1)
	n.work(counter(ready.Boot, 7), assign(7, "echo", "again"), assign(8, "true"))
	n.finished(8)
	if h := n.without(8, 7); h.Lost != 7 || !slices.Contains(h.N, 1) {
		t.Errorf("got %+v", h)
	}
}

// TestFullDisk: the node's whole disk is full, the journal's too. The ends are
// written and told nevertheless.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	journal, err := os.ReadFile(filepath.Join(cfg.InstanceDir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, cfg.InstanceDir, "size=4m")
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), journal, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.StartWithin = deadline
	n := launched(t, cfg, newBus(t))
	n.until("the first word", func(all []protocol.Report) bool { return len(all) > 0 })
	fill(t, cfg.InstanceDir)
	item := assign(1)
	item.Assign.Script = strings.Repeat("#", 60<<10) // more than is left in the journal's last block
	n.work(item)
	if f := n.finished(1); f.State != string(job.AttemptStartFailed) && f.State != string(job.AttemptSucceeded) {
		t.Errorf("got %+v", f)
	}
	if _, err := os.Stat(filepath.Join(cfg.InstanceDir, "journal.reserve")); err == nil {
		t.Error("the reserve was not used")
	}
	if err := os.Remove(filepath.Join(cfg.InstanceDir, "fill")); err != nil {
		t.Fatal(err)
	}
	n.work(assign(2, "true"))
	n.finished(2)
}

// TestUnwritableJournal: an agent that can write nothing down ends, so that its
// session is free and the pool gives the node up, and its attempts end with it.
func TestUnwritableJournal(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	journal, err := os.ReadFile(filepath.Join(cfg.InstanceDir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, cfg.InstanceDir, "size=4m")
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), journal, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.StartWithin, cfg.KillGrace = 200*time.Millisecond, 100*time.Millisecond
	b := newBus(t)
	done := make(chan error, 1)
	go func() { done <- live(t.Context(), cfg, b) }()
	b.work(assign(1, "sleep", "1000"))
	b.until("the start", started(1))
	// A file that is open for writing keeps a file system from becoming read-only;
	// one that takes nothing does as well.
	fill(t, cfg.InstanceDir)
	if err := os.Remove(filepath.Join(cfg.InstanceDir, "journal.reserve")); err != nil {
		t.Fatal(err)
	}
	fill2(t, cfg.InstanceDir)
	item := assign(2)
	item.Assign.Script = strings.Repeat("#", 60<<10)
	b.work(item)
	select {
	case err := <-done:
		if !errors.Is(err, errUnsaved) {
			t.Errorf("got %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("the agent goes on")
	}
	if b.taken {
		t.Error("the session is still held")
	}
	(&node{memBus: b, cfg: cfg}).none(1)
}

// fill2 takes the room that was given free after fill.
func fill2(t *testing.T, dir string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, "fill"), filepath.Join(dir, "fill.1")); err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
}

// TestJournalIsNoFile: nothing hangs over what stands in the journal's place.
func TestJournalIsNoFile(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	at := filepath.Join(cfg.InstanceDir, "journal")
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := live(t.Context(), cfg, newBus(t)); err == nil || !strings.Contains(err.Error(), "no plain file") {
		t.Errorf("got %v", err)
	}
}
