package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store"
)

// jobSender puts the jobs of a push on their queue.
type jobSender struct {
	store *store.Store
	bus   Bus
	now   func() time.Time
}

// send puts jobs on their queue, and has their states reported to the commit.
func (s *jobSender) send(ctx context.Context, rule *push.Rule, p *push.Push, starts []push.Job) error {
	messages := make([]bus.Message, len(starts))
	for i, start := range starts {
		messages[i] = bus.Message{ID: start.ID, Body: start.Document, ContentType: "application/json"}
		if start.ReadsFile {
			messages[i].Properties = map[string]any{PropJobFile: "true"}
		}
	}
	if err := s.bus.Send(ctx, s.bus.Queues().Jobs, messages...); err != nil {
		return err
	}
	return s.follow(ctx, rule, p, starts)
}

// follow notes the jobs whose states the commit shows.
func (s *jobSender) follow(ctx context.Context, rule *push.Rule, p *push.Push, starts []push.Job) error {
	if rule.Status.Token == "" {
		return nil
	}
	var errs []error
	for _, start := range starts {
		errs = append(
			errs,
			s.store.PutStatusWatch(
				ctx,
				store.StatusWatch{
					Job:        start.ID,
					Rule:       rule.Name,
					Repository: p.Repository,
					Commit:     p.Commit,
					Context:    start.Context,
					At:         s.now(),
				},
			),
		)
	}
	return errors.Join(errs...)
}

func idsOf(starts []push.Job) []string {
	ids := make([]string, len(starts))
	for i, s := range starts {
		ids[i] = s.ID
	}
	return ids
}

// merged adds the ids that are not there yet.
func merged(ids, more []string) []string {
	for _, id := range more {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
