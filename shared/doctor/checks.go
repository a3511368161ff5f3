package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// mostSkew is how far the clock of the app may be from that of Azure: tokens are not taken
// any more at five minutes.
const mostSkew = time.Minute

// tables checks the rights on the tables, and the clock by their answer.
func (d *Doctor) tables(ctx context.Context) []wire.Check {
	before := d.Now()
	at, err := d.Tables.TestAccess(ctx)
	row := good("tables", "a row was written, read and deleted")
	if err != nil {
		row = wrong("tables", err, d.Place.mendTables())
	}
	return []wire.Check{row, d.clock(at, before, d.Now())}
}

// clock compares the app's clock with a service's, which was read between two times.
func (d *Doctor) clock(at, before, after time.Time) wire.Check {
	if at.IsZero() {
		return wire.Check{Check: "clock", State: wire.CheckUnknown, Detail: "no service has said what time it is"}
	}
	skew := before.Add(after.Sub(before) / 2).Sub(at)
	if skew.Abs() > mostSkew+after.Sub(before) {
		return wire.Check{Check: "clock", State: wire.CheckFailed,
			Detail: fmt.Sprintf("the app's clock is %s off that of the tables; Azure refuses tokens from five minutes on", skew.Round(time.Second)),
			Mend:   "restart the app; on a machine of your own, have it keep its time by NTP"}
	}
	return good("clock", "within %s of that of the tables", max(skew.Abs().Round(time.Second), time.Second))
}

// wantedQueue is a queue and what it has to be like.
type wantedQueue struct {
	name     string
	sessions bool
	lock     time.Duration // at least; 0 = any
}

// invocationTime is how long an invocation may take; the lock of what it holds has to last
// longer.
const invocationTime = 4 * time.Minute

func (d *Doctor) queues() []wantedQueue {
	q := d.Bus.Queues()
	return []wantedQueue{
		{name: q.Jobs, lock: invocationTime},
		{name: q.Pools, lock: invocationTime},
		{name: q.PoolEvents, lock: invocationTime},
		{name: q.NodeEvents, lock: invocationTime},
		{name: q.Work, sessions: true},
		{name: q.Rejected},
	}
}

// queue checks one queue: that it is there, is as the app needs it, and may be used.
func (d *Doctor) queue(ctx context.Context, want wantedQueue) wire.Check {
	name := "queue " + want.name
	q, err := d.Bus.Inspect(ctx, want.name)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return wrong(name, err, deployAgain)
	case err != nil:
		return wrong(name, err, d.Place.mendBus())
	}
	if q.Sessions != want.sessions { // nobody can change that of a queue
		return wire.Check{Check: name, State: wire.CheckFailed,
			Detail: fmt.Sprintf("the queue has sessions: %t, and the app needs: %t", q.Sessions, want.sessions),
			Mend:   "delete the queue, and " + deployAgain}
	}
	if err := d.Bus.TestAccess(ctx, want.name, want.sessions); err != nil {
		return wrong(name, err, d.Place.mendBus())
	}
	detail := fmt.Sprintf("%d waiting, %d dead, lock %s", q.Active, q.Dead, q.Lock)
	if q.Lock != 0 && q.Lock <= want.lock {
		return wire.Check{Check: name, State: wire.CheckFailed,
			Detail: detail + fmt.Sprintf(": an invocation may take %s, and what it holds comes again meanwhile", want.lock),
			Mend:   deployAgain}
	}
	return good(name, "%s", detail)
}

// example is a pool by which nodes are judged, and its first rung: one of the app's, or a
// small one if there is none yet.
func (d *Doctor) example(ctx context.Context) (pool.Spec, pool.Set) {
	bounded, cancel := context.WithTimeout(ctx, checkTime/2)
	defer cancel()
	specs, _ := d.Pools(bounded) // the check of the tables says why there is none
	byName := func(a, b pool.Spec) int { return strings.Compare(a.Name, b.Name) }
	for _, spec := range slices.SortedFunc(slices.Values(specs), byName) {
		if rungs := spec.Rungs(); len(rungs) > 0 {
			return spec, rungs[0]
		}
	}
	spec := pool.Spec{Name: "doctor", Sizes: []string{"Standard_D2s_v5"}}
	return spec, spec.Rungs()[0]
}

// sizes checks that the sizes can be read, by which a pool's are judged when it is applied.
func (d *Doctor) sizes(ctx context.Context) wire.Check {
	names, err := d.Sizes(ctx, d.Place.Location)
	if err != nil {
		row := wrong("sizes", err, d.Place.mendReading("vmSizes"))
		row.State = wire.CheckUnknown // nothing stops without it
		row.Detail = fmt.Sprintf(
			"the sizes of %s cannot be read, so that a misspelled one is found only when nodes are asked for", d.Place.Location)
		return row
	}
	_, set := d.example(ctx)
	if !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, set.Size) }) {
		return wire.Check{Check: "sizes", State: wire.CheckFailed,
			Detail: fmt.Sprintf("%s has no %s", d.Place.Location, set.Size),
			Mend:   fmt.Sprintf("az vm list-skus --location %s -o table, then name other sizes in the pool", d.Place.Location)}
	}
	return good("sizes", "%s has %d sizes", d.Place.Location, len(names))
}

// quota checks that the quotas can be read, and says them.
func (d *Doctor) quota(ctx context.Context) wire.Check {
	spec, set := d.example(ctx)
	sentences, err := d.Fleet.Quotas(ctx, spec.Name, spec, set)
	switch {
	case err != nil:
		return wrong("quota", err, d.Place.mendReading("usages"))
	case len(sentences) == 0 && !d.Mounted:
		return good("quota", "this instance has no quotas") // of dsvm up, unless it was started with --quota
	case len(sentences) == 0:
		return wire.Check{Check: "quota", State: wire.CheckUnknown,
			Detail: fmt.Sprintf("Azure lists no quota that %s counts towards", set.String()),
			Mend:   "look under Quotas in the portal for the family of this size"}
	}
	return good("quota", "%s", strings.Join(sentences, ", "))
}

// nodes has Azure judge a scale set: image, subnet, identity, key and size, and the rights
// on all of them.
func (d *Doctor) nodes(ctx context.Context) wire.Check {
	spec, set := d.example(ctx)
	if err := d.Fleet.Check(ctx, spec.Name, spec, set); err != nil {
		var f *fault.Error
		detail := err.Error()
		if errors.As(err, &f) {
			detail = f.Message
		}
		return wrong("nodes", err, d.Place.mendNodes(detail))
	}
	return good("nodes", "Azure takes a scale set of %s with the deployment's image, subnet, identity and key", set.String())
}
