package handlers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
)

// submission is a job on its way in.
type submission struct {
	message invoke.Message // that brought it; zero for the API
	spec    job.Spec       // with its id
	order   string         // ULID it is registered under; "" = it stands already, or is refused
}

// via is how a job came.
func (s *submission) via() string {
	if s.message.Body == nil {
		return store.ByHTTP
	}
	return store.ByQueue
}

// SubmitJob takes jobs from the queue `jobs`. A message that cannot be taken is
// rejected with the reason; the others of its batch go on.
func (f *Functions) SubmitJob(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().Jobs
	var errs []error
	parts := map[string][]*submission{}
	for _, m := range messages {
		parse := job.Parse
		if m.Properties[propReader] == "true" { // whether that is so, its push tells
			parse = job.ParseFileJob
		}
		spec, err := parse(m.Body, m.ContentType)
		if err == nil && spec.ID == "" {
			spec.ID = m.ID
			if err = job.CheckNewID(spec.ID); err != nil {
				err = fault.New(fault.Invalid, "id", "the document names no id and the MessageId cannot stand for one; add an `id` of %s", job.IDForm)
				spec.ID = ""
			}
		}
		if err != nil {
			errs = append(errs, f.reject(ctx, queue, m, f.nameOf(spec, m), asFault(err)))
			continue
		}
		parts[spec.Pool] = append(parts[spec.Pool], &submission{message: m, spec: spec})
	}
	err := byPool(ctx, f, queue, parts, func(s *submission) invoke.Message { return s.message }, f.submitPart)
	return errors.Join(append(errs, err)...)
}

// nameOf is the id that a refused message can be remembered under: the job's
// own, else the MessageId, when it has the form of an id.
func (f *Functions) nameOf(spec job.Spec, m invoke.Message) string {
	for _, id := range []string{spec.ID, m.ID} {
		if id != "" && job.CheckID(id) == nil {
			return id
		}
	}
	return ""
}

// submitPart takes one pool's jobs of a batch.
func (f *Functions) submitPart(ctx context.Context, name string, part []*submission) error {
	queue := f.bus.Queues().Jobs
	refused, err := f.take(ctx, name, part)
	if fault.CodeOf(err) == fault.NotFound {
		if part, err = f.unknownOnes(ctx, part); err != nil {
			return err
		}
		return f.unknownPool(ctx, name, part)
	}
	if err != nil {
		return err
	}
	for s, cause := range refused {
		if strings.HasPrefix(cause.Field, "after[") && s.message.Properties[propUnknown] != "true" {
			// The message of the job it comes after may be just behind its own.
			if err := f.bus.Send(ctx, queue, again(s.message, f.now().Add(f.unknownAgain), propUnknown, "true")); err != nil {
				return err
			}
			continue
		}
		id := s.spec.ID
		if cause.Code == fault.Conflict && cause.Field == "id" {
			id = "" // the id stands for the job that has it
		}
		if err := f.reject(ctx, queue, s.message, id, cause); err != nil {
			return err
		}
	}
	return nil
}

// unknownPool gives a pool that is not there one more chance: its own message
// may be just behind the job's.
func (f *Functions) unknownPool(ctx context.Context, name string, part []*submission) error {
	queue := f.bus.Queues().Jobs
	for _, s := range part {
		var err error
		if s.message.Properties[propUnknown] == "true" {
			err = f.reject(ctx, queue, s.message, s.spec.ID, job.NoPool(name))
		} else {
			err = f.bus.Send(ctx, queue, again(s.message, f.now().Add(f.unknownAgain), propUnknown, "true"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unknownOnes are the jobs, of those whose pool is not there, that are new: others had
// ended before their pool was deleted, and their message has come once more.
func (f *Functions) unknownOnes(ctx context.Context, part []*submission) ([]*submission, error) {
	var left []*submission
	for _, s := range part {
		repeated, err := f.repeated(ctx, &s.spec)
		if err != nil {
			return nil, err
		}
		if !repeated {
			left = append(left, s)
		}
	}
	return left, nil
}

// take registers jobs and brings them to their pool. It returns the jobs that
// cannot be taken, with the reason. fault.NotFound: there is no such pool. On
// any other error all of it may be tried again.
func (f *Functions) take(ctx context.Context, name string, part []*submission) (map[*submission]*fault.Error, error) {
	spec, err := f.driver.Spec(ctx, name)
	if err != nil {
		return nil, err
	}
	refused := map[*submission]*fault.Error{}
	var ids []store.ID
	var asked []*submission
	earlier := map[string]bool{}
	members := newMembers()
	for _, s := range part {
		cause := scheduler.Refuses(spec, s.spec)
		if cause == nil {
			if cause, err = f.refusesAfter(ctx, s.spec, earlier); err != nil {
				return nil, err
			}
		}
		if cause == nil {
			if cause, err = f.refusesMember(ctx, s.spec.ID); err != nil {
				return nil, err
			}
		}
		if cause == nil {
			if cause, err = f.refusesMembers(ctx, &s.spec, members); err != nil {
				return nil, err
			}
		}
		if cause == nil {
			if cause, err = f.refusesReader(ctx, &s.spec); err != nil {
				return nil, err
			}
		}
		if cause != nil {
			repeated, err := f.repeated(ctx, &s.spec)
			if err != nil {
				return nil, err
			}
			if !repeated {
				refused[s] = cause
			}
			continue
		}
		earlier[s.spec.ID] = true
		members.add(&s.spec)
		id := store.ID{ID: s.spec.ID, Pool: name, Order: ulid.Make().String(), Hash: s.spec.Hash(), Via: s.via(), At: f.now()}
		if s.spec.Sweep != nil {
			id.End.Members = s.spec.Sweep.Members()
		}
		ids = append(ids, id)
		asked = append(asked, s)
	}
	if len(ids) == 0 {
		return refused, nil
	}
	before, claim := f.now(), rand.Text()
	stands, fresh, err := f.store.RegisterAs(ctx, claim, ids)
	if err != nil {
		return nil, err
	}
	var jobs []drive.Submission
	byOrder := map[string]*submission{}
	for i, s := range asked {
		if stands[i].ID != s.spec.ID {
			refused[s] = spelledOtherwise(s.spec.ID, stands[i].ID)
			continue
		}
		if stands[i].Hash != ids[i].Hash || stands[i].Pool != name {
			refused[s] = fault.New(fault.Conflict, "id", "id %q belongs to another job already; use another id, or leave it out", s.spec.ID)
			continue
		}
		if stands[i].HasEnded() {
			continue // its rows have gone; it is the same job all the same
		}
		cause, err := f.refusesRival(ctx, &s.spec, fresh[i])
		if err != nil {
			return nil, err
		}
		if cause != nil {
			if err := f.store.Release(ctx, claim, s.spec.ID); err != nil {
				return nil, err
			}
			refused[s] = cause
			continue
		}
		s.order = stands[i].Order
		sub := drive.Submission{Submit: pool.Submit{Order: s.order, ID: s.spec.ID, Spec: s.spec, At: stands[i].At}}
		if fresh[i] {
			sub.Registered = before
		}
		if byOrder[s.order] == nil {
			jobs = append(jobs, sub)
		}
		byOrder[s.order] = s
	}
	if len(jobs) == 0 {
		return refused, nil
	}
	out, err := f.driver.Submit(ctx, name, jobs)
	if fault.CodeOf(err) == fault.NotFound { // the pool has gone in this moment
		for _, j := range jobs {
			if err := f.store.Release(ctx, claim, j.ID); err != nil {
				return nil, err
			}
		}
	}
	if err != nil {
		return nil, err
	}
	for _, r := range out.Refused {
		// The id is free for a corrected document, unless the same one is just being
		// taken in by somebody else.
		if err := f.store.Release(ctx, claim, r.ID); err != nil {
			return nil, err
		}
		refused[byOrder[r.Order]] = r.Err
	}
	return refused, nil
}

// refusesAfter says why a job cannot come after those it names: each has to be
// known already, here or earlier in the batch, and be of the same pool. So no two
// jobs can wait for each other.
func (f *Functions) refusesAfter(ctx context.Context, spec job.Spec, earlier map[string]bool) (*fault.Error, error) {
	for i, text := range spec.After {
		d, _ := job.ParseDependency(text)
		id := d.ID
		if earlier[id] {
			continue
		}
		field := fmt.Sprintf("after[%d]", i)
		row, err := f.store.Find(ctx, id)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			return fault.New(fault.Invalid, field, "`%s` names job %q, which is not known; submit that job first", field, id), nil
		case err != nil:
			return nil, err
		case row.State != job.Rejected && row.ID != id:
			return fault.New(fault.Invalid, field, "`%s` names job %q, which is spelled %q; write it so", field, id, row.ID), nil
		case row.State != job.Rejected && row.Pool != spec.Pool:
			return fault.New(fault.Invalid, field, "`%s` names job %q of pool %q; a job can only come after jobs of its own pool", field, id, row.Pool), nil
		}
	}
	return nil, nil
}
