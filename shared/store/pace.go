package store

import (
	"context"
	"sync"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/store/table"
)

// slowestPace is the rate, in entities per second, that refusals cannot push a pool below.
// It is far below the 2,000 of the service, since other processes may write to the same
// partition.
const slowestPace = 50

// maxPaces bounds the pools whose pace is kept. Above it all are forgotten; a pool at its
// limit finds it again with its next refusal.
const maxPaces = 1_000

// paces are the paces of the transactions of pools. The service limits the entities per
// second of a partition, and a pool is one partition. While transactions wait, events
// gather, so that the next transaction is larger and needs fewer entities per job.
type paces struct {
	mu  sync.Mutex
	all map[string]*backoff.Pace
}

func (p *paces) of(pool string) *backoff.Pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	pace := p.all[pool]
	if pace == nil {
		if len(p.all) >= maxPaces || p.all == nil {
			p.all = map[string]*backoff.Pace{}
		}
		pace = &backoff.Pace{Floor: slowestPace}
		p.all[pool] = pace
	}
	return pace
}

// submit sends a transaction at the pace of its pool.
func (p *Pools) submit(ctx context.Context, t *transaction) (table.ETag, error) {
	pace := p.paces.of(t.pool)
	if err := patience.Wait(ctx, pace.Reserve(time.Now(), len(t.operations))); err != nil {
		return "", wrap(fault.Throttled, err, "%s: the table service is busy", t.what())
	}
	etag, err := p.table.Submit(ctx, t.operations)
	if table.IsBusy(err) {
		pace.Refuse(time.Now(), len(t.operations))
	}
	return etag, err
}
