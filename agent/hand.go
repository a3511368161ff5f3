package agent

import (
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// gangGroups is where the groups of gangs begin: the ranks of one share a directory,
// on several nodes and as several users, and agree on its group by the job's name
// alone. The kernel gives such numbers to nobody, and neither does systemd.
const (
	gangGroups = 2_000_000_000
	gangBits   = 24
)

// Bounds of waiting until an attempt's files are handed over; Config.HandOverWithin is that
// of all of it. Until then the attempt has not ended for its pool: the jobs after it find
// files that they can use, and its node is not idle. Afterwards the end is reported, and
// the handing over goes on.
const (
	handStall   = 10 * time.Second // without a file handed over: the share hangs
	handClosing = 10 * time.Second // once the agent ends
	handLeaving = 2 * time.Second  // after the end of the VM was announced: less than leaveMargin, so that the end is reported
)

// hurry says that a handing over must not take its time.
type hurry struct {
	leaving, closing chan struct{} // closed when the end of the VM is announced, and when the agent ends
}

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

// giveDirs gives an attempt's directory, output and logs to who runs it. A slot's own
// user gets no right on the directory itself: its logs cannot be taken away from
// under it, and nobody else passes. A share may have one owner for everything by its
// mount options and refuse; then those options decide, so errors are ignored.
func (o owner) giveDirs(a *attemptDir, dir, output *os.File, pool string, w protocol.Assignment) {
	all := []*os.File{dir, output}
	if a.stdout != nil {
		all = append(all, a.stdout, a.stderr)
	}
	switch {
	case o.bare:
		o.give(a.root, ".")
		for _, f := range all[1:] {
			o.give(a.root, f.Name())
		}
		return
	case o.after == nil:
		for _, f := range all {
			_ = o.giveFile(f)
		}
		return
	}
	// What is in a directory that is closed needs no modes of its own: each is a call
	// to the server of the share.
	const shared = 0o770 | fs.ModeSetgid
	if w.Gang != nil {
		o.gid = gangGroup(pool, w)
	}
	_ = dir.Chown(0, o.gid)
	_ = dir.Chmod(closedMode)
	for _, f := range all[1:] {
		_ = o.giveFile(f)
	}
	if w.Gang != nil {
		_ = output.Chmod(shared)
	}
}

// closedMode is that of an attempt's directory while a slot's own user runs it.
const closedMode = 0o750

// last is who has files in the end.
func (o owner) last() owner {
	if o.after == nil || o.bare {
		return o
	}
	return *o.after
}

// processOwner is the user whom an attempt's process runs as.
func (k *slot) processOwner() owner {
	uid, gid := process.NumbersOf(k.as)
	return owner{uid: uid, gid: gid}
}

// dirMode is the mode with which an attempt's directory is made: what others must not
// read must not be open to them for a moment either.
func (o owner) dirMode() fs.FileMode {
	if o.bare || o.after == nil {
		return 0o755
	}
	return 0o700
}

// putAwayInTime is putAway with a bound: the end of an attempt is reported although its
// share hangs, or it has made very many files. While a call for the attempt is under way,
// that is left to clean.
func (l *launcher) putAwayInTime(n int64, w protocol.Assignment, h hurry) {
	if l.isBusy(n) {
		return
	}
	l.beginCall(n) // before this returns: what cleans up must see it
	var given atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer l.endCall(n)
		callWithin(l, l.ends, l.cfg.HandOverWithin, n, func() (struct{}, error) {
			l.putAway(n, w, &given)
			return struct{}{}, nil
		}, nil)
	}()
	awaitHandOver(done, h, given.Load, min(l.handStall, l.cfg.StartWithin))
}

// awaitHandOver waits until files are handed over, as long as that gets on and there is no
// hurry.
func awaitHandOver(done <-chan struct{}, h hurry, given func() int64, within time.Duration) {
	stall := time.NewTicker(within)
	defer stall.Stop()
	var last <-chan time.Time
	for seen := int64(0); ; {
		select {
		case <-done:
			return
		case <-last:
			return
		case <-h.leaving:
			last, h.leaving = time.After(handLeaving), nil
		case <-h.closing:
			last, h.closing = time.After(handClosing), nil
		case <-stall.C:
			now := given()
			if now == seen {
				return
			}
			seen = now
		}
	}
}

// settle ends the logs of an attempt and puts away what it leaves, once its processes have
// ended. It may hang on the share.
func (l *launcher) settle(n int64, w protocol.Assignment, r *run, given *atomic.Int64) {
	if r.logs != nil && !r.logs.finish(provesEmpty && r.slot.bare) {
		r.slot.pipes = nil
	}
	l.putAway(n, w, given)
}

// putAway brings an attempt's directory on the share into the form in which it stays,
// once nothing of it runs: an empty working directory is removed, and what a slot's
// user has made is handed to the owner.
func (l *launcher) putAway(n int64, w protocol.Assignment, given *atomic.Int64) {
	k := l.slots.slotOf(n)
	if k == nil || !k.made {
		return
	}
	if l.takeTreeBack(k, w) {
		return
	}
	l.handOver(w, k.owner, func(uid int) bool { return uid == k.owner.uid }, given)
	k.show(l.dir(w))
}

// handOver brings an attempt's directory into its last form: what is of those users
// becomes the owner's. It counts the files that it has looked at.
func (l *launcher) handOver(w protocol.Assignment, o owner, theirs func(uid int) bool, given *atomic.Int64) {
	pool, _, err := l.share.open()
	if err != nil {
		return
	}
	if w.Gang == nil {
		defer removeEmpty(pool, path.Join(w.Job, strconv.Itoa(w.Attempt)), w.Job)
	}
	root, err := pool.OpenRoot(path.Join(w.Job, strconv.Itoa(w.Attempt)))
	if err != nil {
		return
	}
	defer root.Close()
	for _, name := range []string{w.Job, path.Join(w.Job, strconv.Itoa(w.Attempt))} {
		if !isPlain(pool, name, fs.ModeDir) {
			return
		}
	}
	root.Remove(workdirName(w)) // if it is empty
	if w.Gang == nil {
		root.Remove("output")
	}
	if l.share.ownLogs {
		l.removeEmptyLogs(root, w)
	}
	if o.after == nil || o.bare {
		return
	}
	const open, shared, readable = 0o755, 0o775 | fs.ModeSetgid, 0o644
	g := newGiver(o.after, theirs, l.cfg.HandOverWithin, given)
	for _, top := range []string{workdirName(w), "output"} {
		g.giveTree(root, top)
	}
	for _, name := range []string{job.LogFile("stdout", rankOf(w)), job.LogFile("stderr", rankOf(w))} {
		if !isPlain(root, name, 0) {
			continue
		}
		o.after.give(root, name)
		root.Chmod(name, readable)
	}
	switch {
	case !isPlain(root, "output", fs.ModeDir):
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

// removeEmptyLogs removes logs in which nothing is: a log that is not there is an empty one.
func (l *launcher) removeEmptyLogs(root *os.Root, w protocol.Assignment) {
	for _, stream := range logStreams {
		name := job.LogFile(stream, rankOf(w))
		if at, err := root.Lstat(name); err == nil && at.Mode().IsRegular() && at.Size() == 0 {
			root.Remove(name)
		}
	}
}

// removeEmpty removes directories as long as they are empty.
func removeEmpty(root *os.Root, names ...string) {
	for _, name := range names {
		if !isPlain(root, name, fs.ModeDir) || root.Remove(name) != nil {
			return
		}
	}
}

// isPlain reports whether a file of a kind, 0 = regular and with one name only, is there
// under a name: nothing else is the agent's to give away.
func isPlain(root *os.Root, name string, kind fs.FileMode) bool {
	at, err := root.Lstat(name)
	if err != nil || at.Mode().Type() != kind {
		return false
	}
	return kind != 0 || hasOneName(at)
}

// handOverOrphans hands over what attempts of an earlier life have left, and removes what that
// life had ready for others, with a bound: when
// the share hangs, or there is a lot, it goes on while the node works.
func (a *agent) handOverOrphans() {
	l, orphans := a.launcher, a.orphans
	a.orphans = nil
	patience.Do(l.ends, l.cfg.StartWithin, func() (struct{}, error) {
		o := nobodyElse
		if l.slots.mustHandOver() {
			o = l.slots.lateOwner()
		}
		for _, w := range orphans {
			l.handOver(w, o, l.cfg.UIDs.has, new(atomic.Int64))
		}
		if err := l.share.removeEarlier(); err != nil {
			a.log.Warn("removing what an earlier agent had ready has failed", "error", startfault.Innermost(err).Error())
		}
		return struct{}{}, nil
	}, nil)
}
