package service

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/wire"
)

// What changes a job after it was submitted, beside cancelling it; and jobs by their ids.

// Hold keeps a job that waits from starting, and a sweep from beginning more members,
// until it is released. Any other job is a conflict.
func (s *Jobs) Hold(ctx context.Context, id string) (*pool.Job, error) {
	j, err := s.notifyPool(ctx, id, func(order string) pool.Event { return pool.Hold{Order: order} })
	switch {
	case err != nil:
		return nil, err
	case !j.State.Final() && scheduler.NeedsRelease(j):
		return j, nil
	case j.State == job.Submitted:
		return nil, notThere(j)
	case j.State.Final():
		return nil, fault.New(fault.Conflict, "id", "job %q has ended as %s; only a job that waits can be held", id, j.State)
	case j.Spec.Sweep != nil:
		return nil, fault.New(fault.Conflict, "id", "all members of sweep %q have begun; hold those that wait, or cancel the sweep", id)
	}
	return nil, fault.New(fault.Conflict, "id", "job %q is %s; only a job that waits can be held; cancel it to end it", id, j.State)
}

// notThere is the error for a job that has no row: it is on its way, or a member that has
// not begun.
func notThere(j *pool.Job) *fault.Error {
	if _, _, isMember := job.SweepOrder(j.Order); isMember {
		sweep, _, _ := job.MemberOf(j.ID)
		return fault.New(fault.Conflict, "id", "member %q has not begun and cannot be changed by itself; change its sweep %q", j.ID, sweep)
	}
	return fault.New(fault.Conflict, "id", "job %q is on its way to its pool; try again in a moment", j.ID)
}

// Release lets a job or a sweep go on that is held.
func (s *Jobs) Release(ctx context.Context, id string) (*pool.Job, error) {
	return s.notifyPool(ctx, id, func(order string) pool.Event { return pool.Release{Order: order} })
}

// SetPriority gives a job another place in line, and the members of a sweep with it. It
// holds for the attempts to come. A job that has ended is a conflict.
func (s *Jobs) SetPriority(ctx context.Context, id string, p job.Priority) (*pool.Job, error) {
	j, err := s.notifyPool(ctx, id, func(order string) pool.Event { return pool.SetPriority{Order: order, Priority: p} })
	switch {
	case err != nil:
		return nil, err
	case j.State == job.Submitted:
		return nil, notThere(j)
	case j.State.Final():
		return nil, fault.New(fault.Conflict, "id",
			"job %q has ended as %s and waits for nothing; `dsvm job rerun %s` runs it again", id, j.State, id)
	}
	return j, nil
}

// Rerun submits the document of a job again, under a new id: that of the job with -r2, -r3
// and so on.
func (s *Jobs) Rerun(ctx context.Context, id string) (*pool.Job, error) {
	j, err := s.Job(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case j.State == job.Rejected:
		return nil, fault.New(fault.Conflict, "id",
			"job %q was rejected and has no document that can run; correct the document and send it again", id)
	case j.State == job.Submitted:
		return nil, notThere(j)
	case !wire.HasDocument(j):
		return nil, fault.New(fault.Conflict, "id", "the document of job %q is kept no longer; send it again", id)
	case j.Spec.ReadsJobFile():
		return nil, fault.New(fault.Conflict, "id",
			"job %q belongs to a push and only reads its jobs; push again, or run one of those jobs again", id)
	}
	spec := runAgain(j, s.now())
	const tries = 3 // somebody else may take the same id for another job
	for try := 1; ; try++ {
		if spec.ID, err = s.freeRerunID(ctx, &spec); err != nil {
			return nil, err
		}
		again, err := s.Submit(ctx, spec)
		if fault.CodeOf(err) != fault.Conflict || try == tries {
			return again, err
		}
	}
}

// runAgain is the document of a job that runs another one again. That of a member of a
// sweep is a job of its own, with the index of the member.
func runAgain(j *pool.Job, now time.Time) job.Spec {
	spec := j.Spec
	spec.RerunOf = j.ID
	if !spec.NotBefore.After(now) {
		spec.NotBefore = time.Time{}
	}
	if spec.Index != nil {
		spec.Env = maps.Clone(spec.Env)
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		spec.Env["DSVM_INDEX"] = strconv.Itoa(*spec.Index)
		spec.Index = nil
	}
	return spec
}

// rerunSuffix is what the id of a rerun ends with.
var rerunSuffix = regexp.MustCompile(`-r[1-9][0-9]*$`)

// freeRerunID finds the first id for a rerun that no job has.
func (s *Jobs) freeRerunID(ctx context.Context, spec *job.Spec) (string, error) {
	const longest, room, atOnce = 90, len("-r1000"), 20 // 90 is the most for a sweep
	base := rerunSuffix.ReplaceAllString(spec.RerunOf, "")
	base = base[:min(len(base), longest-room)]
	for n := 2; n < 1000; n += atOnce {
		ids := make([]string, atOnce)
		for i := range ids {
			ids[i] = fmt.Sprintf("%s-r%d", base, n+i)
		}
		taken, err := s.store.FindAll(ctx, ids)
		if err != nil {
			return "", err
		}
		for _, id := range ids {
			if _, isTaken := taken[id]; !isTaken {
				return id, nil
			}
		}
	}
	return "", fault.New(fault.Conflict, "id",
		"job %q has been run again a thousand times; submit its document under an id of its own", spec.RerunOf)
}

// findAtOnce bounds the jobs that Find reads side by side.
const findAtOnce = 8

// Find finds jobs in any state, in the order of their ids, each once. It leaves out those
// that there are not.
func (s *Jobs) Find(ctx context.Context, ids []string) ([]*pool.Job, error) {
	rows, err := s.store.FindAll(ctx, ids)
	if err != nil {
		return nil, err
	}
	found := make([]*pool.Job, len(ids))
	asked := map[string]bool{}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(findAtOnce)
	for i, id := range ids {
		row, known := rows[id]
		if !known || asked[id] {
			continue
		}
		asked[id] = true
		group.Go(func() error {
			if row.State != job.Rejected {
				j, err := s.store.Job(grouped, row.Pool, row.Order)
				if fault.CodeOf(err) != fault.NotFound {
					found[i] = j
					return err
				}
			}
			j, err := s.ids.find(grouped, id)
			if fault.CodeOf(err) == fault.NotFound {
				return nil
			}
			found[i] = j
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var jobs []*pool.Job
	for _, j := range found {
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}
