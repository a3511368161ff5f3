//go:build unix

package agent

import (
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// gangGroups is where the groups of gangs begin: the ranks of one share a directory,
// on several nodes and as several users, and agree on its group by the job's name
// alone. The kernel gives such numbers to nobody, and neither does systemd.
const (
	gangGroups = 2_000_000_000
	gangBits   = 24
)

// handTime bounds the handing over of one attempt's files: beyond it they stay with
// the slot's user, who cannot be anybody else's enemy there.
const handTime = 5 * time.Minute

// gangGroup is the group of a gang's attempt.
func gangGroup(pool string, w protocol.Assignment) int {
	h := fnv.New32a()
	h.Write([]byte(pool + "/" + w.Job + "/" + strconv.Itoa(w.Attempt)))
	return gangGroups + int(h.Sum32()>>(32-gangBits))
}

// workdirName is the directory that an attempt starts in, below its own: each rank
// of a gang has one.
func workdirName(w protocol.Assignment) string {
	if w.Gang != nil && w.Gang.Rank > 0 {
		return "wd." + strconv.Itoa(w.Gang.Rank)
	}
	return "wd"
}

// rankOf is 0 but for the later ranks of a gang.
func rankOf(w protocol.Assignment) int {
	if w.Gang != nil {
		return w.Gang.Rank
	}
	return 0
}

// open gives an attempt's directory, output and logs to who runs it. A slot's own
// user gets no right on the directory itself: its logs cannot be taken away from
// under it, and nobody else passes.
func (o owner) open(root *os.Root, pool string, w protocol.Assignment) {
	logs := []string{job.LogFile("stdout", rankOf(w)), job.LogFile("stderr", rankOf(w))}
	switch {
	case o.bare || o.after == nil:
		o.give(root, append(logs, ".", "output")...)
		return
	}
	// What is in a directory that is closed needs no modes of its own: each is a call
	// to the server of the share.
	const closed, shared = 0o750, 0o770 | fs.ModeSetgid
	if w.Gang != nil {
		o.gid = gangGroup(pool, w)
	}
	root.Lchown(".", 0, o.gid)
	root.Chmod(".", closed)
	o.give(root, append(logs, "output")...)
	if w.Gang != nil {
		root.Chmod("output", shared)
	}
}

// first is the mode with which an attempt's directory is made: what nobody else is to
// read must not be there to be opened for a moment either.
func (o owner) first() fs.FileMode {
	if o.bare || o.after == nil {
		return 0o755
	}
	return 0o700
}

// credential is whose a process is: its slot's, and its gang's.
func (k *slot) credential(pool string, w protocol.Assignment) *syscall.Credential {
	if k.owner.after == nil || k.owner.bare || w.Gang == nil {
		return k.as
	}
	as := *k.as
	as.Groups = append(slices.Clone(as.Groups), uint32(gangGroup(pool, w)))
	return &as
}

// settle brings an attempt's directory on the share into the form in which it stays,
// once nothing of it runs: an empty working directory is removed, and what a slot's
// user has made is handed to the owner.
func (l *launcher) settle(n int64, w protocol.Assignment) {
	k := l.slots.of(n)
	if k == nil {
		return
	}
	l.handOver(w, k.owner, func(uid int) bool { return uid == k.owner.uid })
	k.show(l.dir(w))
}

// handOver is settle for files of those users.
func (l *launcher) handOver(w protocol.Assignment, o owner, theirs func(uid int) bool) {
	pool, err := l.share.open()
	if err != nil {
		return
	}
	root, err := pool.OpenRoot(path.Join(w.Job, strconv.Itoa(w.Attempt)))
	if err != nil {
		return
	}
	defer root.Close()
	root.Remove(workdirName(w)) // if it is empty
	if o.after == nil || o.bare {
		return
	}
	const open, shared, readable = 0o755, 0o775 | fs.ModeSetgid, 0o644
	end := time.Now().Add(handTime)
	for _, top := range []string{workdirName(w), "output"} {
		fs.WalkDir(root.FS(), top, func(name string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil // nothing there, or nothing that can be read
			}
			if time.Now().After(end) {
				return fs.SkipAll
			}
			if at, err := root.Lstat(name); err == nil {
				if sys, ok := at.Sys().(*syscall.Stat_t); ok && theirs(int(sys.Uid)) {
					o.after.give(root, name)
				}
			}
			return nil
		})
	}
	for _, name := range []string{job.LogFile("stdout", rankOf(w)), job.LogFile("stderr", rankOf(w))} {
		o.after.give(root, name)
		root.Chmod(name, readable)
	}
	switch {
	case w.Gang == nil:
		root.Chmod("output", open)
	case rankOf(w) == 0:
		root.Chmod("output", shared)
	default:
		return // the first rank's node opens it
	}
	o.after.give(root, ".")
	root.Chmod(".", open)
}

// handLate hands over what attempts of an earlier life have left.
func (a *agent) handLate() {
	l := a.launcher
	if !l.slots.handsOver() {
		return
	}
	for _, w := range a.orphans {
		l.handOver(w, l.slots.lateOwner(), l.cfg.UIDs.has)
	}
	a.orphans = nil
}
