package service

import (
	"context"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// Jobs submits, cancels, releases, shows and explains jobs.
type Jobs struct {
	store  *store.Store
	driver *drive.Driver
	ids    *registry
	orders orders
	doors  *Doors // nil = nobody comes in
	now    func() time.Time

	shareRoots []string
	longLists  chan struct{} // full while as many long lists are read as may be
	costs      knownCosts
}

// Submit takes one job in and answers when it is committed.
func (s *Jobs) Submit(ctx context.Context, spec job.Spec) (*pool.Job, error) {
	one := &Submission{Spec: spec, Via: store.ByHTTP}
	refused, err := s.Admit(ctx, spec.Pool, []*Submission{one})
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		if err := s.refuseWithoutPool(ctx, &spec); err != nil {
			return nil, err
		}
		return s.Job(ctx, spec.ID)
	case err != nil:
		return nil, err
	case refused[one] != nil:
		return nil, refused[one]
	}
	if one.order != "" {
		if j, err := s.store.Job(ctx, spec.Pool, one.order); fault.CodeOf(err) != fault.NotFound {
			return j, err
		}
	}
	return s.Job(ctx, spec.ID)
}

// Cancel asks for a job to end.
func (s *Jobs) Cancel(ctx context.Context, id string) (*pool.Job, error) {
	return s.notifyPool(ctx, id, func(order string) pool.Event { return pool.Cancel{Order: order, Reason: job.CancelledByRequest} })
}

// notifyPool brings a job's pool an event about it.
func (s *Jobs) notifyPool(ctx context.Context, id string, event func(order string) pool.Event) (*pool.Job, error) {
	row, err := s.registered(ctx, id)
	if err != nil {
		return nil, err
	}
	if row.State == job.Rejected || row.HasEnded() {
		return s.Job(ctx, id)
	}
	if err := driveIfThere(ctx, s.driver, row.Pool, event(row.Order)); err != nil {
		return nil, err
	}
	return s.Job(ctx, id)
}

// CancelAll asks everything of a team or a user to end, pool by pool.
func (s *Jobs) CancelAll(ctx context.Context, f wire.JobFilter) (int, error) {
	pools := []string{f.Pool}
	var err error
	if f.Pool == "" {
		pools, err = s.store.PoolNames(ctx)
	} else {
		err = checkPoolName(ctx, s.store, f.Pool)
	}
	if err != nil {
		return 0, err
	}
	all := 0
	for _, name := range pools {
		out, err := s.driver.Drive(ctx, name, pool.CancelAll{Team: f.Team, User: f.User, Reason: job.CancelledByRequest})
		switch {
		case fault.CodeOf(err) == fault.NotFound && f.Pool != "":
			return 0, s.NoPool(ctx, name)
		case err != nil && fault.CodeOf(err) != fault.NotFound:
			return 0, err
		}
		all += out.Cancelled
	}
	return all, nil
}

// NoPool is the error for a name that no pool has. It names the pool that may be meant.
func (s *Jobs) NoPool(ctx context.Context, name string) *fault.Error {
	return noPool(ctx, s.store, name)
}

func noPool(ctx context.Context, all *store.Store, name string) *fault.Error {
	known, err := all.PoolNames(ctx)
	if err != nil {
		known = nil // only the hint is lost
	}
	return job.NoPool(name, known...)
}

// checkPoolName returns an error for a name that no pool can have: there is none, and the
// name must not get into a key.
func checkPoolName(ctx context.Context, all *store.Store, name string) error {
	if job.CheckPool("pool", name) != nil {
		return noPool(ctx, all, name)
	}
	return nil
}

// checkPool returns an error when there is no pool of that name.
func (s *Jobs) checkPool(ctx context.Context, name string) error {
	_, err := s.store.Head(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		return s.NoPool(ctx, name)
	}
	return err
}

// Job finds a job in any state.
func (s *Jobs) Job(ctx context.Context, id string) (*pool.Job, error) {
	j, err := s.ids.find(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, job.NoJob(id)
	}
	return j, err
}

// Explain says why a job is where it is: of a live one, its pool does.
func (s *Jobs) Explain(ctx context.Context, id string) (wire.Explanation, error) {
	j, err := s.Job(ctx, id)
	if err != nil {
		return wire.Explanation{}, err
	}
	if !j.State.Final() {
		e, live, err := s.driver.Explain(ctx, j.Spec.Pool, j.Order)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return wire.Explanation{}, err
		}
		if live {
			out := wire.NewExplanation(j.ID, j.Spec.Pool, e)
			out.After, err = s.lookAtAfter(ctx, e.After)
			return out, err
		}
	}
	return wire.ExplainEnded(wire.NewJob(j)), nil
}

// lookAtAfter says where the jobs are that another one waits for.
func (s *Jobs) lookAtAfter(ctx context.Context, ids []string) ([]wire.AfterJob, error) {
	var all []wire.AfterJob
	for _, id := range ids[:min(len(ids), wire.MaxAfterShown)] {
		j, err := s.ids.find(ctx, id)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			all = append(all, wire.AfterJob{ID: id})
		case err != nil:
			return nil, err
		default:
			all = append(all, wire.AfterJob{ID: id, Pool: j.Spec.Pool, State: j.State})
		}
	}
	return all, nil
}

func (s *Jobs) registered(ctx context.Context, id string) (store.ID, error) {
	row, err := s.store.Find(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return row, job.NoJob(id)
	}
	return row, err
}
