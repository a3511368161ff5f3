package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A control group per slot holds whatever an attempt starts, wherever it hides: no
// process leaves its group by itself. A slot's group is made once and used by one
// attempt after the other.
//
// There are two versions, and machines with both. Version 2 is asked first to hold
// the processes: it takes a process in as it is born, stops all at a word, and says
// that nothing is left. With version 1 the slot's thread is in the group, and what
// it starts is born there. Memory and processors are bounded by whichever version
// has that controller.

// Bounds of emptying a group.
const (
	emptyWithin = 5 * time.Second      // then its slot is not used again
	emptyPause  = 2 * time.Millisecond // between two looks
)

// cpuPeriod is that of a bound on processors, in microseconds: the kernel's default.
const cpuPeriod = 100_000

// forked bounds the processes of a version 1 group while it is emptied: none can be
// added then.
const forked = "0"

// An attempt may have this part of the processes and threads that the system can have,
// so that one that starts ever more keeps none from the agent and from other jobs. The
// least of it is room for programs with a hundred threads on each processor.
const (
	shareOfProcesses = 8
	fewestProcesses  = 1024
)

// mostProcesses is how many processes and threads an attempt may have at once.
func mostProcesses() int {
	most := fewestProcesses * shareOfProcesses
	for i, name := range []string{"pid_max", "threads-max"} {
		text, err := os.ReadFile("/proc/sys/kernel/" + name)
		n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil && bad == nil && (i == 0 || n < most) {
			most = n
		}
	}
	return max(most/shareOfProcesses, fewestProcesses)
}

// hierarchies are the places where a node's groups are made.
type hierarchies struct {
	v2      *nodeDir        // holds processes; nil = there is none
	v2has   map[string]bool // its controllers
	v1      map[string]*nodeDir
	tracker string // v1: the controller that holds processes, when version 2 does not

	earlier []*nodeDir // those in which something of an earlier life is left
}

// claim makes a directory of the node's and locks it; nil = it cannot be had.
func (h *hierarchies) claim(path string) *nodeDir {
	d := &nodeDir{path: path}
	for _, has := range slices.Concat(h.earlier, h.dirs()) {
		if has.path == path {
			d = has
		}
	}
	if d.claim() != nil {
		return nil
	}
	return d
}

// dirs lists the node's directories.
func (h *hierarchies) dirs() []*nodeDir {
	all := slices.Collect(maps.Values(h.v1))
	if h.v2 != nil {
		all = append(all, h.v2)
	}
	return all
}

// renew makes those of the node's directories again that somebody has removed.
func (h *hierarchies) renew() error {
	for _, d := range h.dirs() {
		if d.isHeld() {
			continue
		}
		if err := d.claim(); err != nil {
			return fmt.Errorf("the node's directory of control groups was removed, and cannot be made again: %w", err)
		}
		if d == h.v2 {
			enableControllers(d.path)
		}
	}
	return nil
}

// cgroupMounts reads where the hierarchies are mounted, and this process's own group in
// each, by controller; "" is version 2.
func cgroupMounts() map[string][2]string {
	own := map[string]string{}
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			for _, c := range strings.Split(f[1], ",") {
				own[c] = f[2]
			}
		}
	}
	all := map[string][2]string{}
	text, _ = os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		const root, point, options = 3, 4, 2
		if len(f) <= point || len(kind) <= options {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			all[""] = [2]string{f[point], pathBelow(f[root], own[""])}
		case "cgroup":
			for _, c := range strings.Split(kind[options], ",") {
				if path, ok := own[c]; ok {
					all[c] = [2]string{f[point], pathBelow(f[root], path)}
				}
			}
		}
	}
	return all
}

// pathBelow is a group's path seen from the root of a mount.
func pathBelow(root, path string) string {
	if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return "."
}

// findGroups makes this node's directories of groups and tries them. Node is its key,
// earlier are those of its directories that are held already. The error says why there
// are none.
func findGroups(node string, version int, earlier []*nodeDir) (*hierarchies, error) {
	all := cgroupMounts()
	if len(all) == 0 {
		return nil, errors.New("no control groups are mounted")
	}
	name := groupPrefix + node
	h := &hierarchies{v2has: map[string]bool{}, v1: map[string]*nodeDir{}, earlier: earlier}
	if m, ok := all[""]; ok && version != 1 {
		h.makeUnified(m[0], m[1], name)
	}
	for _, controller := range []string{"memory", "cpu", "pids"} {
		m, ok := all[controller]
		if !ok || h.v2has[controller] {
			continue
		}
		if d := h.claim(filepath.Join(m[0], m[1], name)); d != nil {
			h.v1[controller] = d
		}
	}
	if h.v2 == nil {
		if h.tracker = "pids"; h.v1["pids"] == nil {
			h.close()
			return nil, errors.New("no control group can be made that holds processes")
		}
	}
	return h, nil
}

// makeUnified makes the node's directory in version 2, if it can be made: below the
// agent's own group, if that was given to it, else below the root.
func (h *hierarchies) makeUnified(mount, own, name string) {
	for _, parent := range []string{filepath.Join(mount, own), mount} {
		if parent != mount && !takeOverDelegated(parent) {
			continue
		}
		d := h.claim(filepath.Join(parent, name))
		if d == nil {
			continue
		}
		h.v2 = d
		for _, c := range enableControllers(d.path) {
			h.v2has[c] = true
		}
		return
	}
}

// enableControllers has the groups in a directory of version 2 be bounded, and returns by
// which controllers they are.
func enableControllers(dir string) []string {
	for _, at := range []string{filepath.Dir(dir), dir} {
		for _, c := range []string{"memory", "cpu", "pids"} {
			os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	enabled, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	return strings.Fields(string(enabled))
}

// takeOverDelegated takes a group of version 2 over when this process is all that is in it.
// The rule there is that a group has processes or groups with controllers, not both,
// so the agent moves into a group of its own.
func takeOverDelegated(group string) bool {
	text, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(os.Getpid()) {
		return false
	}
	leaf := filepath.Join(group, "agent")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false
	}
	return os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0) == nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// close removes the node's directories, when nothing is left in them.
func (h *hierarchies) close() {
	for _, d := range h.dirs() {
		d.remove()
	}
}
