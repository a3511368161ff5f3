package handlers

import (
	"context"

	"dsvmpools/shared/invoke"
)

// WatchBudgets looks where the budgets stand, and tells the pools. A pool follows its own budget
// by itself meanwhile.
func (f *Functions) WatchBudgets(ctx context.Context, _ invoke.Tick) error {
	return f.service.Budgets.Look(ctx)
}
