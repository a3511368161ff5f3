package service

import (
	"context"
	"strings"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// DryRun says what Submit would do with a job, and writes nothing. What Submit would refuse
// it refuses with the same error. The spec may be without an id.
func (s *Jobs) DryRun(ctx context.Context, spec job.Spec) (wire.DryRun, error) {
	named := spec.ID != ""
	if !named {
		spec.ID = strings.ToLower(ulid.Make().String())
	}
	one := &Submission{Spec: spec, Via: store.ByHTTP}
	a := &admission{jobs: s, pool: spec.Pool, refused: map[*Submission]*fault.Error{}}
	_, err := a.check(ctx, []*Submission{one})
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return wire.DryRun{}, s.NoPool(ctx, spec.Pool)
	case err != nil:
		return wire.DryRun{}, err
	case a.refused[one] != nil:
		return wire.DryRun{}, a.refused[one]
	}
	var stands *pool.Job
	if named {
		if stands, err = s.sameJob(ctx, &spec); err != nil {
			return wire.DryRun{}, err
		}
	}
	if stands != nil {
		return wire.NewDryRunOfJob(spec, stands), nil
	}
	r, err := s.driver.DryRun(ctx, spec.Pool, pool.Submit{Order: ulid.Make().String(), ID: spec.ID, Spec: spec, At: s.now()})
	switch {
	case fault.CodeOf(err) == fault.NotFound: // the pool has gone in this moment
		return wire.DryRun{}, s.NoPool(ctx, spec.Pool)
	case err != nil:
		return wire.DryRun{}, err
	}
	if !named {
		spec.ID = ""
	}
	return wire.NewDryRun(spec, r), nil
}

// sameJob is the job that stands under the id of a spec already, with the same document;
// nil: none does. Another document under the id is a conflict.
func (s *Jobs) sameJob(ctx context.Context, spec *job.Spec) (*pool.Job, error) {
	row, err := s.store.ID(ctx, spec.ID)
	if fault.CodeOf(err) == fault.NotFound || err == nil && row.State == job.Rejected {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if cause := refusesStanding(&row, spec); cause != nil {
		return nil, cause
	}
	return s.Job(ctx, spec.ID)
}

// refusesStanding refuses a job whose id is registered for another document.
func refusesStanding(row *store.ID, spec *job.Spec) *fault.Error {
	switch {
	case row.ID != spec.ID:
		return spelledOtherwise(spec.ID, row.ID)
	case row.Hash != spec.Hash() || row.Pool != spec.Pool:
		return fault.New(fault.Conflict, "id", "id %q belongs to another job already; use another id, or leave it out", spec.ID)
	}
	return nil
}
