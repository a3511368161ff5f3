package handlers

import (
	"context"
	"errors"

	"dsvmpools/shared/invoke"
)

// Reconcile is the backstop of every message that was lost: each minute it wakes
// each pool that has something alive, waiting or under way, and it brings back what is
// in the dead-letter queues, later each time, and in the end moves it to `rejected`.
func (f *Functions) Reconcile(ctx context.Context, _ invoke.Tick) error {
	return errors.Join(f.service.Pools.WakeDue(ctx), f.service.Rejections.ReviveDeadLetters(ctx))
}
