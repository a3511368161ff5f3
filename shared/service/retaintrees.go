package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

const (
	// treesAtOnce bounds the files that one run removes.
	treesAtOnce = 2000
	// packsLater is how much longer packs stay than trees: whatever names a pack is
	// younger than that, or has been touched together with it.
	packsLater = 24 * time.Hour
	// draftsFor is how long a writer may take at most. What is older was left by one that
	// was killed.
	draftsFor = time.Hour
)

// retainTrees removes the trees, and then the packs, that nobody has used for long
// enough. A tree that a live job names is in use.
func (r *Retention) retainTrees(ctx context.Context) error {
	if r.keep.Trees == 0 {
		return nil
	}
	now := r.now()
	drafts, err := onShare(r.trees, retainFor, func() (int, error) { return r.trees.store.SweepDrafts(now.Add(-draftsFor)) })
	if drafts > 0 {
		r.log.InfoContext(ctx, "drafts of packs and trees removed", "files", drafts)
	}
	errs := []error{err}
	left := treesAtOnce
	trees, err := r.unused(treestore.Tree, now.Add(-r.keep.Trees))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if len(trees) > 0 {
		named, err := r.treesOfLiveJobs(ctx)
		if err != nil {
			return err // nothing is removed while nobody knows what is named
		}
		unnamed := trees[:0]
		for _, f := range trees {
			if !named[f.Hash] {
				unnamed = append(unnamed, f)
				continue
			}
			if _, err := onShare(r.trees, treeCallWithin, func() (bool, error) { return r.trees.touchTree(f.Hash) }); err != nil {
				return err // its packs may be old, and must not go
			}
		}
		errs = append(errs, r.removeUnused(ctx, treestore.Tree, unnamed, now.Add(-r.keep.Trees), &left))
	}
	packs, err := r.unused(treestore.Pack, now.Add(-r.keep.Trees-packsLater))
	errs = append(errs, err, r.removeUnused(ctx, treestore.Pack, packs, now.Add(-r.keep.Trees-packsLater), &left))
	return errors.Join(errs...)
}

// unused lists the files of a kind that were not used since a time.
func (r *Retention) unused(kind treestore.Kind, since time.Time) ([]treestore.File, error) {
	all, err := onShare(r.trees, treeWriteWithin, func() ([]treestore.File, error) { return r.trees.store.List(kind) })
	if err != nil {
		return nil, fmt.Errorf("the %s on the share: %w", kind, err)
	}
	old := all[:0]
	for _, f := range all {
		if !f.Used.After(since) {
			old = append(old, f)
		}
	}
	return old, nil
}

func (r *Retention) removeUnused(ctx context.Context, kind treestore.Kind, files []treestore.File, since time.Time, left *int) error {
	removed := 0
	for _, f := range files {
		if *left == 0 || ctx.Err() != nil {
			break
		}
		*left--
		gone, err := onShare(r.trees, treeCallWithin, func() (bool, error) { return r.trees.store.Remove(kind, f.Hash, since) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the %s on the share: %w", kind, err)
		}
		if gone {
			removed++
		}
		if gone && kind == treestore.Pack {
			r.trees.index.forget(f.Hash)
		}
	}
	if removed > 0 {
		r.log.InfoContext(ctx, "files of sent folders removed", "kind", string(kind), "files", removed)
	}
	return nil
}

// treesOfLiveJobs lists the trees that jobs name which have not ended.
func (r *Retention) treesOfLiveJobs(ctx context.Context) (map[tree.Hash]bool, error) {
	pools, err := r.store.PoolNames(ctx)
	if err != nil {
		return nil, err
	}
	named := map[tree.Hash]bool{}
	for _, name := range pools {
		live := liveTrees{named: named}
		_, _, err := r.store.LoadInto(ctx, name, &live)
		if err != nil && fault.CodeOf(err) != fault.NotFound { // it was deleted meanwhile
			return nil, err
		}
	}
	return named, nil
}

// liveTrees is a pool.JobSink that keeps the trees that jobs name, and not the jobs. A tree that
// it has seen stays: it is kept until the next time.
type liveTrees struct {
	named map[tree.Hash]bool
	jobs  int
}

// Begin forgets how many jobs there were.
func (l *liveTrees) Begin() { l.jobs = 0 }

// Put keeps the trees of jobs.
func (l *liveTrees) Put(rows ...*pool.Job) {
	l.jobs += len(rows)
	for _, j := range rows {
		if j.Spec.Source == nil {
			continue
		}
		if h, ok := tree.ParseName(j.Spec.Source.Tree); ok {
			l.named[h] = true
		}
	}
}

// Drop keeps what is there.
func (l *liveTrees) Drop(map[string]bool) {}

// Len is how many jobs were put.
func (l *liveTrees) Len() int { return l.jobs }
