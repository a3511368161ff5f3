package handlers

import (
	"context"
	"errors"

	"dsvmpools/shared/invoke"
)

// RecordUsage copies what the pools note for the ledger into the usage table, and adds it to
// the sums. The pools ask for it soon after they note something; this timer takes up what is left
// when such a request is lost. After that it removes what has been kept for long enough.
func (f *Functions) RecordUsage(ctx context.Context, _ invoke.Tick) error {
	return errors.Join(f.service.Ledger.RecordAll(ctx), f.service.Ledger.BuildMissingSums(ctx), f.service.Retention.Run(ctx))
}
