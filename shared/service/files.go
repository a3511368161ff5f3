package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"dsvmpools/shared/fault"
)

// Jobs write what they like below their directories, and may do so while they are
// removed. So every directory is opened by its name in the one above, and must be
// what was seen there: no link is followed, wherever it leads.

const (
	// entriesAtOnce bounds what one run removes: about half a minute on a share.
	entriesAtOnce = 20_000
	// namesAtOnce are read of a directory with one call.
	namesAtOnce = 256
	// maxDepth bounds the directories that are open at once.
	maxDepth = 100
)

var (
	// errAllowance: there is more than one run removes.
	errAllowance = errors.New("more is left than one run removes")
	errLink      = errors.New("it is not a directory, or became another one meanwhile")
	errDeep      = fmt.Errorf("it has more than %d directories within each other", maxDepth)
)

// allowance is how many entries may still be removed.
type allowance struct{ entries int }

func (b *allowance) take(ctx context.Context) error {
	if b.entries--; b.entries < 0 || ctx.Err() != nil {
		return errAllowance
	}
	return nil
}

// files removes files of jobs from the share. One removal at a time: a share that
// does not answer holds one goroutine and no more.
type files struct {
	share string
	busy  chan struct{} // holds a token while nobody removes
}

func newFiles(share string) *files {
	f := &files{share: share, busy: make(chan struct{}, 1)}
	f.busy <- struct{}{}
	return f
}

// remove removes the directories of jobs of a pool. One whose files can never be
// removed is left and reported through stays. Any error means that not all were
// tried; errAllowance that the allowance or the time is used up.
func (f *files) remove(ctx context.Context, pool string, ids []string, left *allowance, stays func(id string, err error)) error {
	if len(ids) == 0 {
		return nil
	}
	select {
	case <-f.busy:
	default:
		return fault.New(fault.Internal, "", "the share does not answer: an earlier removal of files has not come to its end")
	}
	type kept struct {
		id  string
		err error
	}
	type outcome struct {
		kept []kept
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		var out outcome
		func() {
			defer func() { f.busy <- struct{}{} }() // before the outcome: the next removal may follow at once
			out.err = f.each(ctx, pool, ids, left, func(id string, err error) { out.kept = append(out.kept, kept{id, err}) })
		}()
		done <- out
	}()
	select {
	case out := <-done:
		for _, k := range out.kept {
			stays(k.id, k.err)
		}
		return out.err
	case <-ctx.Done():
		return errAllowance
	}
}

func (f *files) each(ctx context.Context, pool string, ids []string, left *allowance, stays func(id string, err error)) error {
	share, err := os.OpenRoot(f.share)
	if err != nil {
		return fmt.Errorf("the share cannot be read: %w", err)
	}
	defer share.Close()
	parent := share
	for _, name := range []string{"jobs", pool} {
		below, err := enter(parent, name)
		if errors.Is(err, fs.ErrNotExist) && parent != share {
			return nil // nothing is left of the pool; a share without jobs is rather one that is not mounted
		}
		if err != nil {
			return fmt.Errorf("%s on the share: %w", name, err)
		}
		defer below.Close()
		parent = below
	}
	var failed []error
	for _, id := range ids {
		if id == "." || id == ".." || path.Base(id) != id {
			continue // no directory has such a name
		}
		err := remove(ctx, parent, id, left, 0)
		if errors.Is(err, fs.ErrExist) { // not empty: something has come into it meanwhile
			err = remove(ctx, parent, id, left, 0)
		}
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrExist), errors.Is(err, errLink), errors.Is(err, errDeep):
			stays(id, err)
		case errors.Is(err, errAllowance), ctx.Err() != nil:
			return err
		default: // it may do better next time; meanwhile it holds up nobody else
			failed = append(failed, fmt.Errorf("job %s: %w", id, err))
		}
	}
	return errors.Join(failed...)
}

// enter opens a directory by its name in another one, and only if it is one.
func enter(parent *os.Root, name string) (*os.Root, error) {
	seen, err := parent.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !seen.IsDir() {
		return nil, errLink
	}
	below, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if opened, err := below.Stat("."); err != nil || !os.SameFile(seen, opened) {
		below.Close()
		return nil, errors.Join(errLink, err)
	}
	return below, nil
}

// remove removes what is under a name, to its bottom. What has gone by itself is
// fine, and a link is removed and not followed.
func remove(ctx context.Context, parent *os.Root, name string, left *allowance, depth int) error {
	if err := left.take(ctx); err != nil {
		return err
	}
	seen, err := parent.Lstat(name)
	if err == nil && seen.IsDir() {
		err = empty(ctx, parent, name, left, depth)
	}
	if err == nil {
		err = parent.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// empty removes everything in a directory.
func empty(ctx context.Context, parent *os.Root, name string, left *allowance, depth int) error {
	if depth == maxDepth {
		return errDeep
	}
	dir, err := enter(parent, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	list, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer list.Close()
	_ = list.Chmod(0o700) // a job may have taken the right to write away; where it is not ours, removing says so
	for {
		names, err := list.Readdirnames(namesAtOnce)
		for _, n := range names {
			if err := remove(ctx, dir, n, left, depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
