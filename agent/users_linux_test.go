package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// secluded is a node whose slots have users of their own, out of a range that no
// other test has. Its folders are not below /tmp, so that attempts get their own.
func secluded(t *testing.T, change func(*Config)) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root starts processes as somebody else")
	}
	if _, err := user.Lookup("nobody"); err != nil {
		t.Skip("there is no user nobody")
	}
	dir, err := os.MkdirTemp("/var/lib", "dsvm-test")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := config(t)
	cfg.Share, cfg.InstanceDir, cfg.JobUser, cfg.CPUs = filepath.Join(dir, "share"), filepath.Join(dir, "instance"), "nobody", 8
	const each, first = 16, 1_800_000_000
	cfg.UIDs = uidRange{base: first + each*int(vmids.Add(1)), count: each}
	for _, d := range []string{dir, cfg.Share} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&cfg)
	}
	remembers(t, cfg)
	return launched(t, cfg, newBus(t))
}

// asAzureFiles makes files look as Azure Files does when it is mounted over SMB for
// nobody: whatever is there belongs to one user and group, who may do everything.
func asAzureFiles(root *os.Root, names ...string) {
	const everybody = 65534
	for _, name := range names {
		mode := os.FileMode(0o660)
		if at, err := root.Lstat(name); err == nil && at.IsDir() {
			mode = 0o770
		}
		root.Chmod(name, mode)
		root.Lchown(name, everybody, everybody)
	}
}

// TestSlotsApart runs two attempts side by side, of which one tries to get at the
// other in every way; and one after them in the same slot.
func TestSlotsApart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Config)
	}{
		{"with control groups", nil},
		{"with version 1", func(c *Config) { c.holdBy = holdV1 }},
		{"with keepers", func(c *Config) { c.holdBy = holdKeeper }},
		{"on a share without owners", func(c *Config) { c.ownerless = asAzureFiles }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := secluded(t, test.change)
			victim := script(1, `echo hidden > $DSVM_SCRATCH/s; echo hidden > $DSVM_OUTPUT/o; echo hidden > w; echo hidden > /tmp/t
echo hidden > /var/tmp/v; echo hidden > /dev/shm/m; echo hidden
echo $$ > $DSVM_OUTPUT/pid; echo up
while [ ! -e $DSVM_SHARE/go ]; do sleep 0.02; done
exec 9>&1; kill -0 $$ && echo alive`)
			victim.Assign.Env = map[string]string{"PASSWORD": "hidden"}
			n.work(victim)
			awaitText(t, n, 1, "up\n")
			pid, dir, local := strings.TrimSpace(n.file(1, "output/pid")), filepath.Dir(n.path(1, "output")), filepath.Join(n.cfg.InstanceDir,
				"attempts")
			lines := []string{"id -u; whoami"}
			for _, file := range []string{"/proc/" + pid + "/environ", "/proc/" + pid + "/cmdline", "/proc/" + pid + "/cwd/w", "/proc/" + pid +
				"/root/tmp/t", "/proc/" + pid + "/fd/1",
				local + "/s0/s", local + "/s0.sh", dir + "/stdout.log", dir + "/wd/w", dir + "/output/o", "/tmp/t", "/var/tmp/v", "/dev/shm/m",
				n.cfg.InstanceDir + "/journal"} {
				lines = append(lines, fmt.Sprintf("if cat %s; then echo READ %s; fi", file, file))
			}
			lines = append(lines, "if echo x >> "+dir+"/stdout.log; then echo WROTE; fi", "if ls "+dir+"; then echo LISTED; fi",
				"kill -9 "+pid+" && echo KILLED", "kill -9 -1", "true")
			n.work(script(2, "trap '' TERM\n"+strings.Join(lines, "\n")))
			n.finished(2)
			out := n.file(2, "stdout.log")
			for _, bad := range []string{"hidden", "READ", "WROTE", "LISTED", "KILLED"} {
				if strings.Contains(out, bad) {
					t.Errorf("the neighbour got at it:\n%s", out)
				}
			}
			if got, want := strings.Fields(out), []string{strconv.Itoa(n.cfg.UIDs.base + 1), "dsvmjob1"}; len(got) < 2 || got[0] != want[0] ||
				got[1] != want[1] {
				t.Errorf("who it was: got %q, want %q", got, want)
			}
			if err := os.WriteFile(filepath.Join(n.cfg.Share, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if f := n.finished(1); f.State != string(job.AttemptSucceeded) || !strings.HasSuffix(n.file(1, "stdout.log"), "alive\n") {
				t.Errorf("the victim: got %+v, %q", f, n.file(1, "stdout.log"))
			}
			// The next attempt in the slot of the first finds its output, and nothing
			// else of it. A slot is free a moment after the end is told, so that another
			// may be taken before.
			next := "id -u; ls -A /tmp /var/tmp /dev/shm | grep -v :; find " + local +
				" -uid $(id -u) -type f ! -name \"$DSVM_JOB_ID*\" ! -name 's[0-9]*.sh'; cat " + dir + "/output/o"
			for id, end := int64(3), time.Now().Add(deadline); ; id++ {
				n.work(script(id, next))
				if f := n.finished(id); f.State != string(job.AttemptSucceeded) {
					t.Fatalf("got %+v; %s", f, n.file(id, "stderr.log"))
				}
				got := strings.Join(strings.Fields(n.file(id, "stdout.log")), " ")
				if first := strconv.Itoa(n.cfg.UIDs.base); !strings.HasPrefix(got, first) && time.Now().Before(end) {
					continue
				} else if want := first + " hidden"; got != want {
					t.Errorf("after it: got %q, want %q", got, want)
				}
				break
			}
			if n.cfg.ownerless == nil {
				n.owned(t, 1, "output/o", "wd/w", "stdout.log", "output", "")
			}
		})
	}
}

// path is that of a file of an attempt.
func (n *node) path(id int64, name string) string {
	return filepath.Join(n.cfg.Share, "jobs", "cpu", fmt.Sprintf("job-%d", id), "1", name)
}

// owned checks that files were handed to DSVM_JOB_USER.
func (n *node) owned(t *testing.T, id int64, names ...string) {
	t.Helper()
	nobody, _ := user.Lookup("nobody")
	for _, name := range names {
		at, err := os.Lstat(n.path(id, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := strconv.Itoa(int(at.Sys().(*syscall.Stat_t).Uid)); got != nobody.Uid {
			t.Errorf("%s belongs to %s, want it handed to %s", name, got, nobody.Uid)
		}
	}
}

// TestGangApart: the ranks of a gang write into one output, as users of their own.
func TestGangApart(t *testing.T) {
	t.Parallel()
	n := secluded(t, nil)
	rank := func(id int64, r int) protocol.WorkItem {
		item := script(id, fmt.Sprintf("echo %d > $DSVM_OUTPUT/rank%d; "+
			"while [ ! -e $DSVM_OUTPUT/rank%d ]; do sleep 0.02; done; cat $DSVM_OUTPUT/rank%d", r, r, 1-r, 1-r))
		item.Assign.Job, item.Assign.Gang = "gang", &protocol.Gang{Rank: r, Hosts: []string{"a", "a"}, Port: 1}
		return item
	}
	n.work(rank(1, 0), rank(2, 1))
	for id := int64(1); id <= 2; id++ {
		if f := n.finished(id); f.State != string(job.AttemptSucceeded) {
			t.Errorf("got %+v", f)
		}
	}
	for r := range 2 {
		text, err := os.ReadFile(filepath.Join(n.cfg.Share, "jobs/cpu/gang/1", job.LogFile("stdout", r)))
		if want := fmt.Sprintln(1 - r); string(text) != want {
			t.Errorf("rank %d: got %q, %v; want %q", r, text, err, want)
		}
	}
}

// TestHandedOverLate: what an attempt has made belongs to its slot's user when the
// agent is killed; the next life hands it over, also when the journal is damaged and
// says no more than that the attempt had come.
func TestHandedOverLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		journal func(old []byte, cfg Config, w *protocol.Assignment) []byte
		cause   job.Cause
	}{
		"as it was": {func(old []byte, _ Config, _ *protocol.Assignment) []byte { return old }, ""},
		"damaged": {func(_ []byte, cfg Config, w *protocol.Assignment) []byte {
			return append(lines(mine(cfg), record{Seen: 1, N: 1, Assign: w}), "garbage\n"...)
		}, job.CauseJournalLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := secluded(t, func(c *Config) { c.KillGrace = 0 })
			item := script(1, "echo x > $DSVM_OUTPUT/x; echo up; sleep 1000")
			n.work(item)
			awaitText(t, n, 1, "up\n")
			// As if it had been killed: its journal says that the attempt runs.
			journal, err := os.ReadFile(filepath.Join(n.cfg.InstanceDir, "journal"))
			if err != nil {
				t.Fatal(err)
			}
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			uid := n.cfg.UIDs.base
			for _, name := range []string{"output/x", "output", "stdout.log"} {
				if err := os.Lchown(n.path(1, name), uid, uid); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(n.cfg.InstanceDir, "journal"), test.journal(journal, n.cfg, item.Assign), 0o600); err != nil {
				t.Fatal(err)
			}
			again := launched(t, n.cfg, newBus(t))
			if f := again.finished(1); f.State != string(job.AttemptAgentRestarted) || f.Cause != test.cause {
				t.Errorf("got %+v", f)
			}
			again.owned(t, 1, "output/x", "output", "stdout.log", "")
		})
	}
}

// TestFailedStartIsPutAway: an attempt that never ran leaves its directory as one that
// did: what is in it is for all, and not hidden from other jobs any more. Where nothing is
// in it, it is gone.
func TestFailedStartIsPutAway(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){"with owners": nil, "without owners": func(c *Config) { c.ownerless = asAzureFiles }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := secluded(t, change)
			item := assign(1, "pyhton3")
			item.Assign.Workdir = "sub"
			n.work(item, assign(2, "pyhton3"))
			for _, id := range []int64{1, 2} {
				if f := n.finished(id); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseNoProgram {
					t.Fatalf("got %+v", f)
				}
			}
			if change == nil {
				n.owned(t, 1, "wd/sub", "wd", "")
			}
			for _, gone := range []string{n.path(1, "output"), filepath.Dir(n.path(2, ""))} {
				if _, err := os.Lstat(gone); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is still there: %v", gone, err)
				}
			}
			// One has the slot of the first, and the other a new one.
			text := "echo up; while [ ! -e $DSVM_SHARE/go ]; do sleep 0.02; done; ls " + filepath.Dir(n.path(1, "output"))
			n.work(script(3, text), script(4, text))
			awaitText(t, n, 3, "up\n")
			awaitText(t, n, 4, "up\n")
			if err := os.WriteFile(filepath.Join(n.cfg.Share, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			for id := int64(3); id <= 4; id++ {
				if f := n.finished(id); f.State != string(job.AttemptSucceeded) || !strings.Contains(n.file(id, "stdout.log"), "wd\n") {
					t.Errorf("%d: got %+v, %q", id, f, n.file(id, "stdout.log"))
				}
			}
		})
	}
}

// TestShareOfAll: what one job makes on the share, another reads and changes, though
// their users differ: with DSVM_JOB_USER, whose group they have, and without.
func TestShareOfAll(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"nobody", ""} {
		t.Run("user "+name, func(t *testing.T) {
			t.Parallel()
			remove := "mv $DSVM_SHARE/jobs $DSVM_SHARE/x" // the agent's own, which nobody is to move
			n := secluded(t, func(c *Config) {
				if c.JobUser = name; name != "" {
					if err := errors.Join(os.Chown(c.Share, 0, 65534), os.Chmod(c.Share, 0o775)); err != nil {
						t.Fatal(err)
					}
					remove = "true" // whoever gives a share to all jobs decides that
				}
			})
			n.work(script(1, "echo one > $DSVM_SHARE/state; mkdir $DSVM_SHARE/d; echo up; "+
				"while [ ! -e $DSVM_SHARE/d/go ]; do sleep 0.02; done; cat $DSVM_SHARE/state"))
			awaitText(t, n, 1, "up\n")
			n.work(script(2, "cat $DSVM_SHARE/state && echo two > $DSVM_SHARE/state && touch $DSVM_SHARE/d/go; "+remove))
			for id := int64(1); id <= 2; id++ {
				n.finished(id)
			}
			if got := n.file(1, "stdout.log") + n.file(2, "stdout.log"); got != "up\ntwo\none\n" {
				t.Errorf("got %q; %s", got, n.file(2, "stderr.log"))
			}
		})
	}
}

// TestUsersOutOfReach: a share that such users cannot reach is no reason to run
// nothing; the agent says what is wrong, and jobs run as they did.
func TestUsersOutOfReach(t *testing.T) {
	t.Parallel()
	log := new(lockedLog)
	n := secluded(t, func(c *Config) {
		c.Log = log.logger()
		c.JobUser = ""
		if err := os.Chmod(filepath.Dir(c.Share), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	n.work(script(1, "id -u"))
	n.finished(1)
	if got := n.file(1, "stdout.log"); got != "0\n" {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(log.String(), "team is no boundary") {
		t.Errorf("the log does not say it: %s", log.String())
	}
}

// TestUsersTaken: two nodes of one machine never have the same user, and one that
// has no more says so.
func TestUsersTaken(t *testing.T) {
	t.Parallel()
	n := secluded(t, func(c *Config) { c.UIDs.count = 1 })
	n.work(script(1, "echo up; sleep 1000"))
	awaitText(t, n, 1, "up\n")
	other := secluded(t, func(c *Config) { c.UIDs = n.cfg.UIDs })
	other.work(assign(1, "true"))
	if f := other.finished(1); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseNoProcess ||
		!strings.Contains(f.Reason, "DSVM_JOB_UIDS") {
		t.Errorf("got %+v", f)
	}
	n.work(cancel(2, 1))
	n.finished(1)
}

func TestReadUIDs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want uidRange
		ok   bool
	}{
		{"", defaultUIDs, true},
		{"off", uidRange{}, true},
		{"70000-10", uidRange{70000, 10}, true},
		{"2147483000-1000", uidRange{}, false},
		{"0-10", uidRange{}, false},
		{"70000-0", uidRange{}, false},
		{"70000", uidRange{}, false},
		{"on", uidRange{}, false},
		{"-5-10", uidRange{}, false},
	} {
		got, err := readUIDs(test.text)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: got %v, %v; want %v", test.text, got, err, test.want)
		}
	}
}

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lockedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// TestSourceOfItsOwnUser: git looks into a work tree as the slot's user, to whom alone
// the tree belongs: for the repository's own jobs, and for submodules.
func TestSourceOfItsOwnUser(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	inner := o.Commit("inner", "text of the submodule")
	o.Git(o.Root, "clone", "-q", "--bare", "r.git", "inner.git")
	o.Commit(job.SourceFile, "pool: cpu\n")
	commit := o.Link("sub", "../inner.git", inner)
	n := secluded(t, nil)
	withSubmodules := at(2, o.Source(commit), "cat sub/inner")
	withSubmodules.Assign.Source.Submodules = true
	n.work(at(1, o.Source(commit), ""), withSubmodules)
	if f := n.finished(1); f.State != string(job.AttemptSucceeded) || f.File != "pool: cpu\n" {
		t.Errorf("its own jobs: got %+v; %s", f, n.file(1, "stderr.log"))
	}
	if f := n.finished(2); f.State != string(job.AttemptSucceeded) || n.file(2, "stdout.log") != "text of the submodule" {
		t.Errorf("a submodule: got %+v; %s", f, n.file(2, "stderr.log"))
	}
}
