package service

import (
	"context"
	"crypto/rand"
	"fmt"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
)

// Submission is a job on its way in.
type Submission struct {
	Spec  job.Spec // with its id
	Via   string   // how it came: store.ByQueue, store.ByHTTP
	order string   // ULID it is registered under; "" = it stands already, or is refused
}

// Admit registers jobs and brings them to their pool. It returns the jobs that
// cannot be taken, with the reason. fault.NotFound: there is no such pool. On
// any other error all of it may be tried again.
func (s *Jobs) Admit(ctx context.Context, name string, part []*Submission) (map[*Submission]*fault.Error, error) {
	a := &admission{jobs: s, pool: name, claim: rand.Text(), refused: map[*Submission]*fault.Error{}}
	asked, err := a.check(ctx, part)
	if err != nil || len(asked) == 0 {
		return a.refused, err
	}
	admitted, err := a.register(ctx, asked)
	if err != nil || len(admitted) == 0 {
		return a.refused, err
	}
	return a.refused, a.submit(ctx, admitted)
}

// admission is one call of Admit.
type admission struct {
	jobs    *Jobs
	pool    string
	claim   string // in whose name the ids are registered
	refused map[*Submission]*fault.Error
}

// check refuses the jobs that cannot be taken, and returns the others. A job that
// would be refused and was taken in before is neither.
func (a *admission) check(ctx context.Context, part []*Submission) (asked []*Submission, err error) {
	spec, err := a.jobs.driver.Spec(ctx, a.pool)
	if err != nil {
		return nil, err
	}
	causes := map[*Submission]*fault.Error{}
	var runnable []*Submission
	for _, one := range part {
		if causes[one] = refusesUnparsed(&one.Spec); causes[one] == nil {
			causes[one] = scheduler.Refuses(spec, one.Spec)
		}
		if causes[one] == nil {
			runnable = append(runnable, one)
		}
	}
	after, err := a.jobs.findAfter(ctx, runnable)
	if err != nil {
		return nil, err
	}
	earlier := map[string]bool{}
	members := newMembers()
	for _, one := range part {
		cause := causes[one]
		for _, check := range []func() (*fault.Error, error){
			func() (*fault.Error, error) { return a.jobs.refusesWorkdir(&one.Spec), nil },
			func() (*fault.Error, error) { return a.jobs.refusesAfter(ctx, one.Spec, earlier, after) },
			func() (*fault.Error, error) { return a.jobs.refusesMember(ctx, one.Spec.ID) },
			func() (*fault.Error, error) { return a.jobs.refusesMembers(ctx, &one.Spec, members) },
			func() (*fault.Error, error) { return a.jobs.refusesReader(ctx, &one.Spec) },
		} {
			if cause == nil {
				if cause, err = check(); err != nil {
					return nil, err
				}
			}
		}
		if cause == nil {
			earlier[one.Spec.ID] = true
			members.add(&one.Spec)
			asked = append(asked, one)
			continue
		}
		repeated, err := a.jobs.ids.isRepeated(ctx, &one.Spec)
		if err != nil {
			return nil, err
		}
		if !repeated {
			a.refused[one] = cause
		}
	}
	return asked, nil
}

// admitted is a job whose id is registered.
type admitted struct {
	*Submission
	submission drive.Submission
}

// register registers the ids of jobs, and returns those that go on to their pool.
func (a *admission) register(ctx context.Context, asked []*Submission) ([]admitted, error) {
	ids := make([]store.ID, len(asked))
	now := a.jobs.now()
	orders := a.jobs.orders.run(now, len(asked))
	for i, one := range asked {
		ids[i] = store.ID{
			ID:    one.Spec.ID,
			Pool:  a.pool,
			Order: orders[i],
			Hash:  one.Spec.Hash(),
			Via:   one.Via,
			At:    now,
		}
		if one.Spec.Sweep != nil {
			ids[i].End.Members = one.Spec.Sweep.Members()
		}
	}
	before := a.jobs.now()
	stands, fresh, err := a.jobs.store.RegisterAs(ctx, a.claim, ids)
	if err != nil {
		return nil, err
	}
	var out []admitted
	for i, one := range asked {
		if cause := refusesStanding(&stands[i], &one.Spec); cause != nil {
			a.refused[one] = cause
			continue
		}
		if stands[i].HasEnded() {
			continue // its rows have gone; it is the same job all the same
		}
		cause, err := a.jobs.refusesRival(ctx, &one.Spec, fresh[i])
		if err != nil {
			return nil, err
		}
		if cause != nil {
			if err := a.jobs.store.Release(ctx, a.claim, one.Spec.ID); err != nil {
				return nil, err
			}
			a.refused[one] = cause
			continue
		}
		one.order = stands[i].Order
		sub := drive.Submission{Submit: pool.Submit{Order: one.order, ID: one.Spec.ID, Spec: one.Spec, At: stands[i].At}}
		if fresh[i] {
			sub.Registered = before
		}
		out = append(out, admitted{one, sub})
	}
	return out, nil
}

// submit brings jobs to their pool, each once.
func (a *admission) submit(ctx context.Context, all []admitted) error {
	var jobs []drive.Submission
	byOrder := map[string]*Submission{}
	for _, one := range all {
		if byOrder[one.order] == nil {
			jobs = append(jobs, one.submission)
		}
		byOrder[one.order] = one.Submission
	}
	out, err := a.jobs.driver.Submit(ctx, a.pool, jobs)
	if fault.CodeOf(err) == fault.NotFound { // the pool has gone in this moment
		for _, j := range jobs {
			if err := a.jobs.store.Release(ctx, a.claim, j.ID); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return err
	}
	for _, r := range out.Refused {
		// The id is free for a corrected document, unless the same one is just being
		// taken in by somebody else.
		if err := a.jobs.store.Release(ctx, a.claim, r.ID); err != nil {
			return err
		}
		a.refused[byOrder[r.Order]] = r.Err
	}
	return nil
}

// knownIDs is what is known of ids that were looked up together. An id that was looked
// up and is not known has no row in it.
type knownIDs struct {
	asked map[string]bool
	rows  map[string]store.ID
}

// findAfter looks up the jobs that jobs come after, but for those earlier in the batch.
func (s *Jobs) findAfter(ctx context.Context, part []*Submission) (knownIDs, error) {
	known := knownIDs{asked: map[string]bool{}}
	var ids []string
	earlier := make(map[string]bool, len(part))
	for _, one := range part {
		for _, text := range one.Spec.After {
			d, _ := job.ParseDependency(text)
			if !earlier[d.ID] && !known.asked[d.ID] {
				known.asked[d.ID] = true
				ids = append(ids, d.ID)
			}
		}
		earlier[one.Spec.ID] = true
	}
	if len(ids) == 0 {
		return known, nil
	}
	var err error
	known.rows, err = s.store.FindAll(ctx, ids)
	return known, err
}

// refusesAfter says why a job cannot come after those it names: each has to be known
// already, in any pool, or earlier in the batch. So no two jobs can wait for each other.
func (s *Jobs) refusesAfter(ctx context.Context, spec job.Spec, earlier map[string]bool, after knownIDs) (*fault.Error, error) {
	for i, text := range spec.After {
		d, _ := job.ParseDependency(text)
		id := d.ID
		if earlier[id] {
			continue
		}
		field := fmt.Sprintf("after[%d]", i)
		row, known := after.rows[id]
		if !after.asked[id] { // it was earlier in the batch, and was refused
			var err error
			row, err = s.store.Find(ctx, id)
			if known = err == nil; err != nil && fault.CodeOf(err) != fault.NotFound {
				return nil, err
			}
		}
		switch {
		case !known:
			return fault.New(fault.Invalid, field, "`%s` names job %q, which is not known; submit that job first", field, id), nil
		case row.State != job.Rejected && row.ID != id:
			return fault.New(fault.Invalid, field, "`%s` names job %q, which is spelled %q; write it so", field, id, row.ID), nil
		}
	}
	return nil, nil
}

// refusesUnparsed refuses what only a program puts together. job.Parse gives every job cpus
// and a priority, and the scheduler cannot place a job without them.
func refusesUnparsed(spec *job.Spec) *fault.Error {
	if spec.Resources.CPUs < 1 {
		return fault.New(fault.Invalid, "resources.cpus", "`resources.cpus` is %d; write at least 1", spec.Resources.CPUs)
	}
	if job.CheckPriority(spec.Priority) != nil {
		return fault.New(fault.Invalid, "priority", "`priority` is %.20q; write low, normal or high", spec.Priority)
	}
	return nil
}
