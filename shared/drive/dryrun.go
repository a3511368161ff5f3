package drive

import (
	"context"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// DryRun says what the pool would do with a job that is submitted now. It reads the pool's
// rows, decides on a copy of its own and writes nothing. fault.NotFound: there is no such
// pool. Another error with a code says why the pool refuses the job.
func (d *Driver) DryRun(ctx context.Context, name string, j pool.Submit) (scheduler.DryRunResult, error) {
	var jobs scheduler.Rows
	part, _, err := d.store.LoadInto(ctx, name, &jobs)
	if err != nil {
		return scheduler.DryRunResult{}, err
	}
	now := d.now()
	return scheduler.DryRun(scheduler.NewStateOf(part.Head, part.Nodes, &jobs, now), j, now, d.timing)
}
