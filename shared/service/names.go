package service

import (
	"context"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// Ids are compared without letter case, and the members of a sweep have ids too.

// spelledOtherwise refuses an id that is taken in another spelling. It may be meant to be
// the same job or another one; either way its folder would be the same.
func spelledOtherwise(id, first string) *fault.Error {
	return fault.New(
		fault.Conflict,
		"id",
		"id %q is the id %q of a job that is there already, but for letter case, which does not matter in ids; "+
			"use another id, or the same spelling for the same job",
		id,
		first,
	)
}

// members are the ids that a batch has so far and that belong to members of sweeps, or
// would: those that are not in the table yet. Letter case does not matter.
type members struct {
	sweeps map[string]int   // how many members they have
	jobs   map[string][]int // indexes of jobs that are called like members
}

func newMembers() members { return members{map[string]int{}, map[string][]int{}} }

func (m members) add(s *job.Spec) {
	if s.Sweep != nil {
		m.sweeps[strings.ToLower(s.ID)] = s.Sweep.Members()
	}
	if of, index, ok := job.MemberOf(strings.ToLower(s.ID)); ok {
		m.jobs[of] = append(m.jobs[of], index)
	}
}

// refusesMember refuses an id that belongs to a member of a sweep.
func (s *Jobs) refusesMember(ctx context.Context, id string) (*fault.Error, error) {
	if taken, err := s.store.IsMemberOfSweep(ctx, id); err != nil || !taken {
		return nil, err
	}
	return isMember(id), nil
}

func isMember(id string) *fault.Error {
	return fault.New(fault.Conflict, "id", "id %q belongs to a member of a sweep; use another id, or leave it out", id)
}

// refusesRival looks once more, when a job's id is registered, for the sweep that would
// have a member of the same id, or the other way round: two submissions may both have
// looked before either was registered. Now at least one of them sees the other. fresh: this
// submission has registered the id, so that nobody else is taking the job in under it.
func (s *Jobs) refusesRival(ctx context.Context, spec *job.Spec, fresh bool) (*fault.Error, error) {
	if _, _, ok := job.MemberOf(spec.ID); !ok && spec.Sweep == nil {
		return nil, nil
	}
	if !fresh {
		if repeated, err := s.ids.isRepeated(ctx, spec); err != nil || repeated {
			return nil, err
		}
	}
	cause, err := s.refusesMember(ctx, spec.ID)
	if err == nil && cause == nil {
		cause, err = s.refusesMembers(ctx, spec, newMembers())
	}
	if err == nil && cause != nil && !fresh {
		return nil, fault.New(fault.Throttled, "id", "the id %q is being taken by two submissions at once; try again", spec.ID)
	}
	return cause, err
}

// refusesMembers refuses a sweep of which a member would have the id of a job that is
// there already, and a job with the id of a member of a sweep of the same batch.
func (s *Jobs) refusesMembers(ctx context.Context, spec *job.Spec, batch members) (*fault.Error, error) {
	if of, index, ok := job.MemberOf(strings.ToLower(spec.ID)); ok && index < batch.sweeps[of] {
		return isMember(spec.ID), nil
	}
	if spec.Sweep == nil {
		return nil, nil
	}
	for _, index := range batch.jobs[strings.ToLower(spec.ID)] {
		if index < spec.Sweep.Members() {
			return takenMember(spec.ID, job.MemberID(spec.ID, index)), nil
		}
	}
	taken, err := s.store.FindTakenMember(ctx, spec.ID, spec.Sweep.Members())
	if err != nil || taken == "" {
		return nil, err
	}
	return takenMember(spec.ID, taken), nil
}

func takenMember(sweep, taken string) *fault.Error {
	return fault.New(
		fault.Conflict,
		"id",
		"a member of the sweep %q would have the id %q, which belongs to another job already; use another id for the sweep",
		sweep,
		taken,
	)
}
