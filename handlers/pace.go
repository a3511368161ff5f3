package handlers

import (
	"context"

	"dsvmpools/shared/invoke"
)

// Intake is notified of messages before they are processed. It has messages wait that bring
// new work while Service Bus refuses requests; the error is that of ctx.
type Intake interface {
	Took(ctx context.Context, queue string, messages int) error
}

// take has the batches of a queue go through the intake.
func (f *Functions) take(queue string, fn func(context.Context, []invoke.Message) error) func(context.Context, []invoke.Message) error {
	if f.intake == nil {
		return fn
	}
	return func(ctx context.Context, messages []invoke.Message) error {
		if err := f.intake.Took(ctx, queue, len(messages)); err != nil {
			return err
		}
		return fn(ctx, messages)
	}
}
