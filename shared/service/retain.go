package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store"
)

// What has been kept for long enough goes, in small steps, in this order: the rows
// of finished jobs, whose ids remember how they ended from then on; files on the
// share; the ids; and the audit trail last. Each step may be cut off anywhere and is gone on with by
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
	// auditAtOnce bounds the requests of the audit trail that one run forgets.
	auditAtOnce = 1000
)

// Retention removes what has been kept for long enough.
type Retention struct {
	store *store.Store
	keep  Keep
	files *files
	trees *Trees
	log   *slog.Logger
	now   func() time.Time
}

// Run lets go of what has been kept for long enough.
func (r *Retention) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, retainFor)
	defer cancel()
	var errs []error
	for _, step := range []func(context.Context) error{r.retainRows, r.retainFiles, r.retainTrees, r.retainNodes, r.retainIDs, r.retainAudit} {
		err := step(ctx)
		if ctx.Err() != nil {
			break // the rest with the next run
		}
		if !errors.Is(err, errAllowance) {
			errs = append(errs, err) // and the other steps go on: one damaged row, or a share that is not there, keeps nothing else
		}
	}
	return errors.Join(errs...)
}

func (r *Retention) retainRows(ctx context.Context) error {
	if r.keep.Finished == 0 {
		return nil
	}
	names, err := r.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		n, err := r.store.DropDone(ctx, name, r.now().Add(-r.keep.Finished), min(r.keep.Finished/patiencePart, mostPatience))
		if err != nil {
			errs = append(errs, err)
		}
		if n > 0 {
			r.log.InfoContext(ctx, "finished jobs removed; their ids keep how they ended", "pool", name, "jobs", n)
			if _, err := r.store.DropSeen(ctx, name, r.now().Add(-r.keep.Finished), r.now()); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// retainFiles removes files that are due. errAllowance: there is more than one run may
// remove.
func (r *Retention) retainFiles(ctx context.Context) error {
	if r.keep.Files == 0 {
		return nil
	}
	before := r.now().Add(-r.keep.Files)
	left := &allowance{entries: entriesAtOnce}
	// What fails is tried again by the next run, and keeps nothing else from going.
	var failed []error
	if r.keep.Finished == 0 || r.keep.Files < r.keep.Finished {
		names, err := r.store.PoolNames(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			for rest := true; rest; {
				var due []store.ArchivedJob
				var passed func(context.Context) error
				if due, passed, rest, err = r.store.FilesDue(ctx, name, before, rowsAtOnce); err != nil {
					return err
				}
				if err := r.removeAll(ctx, name, due, left, false); errors.Is(err, errAllowance) || ctx.Err() != nil {
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
	lists, err := r.store.DueExpiries(ctx, store.ExpireFiles, before, listsAtOnce)
	if err != nil {
		return err
	}
	for _, l := range lists {
		if err := r.removeAll(ctx, l.Pool, l.Jobs, left, true); errors.Is(err, errAllowance) || ctx.Err() != nil {
			return err
		} else if err != nil {
			failed = append(failed, fmt.Errorf("pool %s: %w", l.Pool, err))
			continue
		}
		if err := r.store.DeleteExpiry(ctx, l); err != nil {
			return err
		}
	}
	if len(failed) == 0 && len(lists) == listsAtOnce {
		return errAllowance
	}
	return errors.Join(failed...)
}

// removeAll removes the files of jobs that have ended. buried: their rows have gone,
// so that their ids have to say so.
func (r *Retention) removeAll(ctx context.Context, name string, jobs []store.ArchivedJob, left *allowance, buried bool) error {
	due := make([]string, len(jobs))
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(lookAtOnce)
	for i, b := range jobs {
		group.Go(func() error {
			row, err := r.store.Find(grouped, b.ID)
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
	return r.files.remove(ctx, name, due, left, func(id string, err error) {
		r.log.WarnContext(ctx, "files of a job cannot be removed and stay", "pool", name, "job", id, "error", err)
	})
}

func (r *Retention) retainIDs(ctx context.Context) error {
	if r.keep.IDs == 0 {
		return nil
	}
	before := r.now().Add(-r.keep.IDs)
	lists, err := r.store.DueExpiries(ctx, store.ExpireIDs, before, listsAtOnce)
	if err != nil {
		return err
	}
	for _, l := range lists {
		if err := r.store.DropIDs(ctx, l); err != nil {
			return err
		}
		if err := r.store.DeleteExpiry(ctx, l); err != nil {
			return err
		}
	}
	_, err = r.store.DropRejected(ctx, before, rejectedAtOnce)
	return err
}

func (r *Retention) retainAudit(ctx context.Context) error {
	if r.keep.Audit == 0 {
		return nil
	}
	_, err := r.store.DropAudit(ctx, r.now().Add(-r.keep.Audit), auditAtOnce)
	return err
}
