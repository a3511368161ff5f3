package service

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// defaultTimeline is what a timeline is about when no begin is given.
const defaultTimeline = 24 * time.Hour

// lateInterval is more than an interval that begins in a time ends after it.
const lateInterval = 2 * time.Hour

// Timeline says what nodes did in a time. A pool that is not there and of which nothing is recorded
// is notFound.
func (o *Overview) Timeline(ctx context.Context, q wire.TimelineQuery) (wire.Timeline, error) {
	now := o.now().UTC()
	if q.To.IsZero() || q.To.After(now) {
		q.To = now
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-defaultTimeline)
	}
	switch length := q.To.Sub(q.From); {
	case length <= 0:
		return wire.Timeline{}, fault.New(fault.Invalid, "from", "from (%s) is not before to (%s)",
			q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	case length > wire.MaxTimeline:
		return wire.Timeline{}, fault.New(fault.Invalid, "from", "a timeline is of %d days at most; ask for a part of it",
			wire.MaxTimeline/oneDay)
	}
	names := []string{q.Pool}
	var err error
	if q.Pool == "" {
		names, err = o.poolNames(ctx)
	} else {
		err = checkPoolName(ctx, o.store, q.Pool)
	}
	if err != nil {
		return wire.Timeline{}, err
	}
	step := max((q.To.Sub(q.From)+time.Duration(q.Buckets)*time.Second-1)/time.Duration(q.Buckets)/time.Second, 1)
	line := usage.NewTimeline(q.From, step*time.Second, q.Buckets)
	var mu sync.Mutex
	add := func(e usage.Entry) error {
		mu.Lock()
		defer mu.Unlock()
		line.Add(&e)
		return nil
	}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(reportWorkers)
	for _, name := range names {
		group.Go(func() error { return o.eachInterval(grouped, name, q, now, add) })
	}
	if err := group.Wait(); err != nil {
		return wire.Timeline{}, err
	}
	out := wire.Timeline{From: q.From.UTC(), Step: int(step), Nodes: []wire.TimelineNode{}}
	for _, n := range line.Nodes() {
		out.Nodes = append(out.Nodes, wire.TimelineNode{Node: n.Node, Pool: n.Pool, States: string(n.States)})
	}
	if len(out.Nodes) == 0 && q.Pool != "" {
		if _, err := o.store.Head(ctx, q.Pool); fault.CodeOf(err) == fault.NotFound {
			return wire.Timeline{}, noPool(ctx, o.store, q.Pool)
		}
	}
	return out, nil
}

// eachInterval hands over the intervals of a pool's nodes. An interval is open, noted by its pool,
// or in the ledger, and goes from each to the next: they are looked at in this order, and one may
// come twice.
func (o *Overview) eachInterval(ctx context.Context, name string, q wire.TimelineQuery, now time.Time, add func(usage.Entry) error) error {
	u := &use{open: map[string]usage.Entry{}, ended: map[string]usage.Entry{}}
	if _, err := o.ledger.findUnrecorded(ctx, name, now, u); err != nil {
		return err
	}
	for _, some := range []map[string]usage.Entry{u.open, u.ended} {
		for _, e := range some {
			if err := add(e); err != nil {
				return err
			}
		}
	}
	until := q.To.Add(lateInterval)
	if until.After(now) {
		until = now.Add(clockSlack)
	}
	return o.store.NodeIntervals(ctx, name, q.From, until, add)
}
