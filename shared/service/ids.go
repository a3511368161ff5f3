package service

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
)

// What an id stands for when its job is not to be found. It can be
//
//	a job whose rows have gone, with its pool or by age: the id remembers its end;
//	a member of a sweep that has not begun, or never will;
//	a job on its way: its id is registered first, its row written a moment later;
//	a job that was lost on that way: the process ended in between, and its message,
//	if it had one, did not come again. It is given up after a time, as rejected.

const (
	// lostHTTP is after which time nothing can still be on its way that came over
	// HTTP: the platform ends a request after 230 s.
	lostHTTP = 5 * time.Minute
	// lostQueue is added to the times after which a dead-lettered message comes back
	// (DSVM_REVIVE_AFTER): a message may be tried for so long before it is dead.
	lostQueue = 10 * time.Minute
)

// registry knows what the ids of jobs stand for.
type registry struct {
	store       *store.Store
	log         *slog.Logger
	now         func() time.Time
	reviveAfter []time.Duration
}

// lostAfter is after which time a job that was registered and is nowhere is lost.
func (r *registry) lostAfter(via string) time.Duration {
	if via == store.ByHTTP {
		return lostHTTP
	}
	all := lostQueue
	for _, d := range r.reviveAfter {
		all += d
	}
	return all
}

// find finds a job in any state. fault.NotFound: nothing is known under the id.
func (r *registry) find(ctx context.Context, id string) (*pool.Job, error) {
	row, err := r.store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if row.State == job.Rejected {
		return rejectedJob(row), nil
	}
	j, err := r.store.Job(ctx, row.Pool, row.Order)
	if err == nil {
		if _, _, isMember := job.SweepOrder(row.Order); !isMember {
			j.ConflictAt = row.ConflictAt
		}
	}
	if fault.CodeOf(err) != fault.NotFound {
		return j, err
	}
	// Its tombstone was there before its row went: look again, if it was not yet.
	if !row.HasEnded() {
		if row, err = r.store.Find(ctx, id); err != nil {
			return nil, err
		}
	}
	if row, err = r.giveUpLost(ctx, row); err != nil {
		return nil, err
	}
	switch {
	case row.State == job.Rejected:
		return rejectedJob(row), nil
	case row.HasEnded():
		return endedJob(row), nil
	}
	return submittedJob(row), nil
}

// jobOfID returns what an id alone says of its job, whose document nobody keeps: readers
// are shown no document, see wire.NewJobDetail.
func jobOfID(row store.ID, state job.State) *pool.Job {
	j := &pool.Job{ID: row.ID, State: state, Reason: row.Reason, SubmittedAt: row.At, Spec: job.Spec{ID: row.ID, Pool: row.Pool}}
	if _, _, isMember := job.SweepOrder(row.Order); !isMember {
		j.ConflictAt = row.ConflictAt
	}
	return j
}

// submittedJob returns a job that is registered and not committed yet.
func submittedJob(row store.ID) *pool.Job {
	j := jobOfID(row, job.Submitted)
	j.Order = row.Order
	return j
}

// rejectedJob returns a job that was refused; it belongs to no pool.
func rejectedJob(row store.ID) *pool.Job {
	j := jobOfID(row, job.Rejected)
	j.EndedAt = row.At
	return j
}

// giveUpLost gives up a job that is nowhere and can no longer be on its way. It returns
// the row as it is then.
func (r *registry) giveUpLost(ctx context.Context, row store.ID) (store.ID, error) {
	if _, _, member := job.SweepOrder(row.Order); member || row.State != "" {
		return row, nil
	}
	after := r.lostAfter(row.Via)
	if r.now().Sub(registeredAt(row)) < after {
		return row, nil
	}
	reason := fmt.Sprintf(
		"it was accepted and did not reach its pool %q within %s: what took it in was cut off, or the pool was deleted meanwhile; "+
			"send the same document again",
		row.Pool,
		job.Duration(after),
	)
	r.log.WarnContext(
		ctx,
		"giving up a job that was registered and is nowhere",
		"job",
		row.ID,
		"pool",
		row.Pool,
		"registered",
		registeredAt(row),
	)
	now, err := r.store.RejectLost(ctx, row, reason, r.now())
	if fault.CodeOf(err) == fault.NotFound {
		return row, job.NoJob(row.ID)
	}
	return now, err
}

// registeredAt is when an id was registered last.
func registeredAt(row store.ID) time.Time {
	if row.ClaimedAt.After(row.At) {
		return row.ClaimedAt
	}
	return row.At
}

// endedJob returns a job whose rows have gone, as its id remembers it.
func endedJob(row store.ID) *pool.Job {
	e := row.End
	j := jobOfID(row, row.State)
	j.Order, j.ExitCode, j.EndedAt = row.Order, e.ExitCode, e.EndedAt
	j.Spec.Name, j.Spec.Team, j.Spec.User, j.Spec.Nodes = e.Name, e.Team, e.User, e.Nodes
	j.Archived = &pool.Archived{StartedAt: e.StartedAt, Attempts: e.Attempts}
	if e.Members > 0 {
		j.ArchiveSweep(
			e.Members,
			pool.Progress{StartedAt: e.StartedAt, Succeeded: e.Succeeded, Failed: e.Failed, TimedOut: e.TimedOut, Cancelled: e.Cancelled},
		)
	}
	return j
}

// isRepeated reports whether a job that would be refused is no new one: the same
// document was taken in before, and stands under its id, alive or ended.
func (r *registry) isRepeated(ctx context.Context, spec *job.Spec) (bool, error) {
	row, err := r.store.ID(ctx, spec.ID)
	if fault.CodeOf(err) == fault.NotFound ||
		err == nil && (row.State == job.Rejected || row.Pool != spec.Pool || row.Hash != spec.Hash()) {
		return false, nil
	}
	if err != nil || row.HasEnded() {
		return err == nil, err
	}
	j, err := r.find(ctx, spec.ID)
	return err == nil && j.State != job.Submitted && j.State != job.Rejected, err
}

// IsRepeated reports whether a job that would be refused is no new one: the same
// document was taken in before, and stands under its id, alive or ended.
func (s *Jobs) IsRepeated(ctx context.Context, spec *job.Spec) (bool, error) {
	return s.ids.isRepeated(ctx, spec)
}

// forsakeDead gives up the id of a dead message whose job is nowhere, so that the
// message can be rejected under it.
func (r *registry) forsakeDead(ctx context.Context, id, reason string) error {
	row, err := r.store.ID(ctx, id)
	if fault.CodeOf(err) == fault.NotFound || err == nil && (row.State != "" || r.now().Sub(registeredAt(row)) < lostHTTP) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := r.store.Job(ctx, row.Pool, row.Order); fault.CodeOf(err) != fault.NotFound {
		return err
	}
	_, err = r.store.RejectLost(ctx, row, reason, r.now())
	return err
}

// driveStore is the store as the driver uses it: an id that is lost does not keep
// those waiting that come after it.
type driveStore struct {
	*store.Store
	ids *registry
}

// EndStates says how jobs have ended; see drive.Store.
func (s driveStore) EndStates(ctx context.Context, ids []string) (map[string]pool.EndState, error) {
	states, err := s.Store.EndStates(ctx, ids)
	if err != nil {
		return nil, err
	}
	open := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return states[id].State != "" || states[id].Forgotten })
	rows, err := s.FindAll(ctx, open)
	if err != nil {
		return states, nil // what is lost is given up later
	}
	for id, row := range rows {
		if row.State != "" || s.ids.now().Sub(registeredAt(row)) < s.ids.lostAfter(row.Via) {
			continue
		}
		if j, err := s.ids.find(ctx, id); err == nil && j.State == job.Rejected {
			states[id] = pool.EndState{Pool: row.Pool, State: job.Rejected}
		}
	}
	return states, nil
}
