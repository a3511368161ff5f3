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
	parts := map[string][]*submission{}
	for _, m := range messages {
		spec, err := parseJob(m)
		if err != nil {
			id := service.IDOfRejected(spec, m.ID)
			errs = append(errs, f.reject(ctx, queue, m, id, err))
			continue
		}
		one := &submission{service.Submission{Spec: spec, Via: store.ByQueue}, m}
		parts[spec.Pool] = append(parts[spec.Pool], one)
	}
	err := byPool(ctx, f, queue, parts, func(s *submission) invoke.Message { return s.message }, f.submitPart)
	return errors.Join(append(errs, err)...)
}

// parseJob reads the document of a job. Without an id of its own the job has the
// message's.
func parseJob(m invoke.Message) (job.Spec, error) {
	parse := job.Parse
	if m.Properties[service.PropJobFile] == "true" { // the job's push shows later whether that is true
		parse = job.ParseFileJob
	}
	spec, err := parse(m.Body, m.ContentType)
	if err != nil || spec.ID != "" {
		return spec, err
	}
	if job.CheckNewID(m.ID) != nil {
		return spec, fault.New(
			fault.Invalid,
			"id",
			"the document names no id and the MessageId cannot stand for one; add an `id` of %s",
			job.IDForm,
		)
	}
	spec.ID = m.ID
	return spec, nil
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
		id := s.Spec.ID
		if cause.Code == fault.Conflict && cause.Field == "id" {
			id = "" // the id stands for the job that has it
		}
		if err := f.reject(ctx, f.bus.Queues().Jobs, s.message, id, cause); err != nil {
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
			err = f.reject(ctx, f.bus.Queues().Jobs, s.message, s.Spec.ID, job.NoPool(name))
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
