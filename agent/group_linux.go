package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
)

// group is a slot's.
type group struct {
	home    *nodeDir // the node's directory that track is in
	track   string   // the directory that holds its processes
	v2      bool     // of version 2
	dir     *os.File // track, to be born into; v2
	events  *os.File // v2: says whether it is empty
	oom     *os.File // counts what was killed for want of memory; nil = nobody counts
	threads []string // v1: directories that the slot's thread is in
	memory  string   // file of the bound; "" = there is none
	cpu     string   // the same
	cpuV2   bool
	most    string // processes and threads in it at once, as the bound is written

	tid                   int // v1: the slot's thread
	memoryIs, cpuIs, ooms int64
}

// unbounded is no bound, of memory or processors.
const unbounded = -1

// newGroup makes a slot's group. It is called on the slot's thread.
func (h *hierarchies) newGroup(slot int) (_ *group, err error) {
	g := &group{tid: unix.Gettid(), memoryIs: unbounded, cpuIs: unbounded, most: strconv.Itoa(mostProcesses())}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if err = h.renew(); err != nil {
		return nil, err
	}
	name := "s" + strconv.Itoa(slot)
	if h.v2 != nil {
		g.v2, g.home, g.track = true, h.v2, filepath.Join(h.v2.path, name)
		if err = os.Mkdir(g.track, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if g.dir, err = os.Open(g.track); err != nil {
			return nil, err
		}
		if g.events, err = os.Open(filepath.Join(g.track, "cgroup.events")); err != nil {
			return nil, err
		}
	}
	for controller, parent := range h.v1 {
		dir := filepath.Join(parent.path, name)
		if err = os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err = os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
			return nil, err
		}
		g.threads = append(g.threads, dir)
		if controller == h.tracker {
			g.home, g.track = parent, dir
		}
	}
	g.findFiles(h, name)
	g.ooms = g.oomKills()
	return g, nil
}

// findFiles finds the files of the controllers.
func (g *group) findFiles(h *hierarchies, name string) {
	oom := ""
	switch {
	case h.v2has["memory"]:
		g.memory, oom = filepath.Join(g.track, "memory.max"), filepath.Join(g.track, "memory.events")
	case h.v1["memory"] != nil:
		dir := filepath.Join(h.v1["memory"].path, name)
		g.memory, oom = filepath.Join(dir, "memory.limit_in_bytes"), filepath.Join(dir, "memory.oom_control")
	}
	if oom != "" {
		g.oom, _ = os.Open(oom)
	}
	switch {
	case h.v2has["cpu"]:
		g.cpu, g.cpuV2 = filepath.Join(g.track, "cpu.max"), true
	case h.v1["cpu"] != nil:
		g.cpu = filepath.Join(h.v1["cpu"].path, name, "cpu.cfs_quota_us")
	}
	switch {
	case h.v2has["pids"]:
		os.WriteFile(filepath.Join(g.track, "pids.max"), []byte(g.most), 0)
	case h.v1["pids"] != nil:
		os.WriteFile(filepath.Join(h.v1["pids"].path, name, "pids.max"), []byte(g.most), 0)
	}
}

// setBounds sets what the next attempt may use: bytes and processors, unbounded = as
// much as there is.
func (g *group) setBounds(memory, cpus int64) error {
	if g.memory != "" && memory != g.memoryIs {
		text := strconv.FormatInt(memory, 10)
		if memory == unbounded && g.v2 && filepath.Base(g.memory) == "memory.max" {
			text = "max"
		}
		if err := os.WriteFile(g.memory, []byte(text), 0); err != nil {
			return fmt.Errorf("the attempt's memory cannot be bounded: %w", startfault.Innermost(err))
		}
		g.memoryIs = memory
	}
	if g.cpu != "" && cpus != g.cpuIs {
		text := strconv.FormatInt(unbounded, 10)
		if cpus != unbounded {
			text = strconv.FormatInt(cpus*cpuPeriod, 10)
		} else if g.cpuV2 {
			text = "max"
		}
		if g.cpuV2 {
			text += " " + strconv.Itoa(cpuPeriod)
		}
		if err := os.WriteFile(g.cpu, []byte(text), 0); err != nil {
			return fmt.Errorf("the attempt's processors cannot be bounded: %w", startfault.Innermost(err))
		}
		g.cpuIs = cpus
	}
	return nil
}

// setBirthGroup has a process be born in the group. With version 1 it is, since the thread
// that starts it is there.
func (g *group) setBirthGroup(attr *syscall.SysProcAttr) {
	if g.v2 {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// isLost reports whether the group was removed, or is another agent's by now.
func (g *group) isLost() bool { return !g.home.isHeld() || !fileExists(g.track) }

// kill kills everything in the group, once. What has its name is left alone unless the
// node holds it: it may be another life's.
func (g *group) kill() {
	if g.home.isHeld() {
		g.killMembers()
	}
}

// killMembers kills everything in the group, and has nothing start anything meanwhile.
// The caller holds the node's directory.
// The file cgroup.kill would do the same, but Linux 6.18 kills whatever is born into
// a group in which it was ever used: it compares the group's count of kills with that
// of the group of the process that starts it.
func (g *group) killMembers() {
	stop, file, on, off := "cgroup.freeze", "cgroup.procs", "1", "0"
	if !g.v2 {
		stop, file, on, off = "pids.max", "tasks", forked, cmp.Or(g.most, "max")
	}
	os.WriteFile(filepath.Join(g.track, stop), []byte(on), 0)
	for _, pid := range g.members(file) {
		unix.Kill(pid, syscall.SIGKILL)
	}
	os.WriteFile(filepath.Join(g.track, stop), []byte(off), 0)
}

// members lists what is in the group but the slot's thread, and any other of the
// agent: a signal to a thread is one to its process.
func (g *group) members(file string) []int {
	text, _ := os.ReadFile(filepath.Join(g.track, file))
	var all []int
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid != g.tid && pid > 1 && !fileExists("/proc/self/task/"+f) {
			all = append(all, pid)
		}
	}
	return all
}

// isEmpty reports whether nothing that lives is in the group.
func (g *group) isEmpty() bool {
	if !g.v2 {
		return fileExists(g.track) && len(g.members("tasks")) == 0
	}
	var text [64]byte
	n, err := g.events.ReadAt(text[:], 0)
	return n > 0 && (err == nil || n < len(text)) && bytes.Contains(text[:n], []byte("populated 0"))
}

// killAll kills until the group is empty, and reports whether it is.
func (g *group) killAll() bool {
	for end := time.Now().Add(emptyWithin); !g.isEmpty(); time.Sleep(emptyPause) {
		if time.Now().After(end) {
			return false
		}
		g.kill()
	}
	return true
}

// oomKills is how many processes of the group were killed for want of memory so far.
func (g *group) oomKills() int64 {
	if g.oom == nil {
		return 0
	}
	var text [512]byte
	n, _ := g.oom.ReadAt(text[:], 0)
	for line := range strings.Lines(string(text[:n])) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
			return n
		}
	}
	return 0
}

// hadOOMKill reports whether the last attempt had processes killed for want of memory.
func (g *group) hadOOMKill() bool {
	now := g.oomKills()
	is := now > g.ooms
	g.ooms = now
	return is
}

// close removes the group. With version 1 the slot's thread leaves it by ending.
func (g *group) close() {
	for _, f := range []*os.File{g.dir, g.events, g.oom} {
		if f != nil {
			f.Close()
		}
	}
	if g.home == nil || !g.home.isHeld() {
		return
	}
	for _, dir := range g.threads {
		os.WriteFile(filepath.Join(filepath.Dir(filepath.Dir(dir)), "tasks"), []byte(strconv.Itoa(g.tid)), 0)
		unix.Rmdir(dir)
	}
	if g.v2 {
		unix.Rmdir(g.track)
	}
}

// tryGroup runs a program in a group and empties it: a system may have control
// groups and still refuse some of it.
func tryGroup(g *group) error {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = process.Attr(nil)
	g.setBirthGroup(cmd.SysProcAttr)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("no process can be started in a control group: %w", err)
	}
	if !g.killAll() {
		return errors.New("a control group does not become empty")
	}
	return nil
}
