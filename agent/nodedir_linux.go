package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// groupPrefix begins the name of a node's directory of groups.
const groupPrefix = "dsvmpools-"

// nodeDir is the directory of a node's groups in one hierarchy. It is locked by the node's
// agent while that lives: any agent of the machine may lock one that is not, and sweep it,
// since a node that was deleted has no agent that comes back.
//
// Only who holds the lock ends what is in the directory, and only that one removes it.
// The lock is on the directory itself and not on its name, which may be that of another
// one by the time the lock is had: so the two are compared before anything is done.
type nodeDir struct {
	path string

	mu    sync.Mutex
	lock  *os.File // nil = it is not held
	slots []string // groups that were in it when it was locked
}

// take locks the directory. It is fs.ErrNotExist when there is none, and another error
// when an agent has it.
func (d *nodeDir) take(within time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.takeLocked(within)
}

// takeLocked is take. The caller holds mu.
func (d *nodeDir) takeLocked(within time.Duration) error {
	if d.lock != nil && isNamed(d.lock, d.path) {
		return nil
	}
	d.letGo()
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	if err := lockFile(f, within); err != nil {
		f.Close()
		return err
	}
	if !isNamed(f, d.path) {
		f.Close()
		return fs.ErrNotExist // it was swept meanwhile
	}
	d.lock = f
	d.slots, _ = filepath.Glob(filepath.Join(d.path, "s[0-9]*"))
	return nil
}

// letGo ends the lock. The caller holds mu.
func (d *nodeDir) letGo() {
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}

// claim makes the directory if there is none, and locks it.
func (d *nodeDir) claim() error {
	const tries = 10 // another agent may sweep it between two steps, each time
	err := fs.ErrNotExist
	for i := 0; i < tries && errors.Is(err, fs.ErrNotExist); i++ {
		if err := os.Mkdir(d.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = d.take(lockWithin)
	}
	return err
}

// isHeld reports whether the directory with the path is the one that is locked here.
func (d *nodeDir) isHeld() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lock != nil && isNamed(d.lock, d.path)
}

// end kills what is left in the groups that were there when the directory was locked, and
// removes those that are empty. It reports whether none is left.
func (d *nodeDir) end() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.takeLocked(0); err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	all := true
	for _, dir := range d.slots {
		g := group{track: dir, v2: fileExists(filepath.Join(dir, "cgroup.events"))}
		g.killMembers()
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			all = false
		}
	}
	return all
}

// remove removes the directory if it is held and empty, and lets go of it.
func (d *nodeDir) remove() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lock != nil && isNamed(d.lock, d.path) {
		unix.Rmdir(d.path)
	}
	d.letGo()
}

// close lets go of the directory.
func (d *nodeDir) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.letGo()
}

// findNodeDirs lists the directories that earlier lives of a node's agent have left, and
// those of agents that are gone for good, which it locks. They are looked for in every
// hierarchy: the agent's own group may have been another one.
func findNodeDirs(node string) (own, others []*nodeDir) {
	mounts := map[string]bool{} // several controllers may share one
	for _, m := range cgroupMounts() {
		if mounts[m[0]] {
			continue
		}
		mounts[m[0]] = true
		filepath.WalkDir(m[0], func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil || !e.IsDir():
				return nil
			case !strings.HasPrefix(e.Name(), groupPrefix):
				return nil
			}
			d := &nodeDir{path: path}
			if e.Name() == groupPrefix+node {
				own = append(own, d)
			} else if d.take(0) == nil {
				others = append(others, d)
			}
			return fs.SkipDir
		})
	}
	return own, others
}

// endAll ends what is left in directories of groups, and removes those in which nothing is
// left. One that cannot be ended holds up no other. It returns those that are not ended
// within the time; they stay locked.
func endAll(all []*nodeDir, within time.Duration) []*nodeDir {
	for end := time.Now().Add(within); ; time.Sleep(emptyPause) {
		var left []*nodeDir
		for _, d := range all {
			if d.end() {
				d.remove()
			} else {
				left = append(left, d)
			}
		}
		if all = left; len(all) == 0 || time.Now().After(end) {
			return all
		}
	}
}
