package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAbandonedGroups: the groups of a node that was deleted are swept by the next
// agent of the machine, with what runs in them; those of one that lives are not.
func TestAbandonedGroups(t *testing.T) {
	t.Parallel()
	boundable(t)
	n := begin(t)
	n.work(script(1, "echo up; sleep 1000"))
	awaitText(t, n, 1, "up\n")
	if findBound(n.cfg, "cpu.max", "cpu.cfs_quota_us") == "" {
		t.Skip("no control groups can be made here")
	}
	gone := config(t)
	h, err := findGroups(gone.Pool+"."+gone.VMID, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, runs, _ := runIn(t, h)
	for _, d := range h.dirs() {
		d.close() // as its end does
	}
	next := begin(t)
	next.work(assign(1, "true"))
	next.finished(1)
	eventually(t, "the groups of the node that is gone to go", func() bool { // any agent of the machine may sweep them
		return findBound(gone, "cpu.max", "cpu.cfs_quota_us") == ""
	})
	eventually(t, "what ran there to end", func() bool { return !runs.lives() })
	if len(strays(n.cfg, 1)) == 0 {
		t.Error("the living neighbour's attempt was ended")
	}
	n.work(cancel(2, 1))
	n.finished(1)
}

// TestSweepSparesWhoStarts: from the moment an agent takes a directory of groups for
// abandoned until it has swept it, no other one can take it for its own; after that it
// is made again.
func TestSweepSparesWhoStarts(t *testing.T) {
	t.Parallel()
	boundable(t)
	for _, m := range cgroupMounts() {
		dir := filepath.Join(m[0], m[1], fmt.Sprintf("swept-%d", os.Getpid())) // not a name that other agents sweep
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		d := &nodeDir{path: dir}
		if err := d.take(0); err != nil {
			t.Fatalf("%s has an agent: %v", dir, err)
		}
		if (&nodeDir{path: dir}).take(0) == nil {
			t.Errorf("%s can be had while it is about to be swept", dir)
		}
		own := &nodeDir{path: dir}
		has := make(chan error)
		go func() { has <- own.claim() }() // its agent starts again
		endAll([]*nodeDir{d}, sweepWithin)
		if err := <-has; err != nil || !own.isHeld() || !fileExists(dir) {
			t.Errorf("%s was swept from under its agent: %v", dir, err)
		}
		own.remove()
	}
}

// sweptDirs are hierarchies with one directory each, of every version there is here. The
// names are none that other agents of the machine sweep.
func sweptDirs(t *testing.T) map[string]*hierarchies {
	boundable(t)
	all := map[string]*hierarchies{}
	mounts := cgroupMounts()
	at := func(controller string) *nodeDir {
		m := mounts[controller]
		d := &nodeDir{path: filepath.Join(m[0], m[1], fmt.Sprintf("swept-%d-%d", os.Getpid(), vmids.Add(1)))}
		if err := d.claim(); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() {
			eventually(t, "the groups to be empty", func() bool {
				d.close()
				return d.end()
			})
			d.remove()
		})
		return d
	}
	if _, ok := mounts[""]; ok {
		all["version 2"] = &hierarchies{v2: at("")}
	}
	if _, ok := mounts["pids"]; ok {
		all["version 1"] = &hierarchies{v1: map[string]*nodeDir{"pids": at("pids")}, tracker: "pids"}
	}
	return all
}

// groupIn makes a group of a node, on a thread that ends with it, and runs something there.
func groupIn(t *testing.T, h *hierarchies, slot int, do func(*group) error) (g *group) {
	t.Helper()
	done := make(chan error)
	onThread(func() { // it leaves the group by ending
		var err error
		if g, err = h.newGroup(slot); err == nil {
			err = do(g)
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return g
}

// echo is a process that answers as long as it lives: one that is being killed never does.
type echo struct {
	to   io.Writer
	from io.Reader
}

// lives reports whether the process has not been killed.
func (e echo) lives() bool {
	var line [2]byte
	if _, err := io.WriteString(e.to, "x\n"); err != nil {
		return false
	}
	_, err := io.ReadFull(e.from, line[:])
	return err == nil
}

// runIn starts a process in a node's first group, as its agent does.
func runIn(t *testing.T, h *hierarchies) (*group, echo, *os.Process) {
	t.Helper()
	cmd := exec.Command("cat")
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirs := io.Pipe()
	cmd.Stdout = theirs
	g := groupIn(t, h, 0, func(g *group) error {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		g.setBirthGroup(cmd.SysProcAttr)
		return cmd.Start()
	})
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		theirs.Close()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	return g, echo{to, from}, cmd.Process
}

// TestSweepSparesAnotherLife: the directory that an agent has locked to sweep it was
// removed, and its name is that of a node that works by now. The sweep leaves that alone.
func TestSweepSparesAnotherLife(t *testing.T) {
	t.Parallel()
	for name, h := range sweptDirs(t) {
		t.Run(name, func(t *testing.T) {
			own := h.dirs()[0]
			before := groupIn(t, h, 0, func(*group) error { return nil })
			own.close() // its agent was killed
			sweeper := &nodeDir{path: own.path}
			// A process that another test is just starting has the lock, too, until it runs its program.
			eventually(t, "the lock of who was killed", func() bool { return sweeper.take(0) == nil })
			eventually(t, "the group to be empty", func() bool { return unix.Rmdir(before.track) == nil })
			if err := unix.Rmdir(own.path); err != nil { // by somebody who asks for no lock
				t.Fatal(err)
			}
			g, runs, _ := runIn(t, h) // its agent is back
			if left := endAll([]*nodeDir{sweeper}, 0); len(left) > 0 && sweeper.isHeld() {
				t.Error("the sweeper holds what the node holds")
			}
			if !runs.lives() {
				t.Error("the sweep has killed what the node runs")
			}
			if g.isLost() || !own.isHeld() {
				t.Error("the sweep has removed the node's directory")
			}
		})
	}
}

// TestNodeWaitsForASweep: while an agent sweeps what another node has left, that node's
// agent, which is back, neither ends it itself nor works in it.
func TestNodeWaitsForASweep(t *testing.T) {
	t.Parallel()
	for name, h := range sweptDirs(t) {
		t.Run(name, func(t *testing.T) {
			runIn(t, h)
			own := h.dirs()[0]
			own.close()
			sweeper := &nodeDir{path: own.path}
			if err := sweeper.take(0); err != nil {
				t.Fatal(err)
			}
			if left := endAll([]*nodeDir{own}, 0); len(left) != 1 {
				t.Error("the node has ended what another agent sweeps")
			}
			done := make(chan error)
			go func() { done <- own.claim() }()
			if left := endAll([]*nodeDir{sweeper}, emptyWithin); len(left) > 0 {
				t.Error("the sweep has not ended")
			}
			if err := <-done; err != nil || !own.isHeld() {
				t.Errorf("after the sweep the node has no directory: %v", err)
			}
		})
	}
}

// TestLostDirectory: a node whose directory was removed ends nothing by its name, does not
// use its slots again, and makes both again.
func TestLostDirectory(t *testing.T) {
	t.Parallel()
	for name, h := range sweptDirs(t) {
		t.Run(name, func(t *testing.T) {
			own := h.dirs()[0]
			old := groupIn(t, h, 0, func(*group) error { return nil })
			if old.isLost() {
				t.Error("a group that is there is taken for lost")
			}
			eventually(t, "the group to be empty", func() bool { return unix.Rmdir(old.track) == nil })
			if err := unix.Rmdir(own.path); err != nil {
				t.Fatal(err)
			}
			if !old.isLost() {
				t.Error("a group that was removed is taken for one that is there")
			}
			theirs := &nodeDir{path: own.path} // of another life
			if err := theirs.claim(); err != nil {
				t.Fatal(err)
			}
			another := *h
			if h.v2 != nil {
				another.v2 = theirs
			} else {
				another.v1 = map[string]*nodeDir{h.tracker: theirs}
			}
			_, runs, _ := runIn(t, &another)
			old.kill()
			if !runs.lives() {
				t.Error("what is not held was ended")
			}
			theirs.close()
			theirs.take(0)
			if left := endAll([]*nodeDir{theirs}, emptyWithin); len(left) > 0 {
				t.Error("what is held was not ended")
			}
			if made := groupIn(t, h, 0, func(*group) error { return nil }); made.isLost() || !own.isHeld() {
				t.Error("the node's directory and group were not made again")
			}
		})
	}
}

// TestStuckGroup: what cannot be killed in one directory holds up the end of no other one;
// it is ended later, without a word from anybody.
func TestStuckGroup(t *testing.T) {
	t.Parallel()
	freeze, thaw := freezer(t)
	var dirs []*nodeDir
	for _, h := range sweptDirs(t) {
		_, _, process := runIn(t, h)
		if len(dirs) == 0 {
			freeze(strconv.Itoa(process.Pid))
		}
		own := h.dirs()[0]
		own.close()
		if err := own.take(0); err != nil { // as a sweep does, with what is in it
			t.Fatal(err)
		}
		dirs = append(dirs, own)
	}
	left := endAll(dirs, sweepWithin)
	for deadline := time.Now().Add(deadline); len(left) > 1 && time.Now().Before(deadline); { // a busy machine
		left = endAll(left, sweepWithin)
	}
	if len(left) != 1 || left[0] != dirs[0] {
		t.Fatalf("got %q left, want %s alone", paths(left), dirs[0].path)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := &site{log: slog.New(slog.DiscardHandler), sweeping: stop}
	go s.sweepLater(ctx, left)
	eventually(t, "the sweep to leave it to others for a while", func() bool { return !dirs[0].isHeld() })
	thaw()
	eventually(t, "the stuck group to go", func() bool { return !fileExists(dirs[0].path) })
	<-ctx.Done()
}
