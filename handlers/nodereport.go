package handlers

import (
	"context"
	"errors"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
)

// NodeReport takes what agents report from the queue `node-events`.
func (f *Functions) NodeReport(ctx context.Context, messages []invoke.Message) error {
	queue := f.bus.Queues().NodeEvents
	type report struct {
		message invoke.Message
		report  protocol.Report
	}
	var errs []error
	parts := map[string][]report{}
	for _, m := range messages {
		r, err := protocol.DecodeReport(m.Body)
		if err != nil {
			cause := &fault.Error{Code: fault.Invalid, Message: err.Error(), Err: err}
			errs = append(errs, f.reject(ctx, queue, m, service.RefusedJob{}, cause))
			continue
		}
		for _, item := range r.Items {
			if item.Ready != nil {
				f.log.InfoContext(
					ctx,
					"agent started",
					"pool",
					r.Pool,
					"node",
					item.Ready.Name,
					"vmid",
					r.VMID,
					"version",
					item.Ready.Version,
				)
			}
		}
		parts[r.Pool] = append(parts[r.Pool], report{m, r})
	}
	err := byPool(ctx, f, queue, parts, func(r report) invoke.Message { return r.message },
		func(ctx context.Context, name string, part []report) error {
			reports := make([]service.Report, len(part))
			for i, r := range part {
				reports[i] = service.Report{Report: r.report, At: r.message.EnqueuedAt}
			}
			return f.service.Nodes.Report(ctx, name, reports)
		})
	return errors.Join(append(errs, err)...)
}
