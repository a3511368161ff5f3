package service

import (
	"context"
	"maps"
	"slices"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store"
)

// SubmitAll takes jobs in, each for itself, and returns in their order why one was not
// taken; nil = it was. All specs have ids. A job may come after one that is earlier in the
// list. The ids of a pool's jobs are registered together, and its jobs come to it together.
func (s *Jobs) SubmitAll(ctx context.Context, specs []job.Spec) []error {
	errs := make([]error, len(specs))
	for _, part := range splitByPool(specs) {
		s.submitPart(ctx, specs, part, errs)
	}
	return errs
}

// submitPart takes in jobs of one pool, and writes what is wrong with each.
func (s *Jobs) submitPart(ctx context.Context, specs []job.Spec, part []int, errs []error) {
	all := make([]*Submission, len(part))
	for i, at := range part {
		all[i] = &Submission{Spec: specs[at], Via: store.ByHTTP}
	}
	name := specs[part[0]].Pool
	refused, err := s.Admit(ctx, name, all)
	for i, at := range part {
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			errs[at] = s.refuseWithoutPool(ctx, &specs[at])
		case err != nil:
			errs[at] = err
		case refused[all[i]] != nil:
			errs[at] = refused[all[i]]
		}
	}
}

// refuseWithoutPool says why a job of an unknown pool is not taken. One that was taken
// before its pool was deleted is the same job again, and nothing is wrong with it.
func (s *Jobs) refuseWithoutPool(ctx context.Context, spec *job.Spec) error {
	repeated, err := s.ids.isRepeated(ctx, spec)
	if err != nil || repeated {
		return err
	}
	return s.NoPool(ctx, spec.Pool)
}

// splitByPool splits jobs into parts of one pool each, as few as keep every job after those
// that it names. The parts are indexes.
func splitByPool(specs []job.Spec) (parts [][]int) {
	open := map[string][]int{}   // by pool
	pools := map[string]string{} // of the jobs in open parts, by id
	end := func() {
		for _, name := range slices.Sorted(maps.Keys(open)) {
			parts = append(parts, open[name])
		}
		clear(open)
		clear(pools)
	}
	for i := range specs {
		spec := &specs[i]
		if slices.ContainsFunc(spec.After, func(text string) bool {
			d, _ := job.ParseDependency(text)
			of, isOpen := pools[d.ID]
			return isOpen && of != spec.Pool
		}) {
			end()
		}
		open[spec.Pool] = append(open[spec.Pool], i)
		pools[spec.ID] = spec.Pool
	}
	end()
	return parts
}
