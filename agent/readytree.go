//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// A slot has the directories of an attempt ready: `<job>/1` with `wd` and `output` below, made
// ahead in the node's own directory on the share, `jobs/<pool>/+<vmid>`, where no job looks.
// One rename makes them an attempt's, and one brings them back when nothing was changed in
// them. What was visible under an attempt's name is never given to another attempt, except
// directories in which nothing was ever changed.
//
// Nothing is lost when the agent is killed anywhere in between: what lies in the node's own
// directory is nobody's, and the next life removes it.

// treeDirs are the directories of a ready tree, below its name: the job's, the attempt's,
// and the two that the attempt may write to.
var treeDirs = [...]string{"", "/1", "/1/" + workdirOfFirst, "/1/output"}

// treeHas are the names in each of them.
var treeHas = [len(treeDirs)][]string{{"1"}, {"output", workdirOfFirst}}

// Places in treeDirs.
const (
	treeTop = iota
	treeAttempt
	treeWorkdir
	treeOutput
)

// workdirOfFirst is the working directory of all attempts but those of a gang's later ranks.
const workdirOfFirst = "wd"

// treeReuse is how long an attempt may have had a tree that is used again: of one that has it
// for longer somebody may have the directories open, or in sight.
const treeReuse = time.Second

// readyTree is a slot's tree.
type readyTree struct {
	base    *os.File // the pool's directory that it was made in
	network bool     // times of its file system are not to be trusted
	name    string   // where it lies while no attempt has it, below base
	dirs    [len(treeDirs)]dirStamp

	job   string // whose it is; "" = nobody's
	since time.Time
}

// stamp notes how the tree looks before it is given away.
func (t *readyTree) stamp() (err error) {
	for i, dir := range treeDirs {
		if t.dirs[i], err = lookAt(int(t.base.Fd()), t.name+dir); err != nil {
			return err
		}
	}
	return nil
}

// give makes the tree an attempt's, unless something is there under the job's name.
func (t *readyTree) give(jobID string) error {
	if err := unix.Renameat(int(t.base.Fd()), t.name, int(t.base.Fd()), jobID); err != nil {
		return err
	}
	t.job, t.since = jobID, time.Now()
	return nil
}

// isUnchanged reports whether nothing was changed in a directory of the tree since the
// attempt has it.
func (t *readyTree) isUnchanged(i int) bool {
	at, was := t.job+treeDirs[i], t.dirs[i]
	now, err := lookAt(int(t.base.Fd()), at)
	if err != nil || !now.hasSameOwner(was) {
		return false
	}
	if t.network {
		return hasOnly(int(t.base.Fd()), at, treeHas[i]...)
	}
	if i == treeTop { // to be renamed has changed its ctime
		if !now.mtime.Equal(was.mtime) || now.nlink != was.nlink {
			return false
		}
		was.ctime, now.ctime = was.mtime, now.mtime
	}
	return now.isSame(was) && (was.isOlder(t.since) || isPlainWith(int(t.base.Fd()), at, treeHas[i]...))
}

// takeBack brings the tree back from its attempt, when nothing of it was changed.
func (t *readyTree) takeBack() bool {
	for i := range treeDirs {
		if !t.isUnchanged(i) {
			return false
		}
	}
	return t.bringBack()
}

// bringBack renames the tree back, unless another attempt of the job has come in between, on
// another node.
func (t *readyTree) bringBack() bool {
	if err := unix.Renameat(int(t.base.Fd()), t.job, int(t.base.Fd()), t.name); err != nil {
		return false
	}
	jobID := t.job
	t.job = t.name
	defer func() { t.job = "" }()
	if t.isUnchanged(treeTop) {
		return true
	}
	_ = unix.Renameat(int(t.base.Fd()), t.name, int(t.base.Fd()), jobID)
	return false
}

// isReadyFor reports whether a slot may have a tree for an attempt: it is a job's first, alone
// in its directory, and starts in its own one.
func isReadyFor(w protocol.Assignment) bool {
	return w.Attempt == 1 && w.Gang == nil && w.Workdir == "" && w.Source == nil
}

// ownDir is the node's own directory in the pool's.
func (d *shareDir) ownDir() string { return "+" + d.vmid }

// makeTree makes a ready tree, of new directories and of those in the old tree, which its
// attempt has not changed.
func (d *shareDir) makeTree(o owner, old *readyTree, unchanged ...int) (*readyTree, error) {
	_, base, err := d.open()
	if err != nil {
		return nil, err
	}
	name := d.ownDir() + "/" + d.life + "." + strconv.FormatInt(d.trees.Add(1), 10)
	t := &readyTree{base: base, network: d.network || fileSystem(d.share) != "", name: name}
	at := int(base.Fd())
	err = unix.Mkdirat(at, t.name, treeMode)
	if errors.Is(err, fs.ErrNotExist) { // the first tree, or somebody has removed it
		if err = unix.Mkdirat(at, d.ownDir(), 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			err = unix.Mkdirat(at, t.name, treeMode)
		}
	}
	if err == nil {
		err = unix.Mkdirat(at, t.name+treeDirs[treeAttempt], uint32(o.dirMode()))
	}
	made := []string{treeDirs[treeAttempt]}
	for _, i := range []int{treeWorkdir, treeOutput} {
		switch {
		case err != nil:
		case slices.Contains(unchanged, i):
			err = unix.Renameat(at, old.job+treeDirs[i], at, t.name+treeDirs[i])
		default:
			err = unix.Mkdirat(at, t.name+treeDirs[i], treeMode)
			made = append(made, treeDirs[i])
		}
	}
	if err == nil {
		err = d.giveTree(t, o, made)
	}
	if err == nil {
		err = t.stamp()
	}
	if err != nil {
		t.remove()
		return nil, err
	}
	return t, nil
}

// treeMode is the mode of the directories of a tree. What lies in the attempt's directory
// needs no other: that one is closed where slots have users of their own.
const treeMode = 0o755

// giveTree gives directories of a tree to who runs the attempts of its slot, as giveDirs does.
func (d *shareDir) giveTree(t *readyTree, o owner, made []string) error {
	at := int(t.base.Fd())
	switch {
	case o.bare:
		if o.mimic == nil {
			return nil
		}
		root, err := os.OpenRoot(filepath.Join(d.share, "jobs", d.pool, t.name))
		if err != nil {
			return err
		}
		defer root.Close()
		for _, dir := range made {
			o.give(root, dir[1:])
		}
		return nil
	case o.uid < 0:
		return nil
	}
	for _, dir := range made {
		uid := o.uid
		if dir == treeDirs[treeAttempt] && o.after != nil {
			uid = 0
		}
		// A share may have one owner for everything by its mount options and refuse; then
		// those options decide.
		_ = unix.Fchownat(at, t.name+dir, uid, o.gid, unix.AT_SYMLINK_NOFOLLOW)
		if dir == treeDirs[treeAttempt] && o.after != nil {
			_ = unix.Fchmodat(at, t.name+dir, closedMode, 0)
		}
	}
	return nil
}

// remove removes a tree that no attempt has.
func (t *readyTree) remove() {
	if t == nil {
		return
	}
	for i := len(treeDirs) - 1; i >= 0; i-- {
		_ = unix.Unlinkat(int(t.base.Fd()), t.name+treeDirs[i], unix.AT_REMOVEDIR)
	}
}

// removeOwn removes the node's own directory, with everything in it, once this life has no
// slots any more.
func (d *shareDir) removeOwn() error {
	root, _, err := d.open()
	if err != nil {
		return err
	}
	return root.RemoveAll(d.ownDir())
}

// removeEarlier removes what earlier lives have left in the node's own directory. It leaves
// alone what this life has there: an attempt may get it while it is being removed, and would
// lose its files.
func (d *shareDir) removeEarlier() error {
	root, _, err := d.open()
	if err != nil {
		return err
	}
	own, err := root.Open(d.ownDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := own.Readdirnames(-1)
	own.Close()
	for _, name := range names {
		if !strings.HasPrefix(name, d.life+".") {
			err = errors.Join(err, root.RemoveAll(d.ownDir()+"/"+name))
		}
	}
	return err
}

// removeWithin is how long an agent that ends takes to remove its trees. What is left is
// removed by its next life, or with the files of jobs that are kept no longer.
const removeWithin = 2 * time.Second

// removeTrees removes the ready trees of slots that are not used any more.
func (l *launcher) removeTrees() {
	if l.share.trees.Load() == 0 {
		return
	}
	_, _ = patience.Do(l.ends, removeWithin, func() (struct{}, error) { return struct{}{}, l.share.removeOwn() }, nil)
}

// placeAttempt gives an attempt its directory on the share: the ready tree of its slot, or one
// that is made for it.
func (l *launcher) placeAttempt(k *slot, w protocol.Assignment) (*attemptDir, error) {
	k.admit(w)
	if provesEmpty && !l.share.ownLogs && isReadyFor(w) && l.giveTree(k, w) {
		return &attemptDir{path: l.dir(w)}, nil
	}
	return l.share.makeAttemptDir(w, k.owner)
}

// giveTree gives an attempt the ready tree of its slot. It reports whether it has; what is
// wrong otherwise is seen where a directory is made for it.
func (l *launcher) giveTree(k *slot, w protocol.Assignment) bool {
	const tries = 2 // somebody may have removed the tree
	for range tries {
		_, base, err := l.share.open()
		if err != nil {
			return false
		}
		if k.tree == nil || k.tree.base != base {
			if l.makeTree(k, nil); k.tree == nil {
				return false
			}
		}
		if err = k.tree.give(w.Job); err == nil {
			return true
		}
		if !errors.Is(err, os.ErrNotExist) {
			return false
		}
		k.tree = nil
	}
	return false
}

// takeTreeBack ends an attempt's use of its slot's tree. It reports whether that leaves
// nothing of the attempt's directory to be put away; what nobody has changed goes with the
// slot in any case.
func (l *launcher) takeTreeBack(k *slot, w protocol.Assignment) bool {
	t := k.tree
	if t == nil || t.job != w.Job {
		return false
	}
	k.tree = nil
	_, base, err := l.share.open()
	if err != nil || base != t.base || !k.bare || time.Since(t.since) > treeReuse || l.isGivenUp() {
		return false
	}
	if t.takeBack() {
		k.tree = t
		return true
	}
	var unchanged []int
	for _, i := range []int{treeWorkdir, treeOutput} {
		if t.isUnchanged(i) {
			unchanged = append(unchanged, i)
		}
	}
	if len(unchanged) > 0 {
		l.makeTree(k, t, unchanged...)
	}
	return false
}

// makeTree makes a slot's ready tree, which other slots do not see. Without one a directory is
// made for the next attempt.
func (l *launcher) makeTree(k *slot, old *readyTree, unchanged ...int) {
	t, err := l.share.makeTree(k.owner, old, unchanged...)
	if err == nil {
		err = k.hide(filepath.Join(l.cfg.Share, "jobs", l.cfg.Pool, t.name+treeDirs[treeAttempt]))
	}
	if err != nil {
		t.remove()
		t = nil
	}
	k.tree = t
}

// isGivenUp reports whether the pool has given the node up: its work may be somewhere else.
func (l *launcher) isGivenUp() bool {
	select {
	case <-l.givenUp:
		return true
	default:
		return false
	}
}
