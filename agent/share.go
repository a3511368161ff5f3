//go:build unix

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// shareDir is the pool's directory on the share, `jobs/<pool>`. Everything below
// is reached through it, so that no link leads an attempt's files off the share.
type shareDir struct {
	share, pool string

	mu   sync.Mutex
	root *os.Root // nil = not open
}

// open returns the pool's directory, made when it is not there.
func (d *shareDir) open() (*os.Root, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != nil {
		return d.root, nil
	}
	share, err := os.OpenRoot(d.share)
	if err != nil {
		return nil, err
	}
	defer share.Close()
	name := path.Join("jobs", d.pool)
	if err := share.MkdirAll(name, 0o755); err != nil {
		return nil, err
	}
	d.root, err = share.OpenRoot(name)
	return d.root, err
}

// lose forgets the directory, so that the next open looks anew: the share may
// have been mounted again. It stays open for those that are using it.
func (d *shareDir) lose() {
	d.mu.Lock()
	d.root = nil
	d.mu.Unlock()
}

// attemptDir is an attempt's directory on the share with its open log files.
type attemptDir struct {
	root           *os.Root
	path           string // absolute
	stdout, stderr *os.File
}

func (a *attemptDir) close() {
	for _, f := range []*os.File{a.stdout, a.stderr} {
		if f != nil {
			f.Close()
		}
	}
	if a.root != nil {
		a.root.Close()
	}
}

// make creates an attempt's directory, its output directory and its logs. The
// names were checked by the caller. Owner < 0 leaves the owner alone.
// A gang's ranks share the directory; all but the first have logs of their own.
func (d *shareDir) make(w protocol.Assignment, owner owner) (*attemptDir, error) {
	a, err := d.try(w, owner)
	if err != nil {
		d.lose()
		a, err = d.try(w, owner)
	}
	return a, err
}

func (d *shareDir) try(w protocol.Assignment, owner owner) (a *attemptDir, err error) {
	jobID, attempt, rank := w.Job, w.Attempt, 0
	if w.Gang != nil {
		rank = w.Gang.Rank
	}
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	name := jobID + "/" + strconv.Itoa(attempt)
	// Most attempts are the first of their job.
	err = root.Mkdir(jobID, 0o755)
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = root.Mkdir(name, owner.first())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if errors.Is(err, fs.ErrExist) {
		for _, n := range []string{jobID, name} {
			if at, err := root.Lstat(n); err != nil || !at.IsDir() {
				return nil, fmt.Errorf("%s on the share is not a directory", n)
			}
		}
	}
	a = &attemptDir{path: filepath.Join(d.share, "jobs", d.pool, jobID, strconv.Itoa(attempt))}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.root, err = root.OpenRoot(name); err != nil {
		return nil, err
	}
	if err = a.root.Mkdir("output", 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	for _, log := range []struct {
		name string
		into **os.File
	}{{job.LogFile("stdout", rank), &a.stdout}, {job.LogFile("stderr", rank), &a.stderr}} {
		// Appending, so that an attempt that was sent twice overwrites nothing.
		if *log.into, err = a.root.OpenFile(log.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
			return nil, err
		}
	}
	owner.open(a.root, d.pool, w)
	return a, nil
}

// workdir returns the absolute directory that the attempt starts in: a new and
// empty one of its own called name, one below it, or one that is on the share
// already. The error is a sentence for the job's owner.
func (a *attemptDir) workdir(share, name, wanted string, owner owner) (string, error) {
	switch {
	case strings.ContainsRune(wanted, 0):
		return "", errors.New("the job's workdir holds a zero byte; write a plain path")
	case !filepath.IsAbs(wanted):
		if !filepath.IsLocal(filepath.Join(".", wanted)) {
			return "", fmt.Errorf("the job's workdir %q leads out of its working directory; write a path below it, or an absolute one on the share", clip(wanted))
		}
		name = filepath.Join(name, wanted)
		if err := a.root.MkdirAll(name, 0o755); err != nil {
			return "", fmt.Errorf("the job's workdir %q cannot be made in its working directory", clip(wanted))
		}
		for at := name; at != "."; at = filepath.Dir(at) {
			owner.give(a.root, at)
		}
		return filepath.Join(a.path, name), nil
	}
	real, err := filepath.EvalSymlinks(wanted)
	if err != nil {
		return "", fmt.Errorf("the job's workdir %q does not exist on the node", clip(wanted))
	}
	base, err := filepath.EvalSymlinks(share)
	if err != nil {
		return "", fmt.Errorf("the share cannot be read on the node: %v", cause(err))
	}
	if below, err := filepath.Rel(base, real); err != nil || !filepath.IsLocal(below) {
		return "", fmt.Errorf("the job's workdir %q is not on the share %s", clip(wanted), share)
	}
	if at, err := os.Stat(real); err != nil || !at.IsDir() {
		return "", fmt.Errorf("the job's workdir %q is not a directory", clip(wanted))
	}
	return real, nil
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

// cause is the innermost reason of a file error, without the path.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// clip keeps a quoted text readable.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
