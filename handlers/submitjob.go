package handlers

import (
	"context"
	"errors"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// submission is a job of the queue `jobs` on its way in.
type submission struct {
	service.Submission
	message invoke.Message // that brought it
}

// isSecondLook reports whether the message has come again because what it names was
// not known.
func (s *submission) isSecondLook() bool { return s.message.Properties[service.PropUnknown] == "true" }

// SubmitJob takes jobs from the queue `jobs`. A message that cannot be taken is
// rejected with the reason; the others of its batch go on.
func (f *Functions) SubmitJob(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().Jobs
	var errs []error
	var batch []*submission
	for _, m := range messages {
		spec, err := service.ParseJob(busMessage(m))
		if err != nil {
			errs = append(errs, f.reject(ctx, queue, m, service.NewRefusedJob(spec, m.ID), err))
			continue
		}
		one := &submission{service.Submission{Spec: spec, Via: store.ByQueue}, m}
		batch = append(batch, one)
	}
	for _, parts := range inWaves(batch) {
		errs = append(errs, byPool(ctx, f, queue, parts, func(s *submission) invoke.Message { return s.message }, f.submitPart))
	}
	return errors.Join(errs...)
}

// maxWaves bounds how often one batch goes to the pools. What would come later goes with
// the last wave, where it may have to be looked at again.
const maxWaves = 5

// inWaves splits a batch by pool, so that a job goes to its pool after the jobs of other
// pools that it comes after and that stand before it in the batch: pools take their parts
// side by side, and a job is refused if it comes after one that is not known.
func inWaves(batch []*submission) []map[string][]*submission {
	type place struct {
		pool string
		wave int
	}
	var waves []map[string][]*submission
	places := map[string]place{} // by id
	for _, s := range batch {
		p := place{pool: s.Spec.Pool}
		for _, text := range s.Spec.After {
			d, _ := job.ParseDependency(text)
			first, isInBatch := places[d.ID]
			switch {
			case !isInBatch:
			case first.pool == p.pool:
				p.wave = max(p.wave, first.wave)
			default:
				p.wave = min(max(p.wave, first.wave+1), maxWaves-1)
			}
		}
		places[s.Spec.ID] = p
		if p.wave == len(waves) {
			waves = append(waves, map[string][]*submission{})
		}
		waves[p.wave][p.pool] = append(waves[p.wave][p.pool], s)
	}
	return waves
}

// submitPart takes one pool's jobs of a batch.
func (f *Functions) submitPart(ctx context.Context, name string, part []*submission) error {
	asked := make([]*service.Submission, len(part))
	byJob := make(map[*service.Submission]*submission, len(part))
	for i, s := range part {
		asked[i] = &s.Submission
		byJob[asked[i]] = s
	}
	refused, err := f.service.Jobs.Admit(ctx, name, asked)
	if fault.CodeOf(err) == fault.NotFound {
		return f.submitToUnknown(ctx, name, part)
	}
	if err != nil {
		return err
	}
	for one, cause := range refused {
		s := byJob[one]
		// The message of the job that it comes after may be just after its own.
		if strings.HasPrefix(cause.Field, "after[") && !s.isSecondLook() {
			if err := f.lookAgain(ctx, s); err != nil {
				return err
			}
			continue
		}
		of := service.NewRefusedJob(s.Spec, "")
		if cause.Code == fault.Conflict && cause.Field == "id" {
			of = service.RefusedJob{} // the id stands for the job that has it
			if err := f.service.Rejections.NoteConflict(ctx, s.Spec.ID); err != nil {
				return err
			}
		}
		if err := f.reject(ctx, f.bus.Queues().Jobs, s.message, of, cause); err != nil {
			return err
		}
	}
	return nil
}

// submitToUnknown gives a pool that is not there one more chance: its own message
// may be just after the job's. A job that ended before its pool was deleted, and whose
// message comes once more, needs none.
func (f *Functions) submitToUnknown(ctx context.Context, name string, part []*submission) error {
	var fresh []*submission
	for _, s := range part {
		repeated, err := f.service.Jobs.IsRepeated(ctx, &s.Spec)
		if err != nil {
			return err
		}
		if !repeated {
			fresh = append(fresh, s)
		}
	}
	for _, s := range fresh {
		var err error
		if s.isSecondLook() {
			err = f.reject(ctx, f.bus.Queues().Jobs, s.message, service.NewRefusedJob(s.Spec, ""), f.service.Jobs.NoPool(ctx, name))
		} else {
			err = f.lookAgain(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookAgain has a job's message come again, once, when what it names may be known.
func (f *Functions) lookAgain(ctx context.Context, s *submission) error {
	back := service.Resend(busMessage(s.message), f.now().Add(f.unknownAgain), service.PropUnknown, "true")
	return f.bus.Send(ctx, f.bus.Queues().Jobs, back)
}
