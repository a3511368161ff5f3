package handlers

import (
	"context"

	"dsvmpools/shared/invoke"
)

// CommitStatus reports to commits what has become of their jobs, and cancels jobs
// that were not known yet when they were cancelled. No job waits for it.
func (f *Functions) CommitStatus(ctx context.Context, _ invoke.Tick) error {
	return f.service.Statuses.Report(ctx)
}
