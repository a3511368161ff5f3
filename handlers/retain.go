package handlers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store"
)

// What has been kept for long enough goes, in small steps, in this order: the rows
// of finished jobs, whose ids remember how they ended from then on; files on the
// share; and the ids last. Each step may be cut off anywhere and is gone on with by
// the next run.

const (
	// retainFor bounds one run.
	retainFor = 30 * time.Second
	// A few finished rows wait for more, but for no longer than this part of the time
	// that rows are kept, and no longer than mostPatience: many at once cost little more.
	patiencePart = 20
	mostPatience = time.Hour
	// listsAtOnce bounds the lists of what is to go that one run reads, of up to a
	// thousand jobs each.
	listsAtOnce = 10
	// rowsAtOnce bounds the finished rows that are looked at with one request for
	// files that are due.
	rowsAtOnce = 500
	// lookAtOnce bounds the ids that are read side by side.
	lookAtOnce = 8
	// rejectedAtOnce bounds the rejections that one run forgets.
	rejectedAtOnce = 500
)

// retain lets go of what has been kept for long enough.
func (f *Functions) retain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, retainFor)
	defer cancel()
	var errs []error
	for _, step := range []func(context.Context) error{f.retainRows, f.retainFiles, f.retainIDs} {
		err := step(ctx)
		if ctx.Err() != nil {
			break // the rest with the next run
		}
		if !errors.Is(err, errBudget) {
			errs = append(errs, err) // and the other steps go on: one damaged row, or a share that is not there, keeps nothing else
		}
	}
	return errors.Join(errs...)
}

func (f *Functions) retainRows(ctx context.Context) error {
	if f.keep.Finished == 0 {
		return nil
	}
	names, err := f.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		n, err := f.store.DropDone(ctx, name, f.now().Add(-f.keep.Finished), min(f.keep.Finished/patiencePart, mostPatience))
		if err != nil {
			errs = append(errs, err)
		}
		if n > 0 {
			f.log.Info("finished jobs are no longer kept but for their ends", "pool", name, "jobs", n)
		}
	}
	return errors.Join(errs...)
}

// retainFiles removes files that are due. errBudget: there is more than one run may
// remove.
func (f *Functions) retainFiles(ctx context.Context) error {
	if f.keep.Files == 0 {
		return nil
	}
	before := f.now().Add(-f.keep.Files)
	left := &budget{entries: entriesAtOnce}
	// What fails is tried again by the next run, and keeps nothing else from going.
	var failed []error
	if f.keep.Finished == 0 || f.keep.Files < f.keep.Finished {
		names, err := f.store.PoolNames(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			for rest := true; rest; {
				var due []store.ArchivedJob
				var passed func(context.Context) error
				if due, passed, rest, err = f.store.FilesDue(ctx, name, before, rowsAtOnce); err != nil {
					return err
				}
				if err := f.removeAll(ctx, name, due, left, false); errors.Is(err, errBudget) || ctx.Err() != nil {
					return err
				} else if err != nil {
					failed = append(failed, fmt.Errorf("pool %s: %w", name, err))
					break
				}
				if err := passed(ctx); err != nil {
					return err
				}
			}
		}
	}
	lists, err := f.store.DueExpiries(ctx, store.ExpireFiles, before, listsAtOnce)
	if err != nil {
		return err
	}
	for _, l := range lists {
		if err := f.removeAll(ctx, l.Pool, l.Jobs, left, true); errors.Is(err, errBudget) || ctx.Err() != nil {
			return err
		} else if err != nil {
			failed = append(failed, fmt.Errorf("pool %s: %w", l.Pool, err))
			continue
		}
		if err := f.store.DeleteExpiry(ctx, l); err != nil {
			return err
		}
	}
	if len(failed) == 0 && len(lists) == listsAtOnce {
		return errBudget
	}
	return errors.Join(failed...)
}

// removeAll removes the files of jobs that have ended. buried: their rows have gone,
// so that their ids have to say so.
func (f *Functions) removeAll(ctx context.Context, name string, jobs []store.ArchivedJob, left *budget, buried bool) error {
	due := make([]string, len(jobs))
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(lookAtOnce)
	for i, b := range jobs {
		group.Go(func() error {
			row, err := f.store.Find(grouped, b.ID)
			switch {
			case fault.CodeOf(err) == fault.NotFound: // forgotten: nobody can ask for its files
			case err != nil:
				return err
			case row.Order != b.Order || buried && !row.HasEnded():
				return nil // the files are another job's by now
			}
			due[i] = b.ID
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	due = slices.DeleteFunc(due, func(id string) bool { return id == "" })
	return f.files.remove(ctx, name, due, left, func(id string, err error) {
		f.log.Warn("files of a job cannot be removed and stay", "pool", name, "job", id, "error", err)
	})
}

func (f *Functions) retainIDs(ctx context.Context) error {
	if f.keep.IDs == 0 {
		return nil
	}
	before := f.now().Add(-f.keep.IDs)
	lists, err := f.store.DueExpiries(ctx, store.ExpireIDs, before, listsAtOnce)
	if err != nil {
		return err
	}
	for _, l := range lists {
		if err := f.store.DropIDs(ctx, l); err != nil {
			return err
		}
		if err := f.store.DeleteExpiry(ctx, l); err != nil {
			return err
		}
	}
	_, err = f.store.DropRejected(ctx, before, rejectedAtOnce)
	return err
}
