package service

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The agent of a node keeps directories of its own beside those of the jobs, `+<vmid>` in
// `jobs/<pool>`, with what its next attempts find. It removes them when it ends. Those of a
// node that was deleted stay, and are removed here.

const (
	// ownDirsEvery is between two looks at all pools' directories: each reads the names of
	// all jobs that have files.
	ownDirsEvery = 24 * time.Hour
	// ownDirsAge is how long such a directory was not changed: a node may not be in the rows yet.
	ownDirsAge = time.Hour
	// ownDirsNote is the file whose time is that of the last look.
	ownDirsNote = "+looked"
)

// retainNodes removes what nodes have left that are gone.
func (r *Retention) retainNodes(ctx context.Context) error {
	now := r.now()
	all, err := onShare(r.trees, retainFor, func() (map[string][]string, error) { return r.files.ownDirs(now) })
	if err != nil {
		return err
	}
	left := &allowance{entries: entriesAtOnce}
	var failed []error
	for pool, names := range all {
		var gone []string
		for _, name := range names {
			vmid := name[1:]
			for _, prefix := range []string{"probe.", "owner."} { // of an agent that was killed while it tried the share
				vmid = strings.TrimPrefix(vmid, prefix)
			}
			has, err := r.store.HasNode(ctx, pool, vmid)
			if err != nil {
				return err
			}
			if !has {
				gone = append(gone, name)
			}
		}
		err := r.files.remove(ctx, pool, gone, left, func(name string, err error) {
			r.log.WarnContext(ctx, "directory of a node that is gone cannot be removed", "pool", pool, "directory", name, "error", err)
		})
		if errors.Is(err, errAllowance) || ctx.Err() != nil {
			return err
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// ownDirs lists by pool the directories of nodes that nobody has changed for a while, once
// a day.
func (f *files) ownDirs(now time.Time) (map[string][]string, error) {
	top := filepath.Join(f.share, "jobs")
	note := filepath.Join(top, ownDirsNote)
	if at, err := os.Lstat(note); err == nil && now.Sub(at.ModTime()) < ownDirsEvery {
		return nil, nil
	}
	pools, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no job has run yet, or the share is not there, which others say
	}
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, p := range pools {
		if !p.IsDir() {
			continue
		}
		if all[p.Name()], err = oldOwnDirs(filepath.Join(top, p.Name()), now.Add(-ownDirsAge)); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(note, nil, 0o644); err != nil {
		return nil, err
	}
	return all, os.Chtimes(note, now, now)
}

// oldOwnDirs lists what nodes have in the directory of a pool and was not changed since a time.
func oldOwnDirs(dir string, since time.Time) (old []string, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(namesAtOnce)
		for _, name := range names {
			if !strings.HasPrefix(name, "+") { // which is in no job's id
				continue
			}
			if at, err := os.Lstat(filepath.Join(dir, name)); err == nil && at.ModTime().Before(since) {
				old = append(old, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return old, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
