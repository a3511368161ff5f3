package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// groupPrefix begins the name of a node's directory of groups. The directory is
// locked while the node's agent lives: those without a lock are swept by any agent,
// since a node that was deleted has none that comes back.
const groupPrefix = "dsvmpools-"

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

// hierarchies are the places where a node's groups are made; "" = there is none.
type hierarchies struct {
	v2      string          // holds processes
	v2has   map[string]bool // its controllers
	v1      map[string]string
	tracker string // v1: the controller that holds processes, when version 2 does not
	locks   []*os.File
}

// claimDir makes a directory of the node's and locks it. It reports whether it is there.
func (h *hierarchies) claimDir(dir string) bool {
	const tries = 10 // another agent may sweep it between two steps, each time
	for range tries {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return false
		}
		f, err := os.Open(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false
		case lockFile(f, lockWithin) != nil:
			f.Close()
			return false
		case fileExists(dir):
			h.locks = append(h.locks, f)
			return true
		default:
			f.Close()
		}
	}
	return false
}

// lockAbandoned locks a directory of groups that no agent has; nil = one has it. It stays
// locked until it is swept: its agent may be starting.
func lockAbandoned(dir string) *os.File {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	return f
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

// findGroups makes this node's directories of groups and tries them. Node is its
// key. The error says why there are none.
func findGroups(node string, version int) (*hierarchies, error) {
	all := cgroupMounts()
	if len(all) == 0 {
		return nil, errors.New("no control groups are mounted")
	}
	name := groupPrefix + node
	h := &hierarchies{v2has: map[string]bool{}, v1: map[string]string{}}
	if m, ok := all[""]; ok && version != 1 {
		h.v2 = h.makeUnified(m[0], m[1], name)
	}
	for _, controller := range []string{"memory", "cpu", "pids"} {
		m, ok := all[controller]
		if !ok || h.v2has[controller] {
			continue
		}
		if dir := filepath.Join(m[0], m[1], name); h.claimDir(dir) {
			h.v1[controller] = dir
		}
	}
	if h.v2 == "" {
		if h.tracker = "pids"; h.v1["pids"] == "" {
			h.close()
			return nil, errors.New("no control group can be made that holds processes")
		}
	}
	return h, nil
}

// makeUnified makes the node's directory in version 2: below the agent's own group, if
// that was given to it, else below the root. "" = neither can be.
func (h *hierarchies) makeUnified(mount, own, name string) string {
	for _, parent := range []string{filepath.Join(mount, own), mount} {
		if parent != mount && !takeOverDelegated(parent) {
			continue
		}
		dir := filepath.Join(parent, name)
		if !h.claimDir(dir) {
			continue
		}
		for _, at := range []string{parent, dir} {
			for _, c := range []string{"memory", "cpu", "pids"} {
				os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+c), 0)
			}
		}
		enabled, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		for _, c := range strings.Fields(string(enabled)) {
			h.v2has[c] = true
		}
		return dir
	}
	return ""
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

// sweepWithin bounds ending what agents that are gone for good have left: the next
// agent of the machine goes on where one could not.
const sweepWithin = 100 * time.Millisecond

// findEarlierGroups lists the groups that earlier lives of a node's agent have left, and
// those of agents that are gone for good. They are looked for in every hierarchy: the
// agent's own group may have been another one.
func findEarlierGroups(node string) (own []string, others []abandonedGroup) {
	for _, m := range cgroupMounts() {
		filepath.WalkDir(m[0], func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil || !e.IsDir():
				return nil
			case !strings.HasPrefix(e.Name(), groupPrefix):
				return nil
			}
			if e.Name() == groupPrefix+node {
				own = append(own, listGroups(path)...)
			} else if f := lockAbandoned(path); f != nil {
				others = append(others, abandonedGroup{path, f})
			}
			return fs.SkipDir
		})
	}
	return own, others
}

// abandonedGroup is the directory of an agent that is gone, and its lock.
type abandonedGroup struct {
	path string
	lock *os.File
}

// sweepGroups ends what is left of agents that are gone for good.
func sweepGroups(all []abandonedGroup) {
	end := time.Now().Add(sweepWithin)
	for _, g := range all {
		endEarlier(listGroups(g.path), time.Until(end))
		g.lock.Close()
	}
}

// listGroups lists a directory of groups after the groups in it.
func listGroups(path string) []string {
	slots, _ := filepath.Glob(filepath.Join(path, "s[0-9]*"))
	return append(slots, path)
}

// endEarlier ends what is left in groups of an earlier life, and removes them. It
// reports whether all of them are gone.
func endEarlier(groups []string, within time.Duration) bool {
	for end := time.Now().Add(within); ; time.Sleep(emptyPause) {
		all := true
		for _, dir := range groups {
			g := group{track: dir, v2: fileExists(filepath.Join(dir, "cgroup.events"))}
			g.kill()
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				all = false
			}
		}
		if all || time.Now().After(end) {
			return all
		}
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// close removes the node's directories, when nothing is left in them.
func (h *hierarchies) close() {
	for _, dir := range h.v1 {
		unix.Rmdir(dir)
	}
	if h.v2 != "" {
		unix.Rmdir(h.v2)
	}
	for _, f := range h.locks {
		f.Close()
	}
}
