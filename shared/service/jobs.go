package service

import (
	"context"
	"encoding/base64"
	"encoding/json"
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
	now    func() time.Time
}

// Submit takes one job in and answers when it is committed.
func (s *Jobs) Submit(ctx context.Context, spec job.Spec) (*pool.Job, error) {
	one := &Submission{Spec: spec, Via: store.ByHTTP}
	refused, err := s.Admit(ctx, spec.Pool, []*Submission{one})
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		repeated, err := s.ids.isRepeated(ctx, &spec)
		switch {
		case err != nil:
			return nil, err
		case repeated:
			return s.Job(ctx, spec.ID)
		}
		return nil, job.NoPool(spec.Pool)
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

// Release lets a job or a sweep go on that is held.
func (s *Jobs) Release(ctx context.Context, id string) (*pool.Job, error) {
	return s.notifyPool(ctx, id, func(order string) pool.Event { return pool.Release{Order: order} })
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
	if f.Pool == "" {
		var err error
		if pools, err = s.store.PoolNames(ctx); err != nil {
			return 0, err
		}
	}
	all := 0
	for _, name := range pools {
		out, err := s.driver.Drive(ctx, name, pool.CancelAll{Team: f.Team, User: f.User, Reason: job.CancelledByRequest})
		switch {
		case fault.CodeOf(err) == fault.NotFound && f.Pool != "":
			return 0, job.NoPool(name)
		case err != nil && fault.CodeOf(err) != fault.NotFound:
			return 0, err
		}
		all += out.Cancelled
	}
	return all, nil
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
			return wire.NewExplanation(j.ID, j.Spec.Pool, e), nil
		}
	}
	return wire.ExplainEnded(wire.NewJob(j)), nil
}

func (s *Jobs) registered(ctx context.Context, id string) (store.ID, error) {
	row, err := s.store.Find(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return row, job.NoJob(id)
	}
	return row, err
}

// position is where a list over several pools goes on.
type position struct {
	Pool string `json:"p"`
	Cont string `json:"c,omitempty"`
}

// List lists jobs pool by pool. Those that were rejected belong to no pool and are
// listed only when they are asked for.
func (s *Jobs) List(ctx context.Context, f wire.JobFilter, limit int, cont string) ([]*pool.Job, string, error) {
	if f.State == job.Rejected {
		rows, err := s.store.Rejected(ctx, limit)
		var jobs []*pool.Job
		for _, row := range rows {
			if f.Pool == "" || row.Pool == f.Pool {
				jobs = append(jobs, rejectedJob(row))
			}
		}
		return jobs, "", err
	}
	var at position
	if cont != "" {
		raw, err := base64.RawURLEncoding.DecodeString(cont)
		if err != nil || json.Unmarshal(raw, &at) != nil {
			return nil, "", fault.New(fault.Invalid, "continue", "the continuation cannot be read; begin the list again without it")
		}
	}
	inside := store.JobFilter{Team: f.Team, User: f.User, State: f.State}
	if f.Sweep != "" {
		row, err := s.registered(ctx, f.Sweep)
		if err != nil {
			return nil, "", err
		}
		f.Pool, inside.Sweep = row.Pool, row.Order
	}
	pools := []string{f.Pool}
	if f.Pool == "" {
		var err error
		if pools, err = s.store.PoolNames(ctx); err != nil {
			return nil, "", err
		}
	}
	var jobs []*pool.Job
	for _, name := range pools {
		if name < at.Pool {
			continue
		}
		inner := ""
		if name == at.Pool {
			inner = at.Cont
		}
		for {
			page, next, err := s.store.Jobs(ctx, name, inside, limit-len(jobs), inner)
			if err != nil {
				return nil, "", err
			}
			jobs = append(jobs, page...)
			if len(jobs) >= limit && next != "" {
				token, _ := json.Marshal(position{name, next})
				return jobs, base64.RawURLEncoding.EncodeToString(token), nil
			}
			if inner = next; inner == "" {
				break
			}
		}
		if len(jobs) >= limit && name != pools[len(pools)-1] {
			token, _ := json.Marshal(position{Pool: name + "\x00"})
			return jobs, base64.RawURLEncoding.EncodeToString(token), nil
		}
	}
	return jobs, "", nil
}
