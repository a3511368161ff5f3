package agent

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// shareDir is the pool's directory on the share, `jobs/<pool>`. Everything below
// is reached through it, so that no link leads an attempt's files off the share.
type shareDir struct {
	share, pool, vmid string

	mounted bool                      // it must be a mount; else it is not there
	probe   func(root *os.Root) error // tries whether jobs can write below it; nil = nobody does
	ownLogs bool                      // attempts write to their logs themselves
	life    string                    // of the agent: a part of the names of ready trees
	//lint:ignore U1000 of Unix alone
	trees   atomic.Int64 // that were made
	network bool         // in tests: as if it were on a network

	mu   sync.Mutex
	root *os.Root // nil = not open
	base *os.File // the same directory
}

// open returns the pool's directory, made when it is not there. When it is opened again, jobs
// must be able to write there.
func (d *shareDir) open() (*os.Root, *os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != nil && d.isStillThere() {
		return d.root, d.base, nil
	}
	// Not on the caller's thread: that of a slot sees other mounts than the rest of the agent,
	// and what is opened there leads everybody to what the slot sees.
	done := make(chan error)
	go func() { done <- d.openAgain() }()
	if err := <-done; err != nil {
		return nil, nil, err
	}
	return d.root, d.base, nil
}

// openAgain opens the directory, unless it is still there. The caller holds d.mu.
func (d *shareDir) openAgain() error {
	if d.root != nil && d.isStillThere() {
		return nil
	}
	if d.mounted {
		if err := isMount(d.share); err != nil {
			return err
		}
	}
	share, err := os.OpenRoot(d.share)
	if err != nil {
		return err
	}
	defer share.Close()
	top, err := share.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	jobs, err := openDirAt(top, "jobs", 0o755)
	if err != nil {
		return blameShare(err)
	}
	defer jobs.Close()
	base, err := openDirAt(jobs, d.pool, 0o755)
	if err != nil {
		return blameShare(err)
	}
	root, err := share.OpenRoot(path.Join("jobs", d.pool))
	if err == nil {
		err = sameDir(base, root)
	}
	if err == nil && d.probe != nil {
		err = d.probe(root)
	}
	if err != nil {
		base.Close()
		return err
	}
	d.root, d.base = root, base
	return nil
}

// isStillThere reports whether the directory is the one that the share's path leads to: a
// share that was taken away goes on under its open directories, out of the reach
// of the attempts' processes. The caller holds d.mu.
func (d *shareDir) isStillThere() bool {
	open, err := d.base.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(filepath.Join(d.share, "jobs", d.pool))
	return err == nil && os.SameFile(open, there)
}

// blameShare makes an obstacle above the jobs' own directories the share's: no job
// is to blame for it.
func blameShare(err error) error {
	var o obstacle
	if errors.As(err, &o) {
		return o
	}
	return err
}

// sameDir checks that a directory that was opened twice is one and the same.
func sameDir(dir *os.File, root *os.Root) error {
	one, err := dir.Stat()
	if err != nil {
		return err
	}
	other, err := root.Stat(".")
	if err != nil {
		return err
	}
	if !os.SameFile(one, other) {
		return obstacleFault(filepath.Base(dir.Name()), "directory")
	}
	return nil
}

// forget forgets the directory, so that the next open looks again: the share may
// have been mounted again. It stays open for those that are using it.
func (d *shareDir) forget() {
	d.mu.Lock()
	d.root, d.base = nil, nil
	d.mu.Unlock()
}

// attemptDir is an attempt's directory on the share.
type attemptDir struct {
	path           string // absolute
	root           *os.Root
	dir            *os.File     // nil, as root: it was a slot's ready tree
	stdout, stderr *os.File     // nil = the process writes into pipes
	logs           *attemptLogs // nil = the process writes to the files itself
}

// close closes what only the start of a process needs. It may be called twice.
func (a *attemptDir) close() {
	for _, f := range []*os.File{a.stdout, a.stderr, a.dir} {
		if f != nil {
			f.Close()
		}
	}
	if a.root != nil {
		a.root.Close()
	}
}

// openAttemptDir opens the directory of an attempt that has begun.
func (d *shareDir) openAttemptDir(w protocol.Assignment, o owner) (*os.File, error) {
	_, base, err := d.open()
	if err != nil {
		return nil, err
	}
	jobDir, err := openDirAt(base, w.Job, 0o755)
	if err != nil {
		return nil, err
	}
	defer jobDir.Close()
	return openDirAt(jobDir, strconv.Itoa(w.Attempt), uint32(o.dirMode()))
}

// makeAttemptDir creates an attempt's directory, its output directory, and its logs if the
// process writes to them itself. The
// names were checked by the caller. Owner < 0 leaves the owner alone. The error
// has its cause.
// A gang's ranks share the directory; all but the first have logs of their own.
func (d *shareDir) makeAttemptDir(w protocol.Assignment, owner owner) (*attemptDir, error) {
	a, err := d.tryMakeAttemptDir(w, owner)
	if err != nil && startfault.CauseOf(err, startfault.OnShare) == job.CauseShare {
		d.forget()
		a, err = d.tryMakeAttemptDir(w, owner)
	}
	if err != nil {
		return nil, startfault.New(startfault.CauseOf(err, startfault.OnShare),
			"the attempt's directory on the share cannot be made: %w", startfault.Innermost(err))
	}
	return a, nil
}

func (d *shareDir) tryMakeAttemptDir(w protocol.Assignment, owner owner) (_ *attemptDir, err error) {
	jobID, attempt, rank := w.Job, strconv.Itoa(w.Attempt), 0
	if w.Gang != nil {
		rank = w.Gang.Rank
	}
	root, base, err := d.open()
	if err != nil {
		return nil, err
	}
	jobDir, err := openDirAt(base, jobID, 0o755)
	if err != nil {
		return nil, err
	}
	defer jobDir.Close()
	dir, err := openDirAt(jobDir, attempt, uint32(owner.dirMode()))
	if err != nil {
		return nil, err
	}
	made := &attemptDir{path: filepath.Join(d.share, "jobs", d.pool, jobID, attempt), dir: dir}
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	if made.root, err = root.OpenRoot(jobID + "/" + attempt); err != nil {
		return nil, err
	}
	if err = sameDir(dir, made.root); err != nil {
		return nil, err
	}
	output, err := openDirAt(dir, "output", 0o755)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	if d.ownLogs {
		// Appending, so that an attempt that was sent twice overwrites nothing.
		if made.stdout, err = openFileAt(dir, job.LogFile("stdout", rank), os.O_APPEND, 0o644); err != nil {
			return nil, err
		}
		if made.stderr, err = openFileAt(dir, job.LogFile("stderr", rank), os.O_APPEND, 0o644); err != nil {
			return nil, err
		}
	}
	for _, stream := range logStreams {
		if err = checkFileAt(dir, job.LogFile(stream, rank)); err != nil {
			return nil, err
		}
	}
	owner.giveDirs(made, dir, output, d.pool, w)
	return made, nil
}

// workdir returns the absolute directory that the attempt starts in: a new and
// empty one of its own called name, one below it, or one that is on the share
// already. The error is a sentence for the job's owner.
func (a *attemptDir) workdir(share, name, wanted string, owner owner) (string, error) {
	switch {
	case strings.ContainsRune(wanted, 0):
		return "", startfault.New(job.CauseNoWorkdir, "the job's workdir holds a zero byte; write a plain path")
	case !filepath.IsAbs(wanted):
		if !filepath.IsLocal(filepath.Join(".", wanted)) {
			return "", startfault.New(job.CauseNoWorkdir,
				"the job's workdir %q leads out of its working directory; write a path below it, or an absolute one on the share",
				startfault.Clip(wanted))
		}
		if err := a.makeWorkdir(name); err != nil {
			return "", err
		}
		name = filepath.Join(name, wanted)
		if err := a.root.MkdirAll(name, 0o755); err != nil {
			fault := startfault.OfPath(err, job.CauseNoWorkdir)
			if startfault.IsFull(err) {
				fault = job.CauseShare
			}
			return "", startfault.New(fault,
				"the job's workdir %q cannot be made in its working directory: %w", startfault.Clip(wanted), startfault.Innermost(err))
		}
		for at := name; at != "."; at = filepath.Dir(at) {
			owner.give(a.root, at)
		}
		return filepath.Join(a.path, name), nil
	}
	base, err := filepath.EvalSymlinks(share)
	if err != nil {
		return "", startfault.New(startfault.OnShare(err), "the share cannot be read on the node: %w", startfault.Innermost(err))
	}
	real, err := filepath.EvalSymlinks(wanted)
	if err != nil {
		return "", startfault.New(startfault.OfPath(err, job.CauseNoWorkdir),
			"the job's workdir %q does not exist on the node, or cannot be read: %w", startfault.Clip(wanted), startfault.Innermost(err))
	}
	if below, err := filepath.Rel(base, real); err != nil || !filepath.IsLocal(below) {
		return "", startfault.New(job.CauseNoWorkdir, "the job's workdir %q is not on the share %s", startfault.Clip(wanted), share)
	}
	at, err := os.Stat(real)
	if err != nil {
		return "", startfault.New(startfault.OfPath(err, job.CauseNoWorkdir),
			"the job's workdir %q cannot be read on the node: %w", startfault.Clip(wanted), startfault.Innermost(err))
	}
	if !at.IsDir() {
		return "", startfault.New(job.CauseNoWorkdir, "the job's workdir %q is not a directory", startfault.Clip(wanted))
	}
	return real, nil
}

// makeWorkdir makes the attempt's own working directory, which no job has named.
func (a *attemptDir) makeWorkdir(name string) error {
	err := a.root.Mkdir(name, 0o755)
	if errors.Is(err, os.ErrExist) {
		var at os.FileInfo
		if at, err = a.root.Lstat(name); err == nil && !at.IsDir() {
			err = obstacleFault(name, "directory")
		}
	}
	if err != nil {
		return startfault.New(startfault.CauseOf(err, startfault.OnShare),
			"the attempt's working directory on the share cannot be made: %w", startfault.Innermost(err))
	}
	return nil
}

// owner is the user that attempts run as; the zero value is not valid.
type owner struct {
	uid, gid int
	after    *owner                               // who gets the files in the end; nil = they stay
	bare     bool                                 // the share keeps no owners
	mimic    func(root *os.Root, names ...string) // in tests: what such a share does by itself
}

// nobodyElse leaves every file with the agent's own user.
var nobodyElse = owner{uid: -1, gid: -1}

// give hands files to the owner. A share may have one owner for everything by
// its mount options and refuse; then those options decide, so errors are
// ignored.
func (o owner) give(root *os.Root, names ...string) {
	if o.bare {
		if o.mimic != nil {
			o.mimic(root, names...)
		}
		return
	}
	if o.uid < 0 {
		return
	}
	for _, name := range names {
		root.Lchown(name, o.uid, o.gid)
	}
}
