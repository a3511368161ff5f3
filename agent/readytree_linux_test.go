package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// ways are the kinds of nodes and shares that attempts have ready trees on.
var ways = map[string]func(*Config){
	"with owners":    nil,
	"with keepers":   func(c *Config) { c.holdBy = holdKeeper },
	"without owners": func(c *Config) { c.ownerless = asAzureFiles },
	"on a network":   func(c *Config) { c.network = true },
	"one user":       func(c *Config) { c.UIDs = uidRange{} },
}

// onEach runs a test on a node of each kind.
func onEach(t *testing.T, test func(t *testing.T, n *node)) {
	t.Parallel()
	for name, change := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, secluded(t, func(c *Config) {
				slotsFirst(c)
				if change != nil {
					change(c)
				}
			}))
		})
	}
}

// list lists what is below a directory of the pool on the share.
func (n *node) list(t *testing.T, dir string) (all []string) {
	t.Helper()
	top := filepath.Join(n.cfg.Share, "jobs/cpu")
	err := filepath.WalkDir(filepath.Join(top, dir), func(path string, _ os.DirEntry, err error) error {
		if name, _ := filepath.Rel(top, path); err == nil && path != top {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// TestNothingIsLeft: attempts that write nothing leave nothing on the share, and their slot
// uses one tree for all of them.
func TestNothingIsLeft(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		const attempts = 40
		var trees []string
		for id := int64(1); id <= attempts; id++ {
			n.work(assign(id, "/bin/sh", "-c", "[ -d $DSVM_OUTPUT ] && [ $PWD = $(dirname $DSVM_OUTPUT)/wd ]"))
			if f := n.finished(id); f.State != string(job.AttemptSucceeded) {
				t.Fatalf("got %+v; %s", f, n.file(id, "stderr.log"))
			}
			left := n.list(t, "")
			if left = slices.DeleteFunc(left, func(name string) bool { return name[0] == '+' }); len(left) > 0 {
				t.Fatalf("after %d: got %v", id, left)
			}
			names, _ := os.ReadDir(filepath.Join(n.cfg.Share, "jobs/cpu", "+"+n.cfg.VMID))
			for _, e := range names {
				if !slices.Contains(trees, e.Name()) {
					trees = append(trees, e.Name())
				}
			}
		}
		if len(trees) != 1 {
			t.Errorf("%d attempts had the trees %v", attempts, trees)
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		if left := n.list(t, ""); len(left) > 0 {
			t.Errorf("after the agent: got %v", left)
		}
	})
}

// TestTreeIsUsedUnchanged: what an attempt has changed in its directories stays its own, and
// the one after it finds them empty, with the rights that they are made with.
func TestTreeIsUsedUnchanged(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		const look = `[ $(id -u) -lt 1000000 ] || [ -z "$(ls -A /tmp /var/tmp /dev/shm | grep -v :)" ] || echo FOREIGN
seen=$(ls -A . "$DSVM_OUTPUT" "$DSVM_SCRATCH"; stat -c '%a %U' . "$DSVM_OUTPUT" "$DSVM_SCRATCH"; ls -A .. ../..)
echo "$seen" | sed 's#^/.*/##; s#^s[0-9]*:#s:#; s#dsvmjob[0-9]*#dsvmjob#'`
		id := int64(1)
		run := func(text string) int64 {
			t.Helper()
			id++
			n.work(script(id, text))
			if f := n.finished(id); f.State != string(job.AttemptSucceeded) {
				t.Fatalf("%s: got %+v; %s", text, f, n.file(id, "stderr.log"))
			}
			return id
		}
		want := n.file(run(look), "stdout.log")
		if !strings.HasSuffix(want, "\noutput\nwd\n\n../..:\n1\n") {
			t.Fatalf("got %q", want)
		}
		for text, left := range map[string][]string{
			"echo x > x":               {"1/wd/x"},
			"echo x > $DSVM_OUTPUT/x":  {"1/output/x"},
			"echo x > $DSVM_SCRATCH/x": nil,
			"mkdir d; rmdir d":         nil,
			"chmod 700 . $DSVM_OUTPUT $DSVM_SCRATCH 2>/dev/null || true": nil,
			"ln -s / $DSVM_OUTPUT/l":                                     {"1/output/l"},
			"echo out":                                                   {"1/stdout.log"},
			"echo err >&2":                                               {"1/stderr.log"},
			"echo out; echo err >&2; echo x > .hidden":                   {"1/stdout.log", "1/stderr.log", "1/wd/.hidden"},
			"sleep 1.1":                                                  nil,
			"[ $(id -u) -lt 1000000 ] || echo x | tee /tmp/x /var/tmp/x > /dev/shm/x": nil,
			"rmdir $DSVM_OUTPUT 2>/dev/null || true":                                  nil,
			"cd /; rm -r $DSVM_SCRATCH; echo x > $DSVM_OUTPUT/y":                      {"1/output/y"},
		} {
			for range 2 {
				id := run(text)
				for _, name := range left {
					if _, err := os.Lstat(filepath.Join(filepath.Dir(n.path(id, "")), name)); err != nil {
						t.Errorf("%s: %v", text, err)
					}
				}
				dir := fmt.Sprintf("job-%d", id)
				if _, err := os.Lstat(filepath.Join(n.cfg.Share, "jobs/cpu", dir)); left == nil && err == nil {
					t.Errorf("%s: got %v", text, n.list(t, dir))
				}
				if got := n.file(run(look), "stdout.log"); got != want {
					t.Errorf("after %s: got %q, want %q", text, got, want)
				}
			}
		}
	})
}

// TestOtherTeamsHaveTheirOwn: what an attempt could have passed on to a friend is not used for
// an attempt of another team or user.
func TestOtherTeamsHaveTheirOwn(t *testing.T) {
	t.Parallel()
	n := secluded(t, slotsFirst)
	id := int64(0)
	var taken []string
	run := func(team, user string) (pipe string) {
		t.Helper()
		id++
		item := script(id, "p=$(readlink /proc/$$/fd/2); echo $p > $DSVM_OUTPUT/pipe; echo x > $DSVM_OUTPUT/x")
		item.Assign.Team, item.Assign.User = team, user
		n.work(item)
		n.finished(id)
		return n.file(id, "output/pipe")
	}
	for _, who := range [][2]string{{"a", "ann"}, {"b", "ann"}, {"b", "bob"}} {
		first := run(who[0], who[1])
		if slices.Contains(taken, first) {
			t.Errorf("%v: another team's pipe was used", who)
		}
		taken = append(taken, first)
		if again := run(who[0], who[1]); again != first {
			t.Errorf("%v: got the pipe %q after %q", who, again, first)
		}
	}
}

// TestPipeIsUsedAsItWasMade: what an attempt does to the open file of its log reaches no other
// attempt.
func TestPipeIsUsedAsItWasMade(t *testing.T) {
	t.Parallel()
	_, logs := openLogs(t)
	if !logs.finish(true) {
		t.Error("it cannot be used again")
	}
	const more = 256 << 10
	for name, change := range map[string]func(fd int) error{
		"it does not wait": func(fd int) error { return unix.SetNonblock(fd, true) },
		"it holds more":    func(fd int) error { _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, more); return err },
		"it holds less":    func(fd int) error { _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 4096); return err },
		"other rights":     func(fd int) error { return unix.Fchmod(fd, 0) },
	} {
		_, logs := openLogs(t)
		if err := change(logs.pipes.streams[1].write); err != nil {
			t.Fatal(err)
		}
		if logs.finish(true) {
			t.Errorf("%s: it is used again", name)
		}
	}
}

// TestPipeIsUnlocked: a lock that an attempt had on its log keeps no other one waiting.
func TestPipeIsUnlocked(t *testing.T) {
	t.Parallel()
	_, logs := openLogs(t)
	p := logs.pipes.streams[0]
	if err := unix.Flock(p.write, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if !logs.finish(true) {
		t.Error("it cannot be used again")
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", p.write), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("got %v", err)
	}
}

// TestPipeIsUsedEmpty: a large pipe is read to its end, and one that somebody goes on writing to
// is not used again: its text would be in the log of the next attempt.
func TestPipeIsUsedEmpty(t *testing.T) {
	t.Parallel()
	dir, logs := openLogs(t)
	fd := logs.pipes.streams[0].write
	const large = 4 * maxPipe
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, large); err != nil {
		t.Skip("this user cannot make large pipes:", err)
	}
	p := logs.pipes.streams[0]
	p.mu.Lock() // nobody reads
	n, err := unix.Write(fd, bytes.Repeat([]byte("line\n"), 3*maxPipe/5))
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if logs.finish(true) {
		t.Error("a larger pipe is used again")
	}
	if at, err := os.Stat(filepath.Join(dir, "stdout.log")); err != nil || at.Size() != int64(n) {
		t.Errorf("got %v, %v; want %d bytes", at, err, n)
	}

	_, logs = openLogs(t)
	p = logs.pipes.streams[0]
	p.mu.Lock()
	if _, err := unix.Write(p.write, make([]byte, 2*copied)); err != nil {
		t.Fatal(err)
	}
	first, second := p.readRest(0), p.readRest(maxPipe)
	p.mu.Unlock()
	if first || !second {
		t.Errorf("empty: got %v while something was in it, and %v after that", first, second)
	}
}

// TestTreeIsGivenAndTakenBack: a tree does not replace what is under the job's name, and comes back from
// where it went only as it was.
func TestTreeIsGivenAndTakenBack(t *testing.T) {
	t.Parallel()
	l := launcherOf(t, config(t))
	top := filepath.Join(l.cfg.Share, "jobs/cpu")
	make := func() *readyTree {
		t.Helper()
		tree, err := l.share.makeTree(nobodyElse, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	for name, in := range map[string]func(dir string) error{
		"a file":          func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"a link":          func(dir string) error { return os.Symlink("/", dir) },
		"another attempt": func(dir string) error { return os.MkdirAll(filepath.Join(dir, "2"), 0o755) },
	} {
		make() // the pool's directory
		if err := in(filepath.Join(top, "taken")); err != nil {
			t.Fatal(err)
		}
		if err := make().give("taken"); err == nil {
			t.Errorf("%s was replaced", name)
		}
		os.RemoveAll(filepath.Join(top, "taken"))
	}
	for name, change := range map[string]func(dir string) error{
		"another attempt":     func(dir string) error { return os.Mkdir(filepath.Join(dir, "2"), 0o755) },
		"a file beside it":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) },
		"a log":               func(dir string) error { return os.WriteFile(filepath.Join(dir, "1/stdout.log"), nil, 0o600) },
		"another output":      func(dir string) error { return os.Rename(filepath.Join(dir, "1/output"), filepath.Join(dir, "1/o")) },
		"other rights":        func(dir string) error { return os.Chmod(filepath.Join(dir, "1/wd"), 0o700) },
		"something and not":   func(dir string) error { return os.Remove(filepath.Join(dir, "1/wd")) },
		"another one instead": func(dir string) error { return os.Rename(dir, dir+".away") },
	} {
		for _, network := range []bool{false, true} {
			tree := make()
			tree.network = network
			if err := tree.give("job"); err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(top, "job")); err != nil {
				t.Fatal(err)
			}
			if tree.takeBack() {
				t.Errorf("%s, network %v: it was taken back", name, network)
			}
			os.RemoveAll(filepath.Join(top, "job"))
			os.RemoveAll(filepath.Join(top, "job.away"))
		}
	}
	for _, network := range []bool{false, true} {
		tree := make()
		tree.network = network
		if err := tree.give("late"); err != nil {
			t.Fatal(err)
		}
		second := filepath.Join(top, "late/2")
		if err := os.Mkdir(second, 0o755); err != nil {
			t.Fatal(err)
		}
		back := tree.bringBack()
		if _, err := os.Stat(second); back || err != nil {
			t.Errorf("network %v: another attempt was taken away with it: %v", network, err)
		}
		os.RemoveAll(filepath.Join(top, "late"))
	}
	tree := make()
	if err := tree.give("job"); err != nil || !tree.takeBack() {
		t.Errorf("one that nobody has changed is not taken back: %v", err)
	}
}

// TestTreesOfEarlierLives: what an earlier life had ready is removed while slots of this one use
// their trees, and those are left alone.
func TestTreesOfEarlierLives(t *testing.T) {
	t.Parallel()
	l := launcherOf(t, config(t))
	if err := l.share.removeEarlier(); err != nil {
		t.Errorf("a node that has nothing: %v", err)
	}
	tree, err := l.share.makeTree(nobodyElse, nil)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(l.cfg.Share, "jobs/cpu", l.share.ownDir())
	if err := os.MkdirAll(filepath.Join(own, "earlier.1/1/wd/full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := l.share.removeEarlier(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(own)
	if err != nil || len(left) != 1 || left[0].Name() != filepath.Base(tree.name) {
		t.Errorf("got %v, %v; want %s alone", left, err, tree.name)
	}
	if err := tree.give("job"); err != nil || !tree.takeBack() {
		t.Errorf("a tree of this life cannot be used any more: %v", err)
	}
}

// TestTreeOfYesterday: a tree that was changed within one step of the file system's clock is
// found out all the same, and an old one by its times alone.
func TestTreeOfYesterday(t *testing.T) {
	t.Parallel()
	l := launcherOf(t, config(t))
	tree, err := l.share.makeTree(nobodyElse, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tree.dirs {
		if tree.dirs[i].isOlder(time.Now()) {
			t.Skip("making a tree takes too long here")
		}
	}
	if err := tree.give("job"); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(l.cfg.Share, "jobs/cpu/job/1/output")
	if err := os.WriteFile(filepath.Join(out, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tree.dirs[treeOutput].ctime, tree.dirs[treeOutput].mtime = ctimeOf(t, out), ctimeOf(t, out)
	if tree.isUnchanged(treeOutput) {
		t.Error("a file that came with the tree's own time is not seen")
	}
}

// TestStillEmpty: a directory in which something was made is not taken for empty, neither by
// its times nor within a step of the clock; one in which something was made and removed is not
// either.
func TestStillEmpty(t *testing.T) {
	t.Parallel()
	write := func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }
	for name, test := range map[string]struct {
		change func(dir string) error
		atOnce bool // its times say nothing
		want   bool
	}{
		"nothing":         {func(string) error { return nil }, false, true},
		"a file":          {write, false, false},
		"a file, at once": {write, true, false},
		"other rights":    {func(dir string) error { return os.Chmod(dir, 0o701) }, true, false},
		"an attribute, at once": {func(dir string) error {
			return unix.Setxattr(dir, "user.left", []byte("x"), 0)
		}, true, false},
		"made and removed": {func(dir string) error {
			return errors.Join(write(dir), os.Remove(filepath.Join(dir, "x")))
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			was, err := lookAt(unix.AT_FDCWD, dir)
			if err != nil {
				t.Fatal(err)
			}
			since := time.Now()
			eventually(t, "the clock of the file system to go on", func() bool {
				return ctimeOf(t, t.TempDir()).After(was.ctime)
			})
			if err := test.change(dir); errors.Is(err, unix.ENOTSUP) {
				t.Skip("this file system has no attributes")
			} else if err != nil {
				t.Fatal(err)
			}
			if test.atOnce {
				was.ctime = ctimeOf(t, dir)
			}
			if got := isStillEmpty(unix.AT_FDCWD, dir, was, since); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestKeptTrees: the first attempt of a job that stays alone has a tree; others do not.
func TestKeptTrees(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]protocol.Assignment{
		"a second attempt": {Attempt: 2},
		"a rank":           {Attempt: 1, Gang: &protocol.Gang{}},
		"a workdir":        {Attempt: 1, Workdir: "x"},
		"a source":         {Attempt: 1, Source: &job.Source{}},
	} {
		if isReadyFor(w) {
			t.Errorf("%s gets a slot's tree", name)
		}
	}
	if !isReadyFor(protocol.Assignment{Attempt: 1}) {
		t.Error("a first attempt gets none")
	}
}

func ctimeOf(t *testing.T, dir string) time.Time {
	t.Helper()
	at, err := lookAt(unix.AT_FDCWD, dir)
	if err != nil {
		t.Fatal(err)
	}
	return at.ctime
}
