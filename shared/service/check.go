package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

const (
	// checkTime bounds a check of a pool: an answer over HTTP ends at 230 s.
	checkTime = 150 * time.Second
	// checksAtOnce bounds the sets that are made side by side: Azure counts writes.
	checksAtOnce = 4
)

// Check has Azure judge each scale set that a pool of this spec would have, by one without
// instances, which costs nothing. Nothing of the pool is written. It returns a row for each
// set, in the order of the ladder. It takes up to checkTime.
func (p *Pools) Check(ctx context.Context, spec pool.Spec) ([]wire.Check, error) {
	if err := p.checkDocument(ctx, spec); err != nil {
		return nil, err
	}
	if _, err := p.checkSizes(ctx, spec); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	rungs := spec.Rungs()
	rows := make([]wire.Check, len(rungs))
	places := make(chan struct{}, checksAtOnce)
	var wg sync.WaitGroup
	for i, set := range rungs {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			rows[i] = checked(set, p.fleet.Check(ctx, spec.Name, spec, set))
		})
	}
	wg.Wait()
	return rows, nil
}

// checked is the row of one set.
func checked(set pool.Set, err error) wire.Check {
	row := wire.Check{Check: set.String(), State: wire.CheckOK, Detail: "Azure takes its image, subnet, identity, key and size"}
	if err == nil {
		return row
	}
	row.State, row.Detail = wire.CheckFailed, err.Error()
	var f *fault.Error
	if errors.As(err, &f) {
		row.Detail = f.Message
	}
	switch fault.CodeOf(err) {
	case fault.Throttled, fault.Internal, fault.Conflict, fault.Preempted, fault.Gone:
		row.State, row.Mend = wire.CheckUnknown, "check again in a minute"
	case fault.NoQuota, fault.NoCapacity: // the pool takes its next rung, or waits
		row.Mend = "name other sizes as well, or ask for more quota"
	default:
		row.Mend = "correct the pool's document, or what the sentence names; `dsvm doctor` shows what is wrong with the deployment itself"
	}
	return row
}
