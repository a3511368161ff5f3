package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// dropSeenSteps are how long before the jobs that were dropped last a pool may have had no older
// finished job. Jobs that ran for days keep rows of the index about as many days longer.
var dropSeenSteps = []time.Duration{24 * time.Hour, 72 * time.Hour, 240 * time.Hour, 720 * time.Hour}

// DropSeen drops rows of the index of finished jobs that are about jobs from before a time, as far
// back as the pool has no finished job that was submitted then. It may be cut off and repeated. A
// row that was written within twice noteLasts stays, since a process may rely on it.
func (p *Pools) DropSeen(ctx context.Context, name string, before, now time.Time) (n int, err error) {
	if err := job.CheckPool("pool", name); err != nil {
		return 0, err
	}
	for _, step := range dropSeenSteps {
		end := before.Add(-step)
		has, err := p.hasFinishedBefore(ctx, name, end)
		if err != nil {
			return 0, err
		}
		if !has {
			return p.dropSeenBefore(ctx, name, end, now.Add(-2*noteLasts))
		}
	}
	return 0, nil
}

// hasFinishedBefore reports whether a pool has a finished job that was submitted before a time.
func (p *Pools) hasFinishedBefore(ctx context.Context, name string, end time.Time) (bool, error) {
	order, err := orderAt(end)
	if err != nil {
		return false, err
	}
	q := table.Query{Filter: table.Between(name, pool.DoneKey(order)+"!", pool.DoneTo), Fields: "PartitionKey", Limit: 1}
	found := false
	_, err = p.table.Scan(ctx, "look for old jobs of pool "+name, q, func([]byte) error { found = true; return nil })
	return found, err
}

// dropSeenBefore drops the rows about jobs from before a time that were written before another one,
// unless they are written again meanwhile.
func (p *Pools) dropSeenBefore(ctx context.Context, name string, end, written time.Time) (n int, err error) {
	what := "drop old rows of the index of pool " + name
	q := table.Query{
		Filter: table.Between(name, seenPrefix, seenEnd) + fmt.Sprintf(" and At lt datetime'%s' and Timestamp lt datetime'%s'",
			end.UTC().Format(table.TimeLayout), written.UTC().Format(table.TimeLayout)),
		Fields: "PartitionKey,RowKey,Timestamp",
	}
	var rows []table.Operation
	_, err = p.table.Scan(ctx, what, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		etag, err := table.DecodeETag(raw)
		rows = append(rows, table.Operation{Kind: table.Delete, Row: table.KeysOnly(name, key), Match: etag})
		return err
	})
	if err != nil {
		return 0, err
	}
	for batch := range slices.Chunk(rows, table.MaxRows) {
		_, err := p.table.Submit(ctx, batch)
		var refused *table.Refusal
		if errors.As(err, &refused) && refused.LostRace() {
			continue // one of them was written again, or another process drops them; the next run sees
		}
		if err != nil {
			return n, table.Fault(what, err)
		}
		n += len(batch)
	}
	return n, nil
}
