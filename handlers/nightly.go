package handlers

import (
	"context"
	"errors"

	"dsvmpools/shared/invoke"
)

// NightlyScaleDown wakes every pool, so that those with a schedule go down on time
// and every scale set is looked at once a night, whatever its rows say. It also
// forgets deliveries that nobody sends again.
func (f *Functions) NightlyScaleDown(ctx context.Context, _ invoke.Tick) error {
	return errors.Join(f.service.Statuses.ForgetPushes(ctx), f.service.Pools.WakeAll(ctx))
}
