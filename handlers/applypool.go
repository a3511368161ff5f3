package handlers

import (
	"context"
	"errors"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/service"
)

// ApplyPool creates or changes pools from the queue `pools`.
func (f *Functions) ApplyPool(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().Pools
	type change struct {
		message invoke.Message
		spec    pool.Spec
	}
	var errs []error
	parts := map[string][]change{}
	for _, m := range messages {
		spec, err := pool.Parse(m.Body, m.ContentType)
		if err != nil {
			errs = append(errs, f.reject(ctx, queue, m, service.RefusedJob{}, err))
			continue
		}
		parts[spec.Name] = append(parts[spec.Name], change{m, spec})
	}
	err := byPool(ctx, f, queue, parts, func(c change) invoke.Message { return c.message },
		func(ctx context.Context, name string, part []change) error {
			for _, c := range part {
				warnings, err := f.service.Pools.Apply(ctx, c.spec)
				for _, w := range warnings {
					f.log.WarnContext(ctx, "pool applied with a warning", "pool", name, "warning", w)
				}
				if isPermanent(err) {
					err = f.reject(ctx, queue, c.message, service.RefusedJob{}, err)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	return errors.Join(append(errs, err)...)
}

// isPermanent reports whether trying again cannot help.
func isPermanent(err error) bool {
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.Conflict, fault.NotFound:
		return true
	}
	return false
}
