package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// Pools applies, shows, explains, wakes and deletes pools.
type Pools struct {
	store  *store.Store
	bus    Bus
	driver *drive.Driver
	region string // of pools that name none
	sizes  func(ctx context.Context, region string) ([]string, error)
	fleet  Fleet
	log    *slog.Logger
	now    func() time.Time

	hasDoors    bool // people can come in to nodes
	hasNetwork  bool // also beside the relay
	noAddresses bool // nodes have no public addresses
	prices      *Prices
}

// driveIfThere brings events to a pool; a pool that is gone needs nothing any more.
func driveIfThere(ctx context.Context, d *drive.Driver, name string, events ...pool.Event) error {
	_, err := d.Drive(ctx, name, events...)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// Pools summarizes the pool of that name, or all for "".
func (p *Pools) Pools(ctx context.Context, name string) ([]wire.PoolSummary, error) {
	names := []string{name}
	var err error
	if name == "" {
		names, err = p.store.PoolNames(ctx)
	} else {
		err = checkPoolName(ctx, p.store, name)
	}
	if err != nil {
		return nil, err
	}
	var all []wire.PoolSummary
	for _, n := range names {
		s, err := p.summary(ctx, n)
		if fault.CodeOf(err) == fault.NotFound {
			if name == "" {
				continue
			}
			return nil, noPool(ctx, p.store, n)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Specs are the documents of all pools.
func (p *Pools) Specs(ctx context.Context) ([]pool.Spec, error) {
	all, err := p.Pools(ctx, "")
	specs := make([]pool.Spec, len(all))
	for i, s := range all {
		specs[i] = s.Head.Spec
	}
	return specs, err
}

func (p *Pools) summary(ctx context.Context, name string) (wire.PoolSummary, error) {
	h, nodes, jobs, err := p.driver.Nodes(ctx, name)
	if err != nil {
		return wire.PoolSummary{}, err
	}
	slices.SortFunc(nodes, func(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) })
	return wire.PoolSummary{
		Head:     h,
		Queued:   h.Queued,
		Running:  h.Running,
		Wanted:   h.Wanted,
		Nodes:    nodes,
		NodeJobs: jobs,
		At:       p.now(),
	}, nil
}

// ExplainPool says why a pool has the size it has.
func (p *Pools) ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error) {
	if err := checkPoolName(ctx, p.store, name); err != nil {
		return wire.PoolExplanation{}, err
	}
	e, err := p.driver.ExplainPool(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		return wire.PoolExplanation{}, noPool(ctx, p.store, name)
	}
	return wire.NewPoolExplanation(name, e), err
}

// ApplyPool creates a pool or changes it to the spec, and returns it as it is then,
// with the warnings.
func (p *Pools) ApplyPool(ctx context.Context, spec pool.Spec) (wire.PoolSummary, error) {
	warnings, err := p.Apply(ctx, spec)
	if err != nil {
		return wire.PoolSummary{}, err
	}
	summary, err := p.summary(ctx, spec.Name)
	summary.Warnings = warnings
	return summary, err
}

// Apply creates a pool or changes it to the spec. It returns warnings for the person
// who wrote the spec.
func (p *Pools) Apply(ctx context.Context, spec pool.Spec) (warnings []string, err error) {
	if err := p.checkDocument(ctx, spec); err != nil {
		return nil, err
	}
	if warnings, err = p.checkSizes(ctx, spec); err != nil {
		return nil, err
	}
	out, err := p.driver.Drive(ctx, spec.Name, pool.Apply{Spec: spec})
	if err == nil && out.Head.Deleting {
		err = beingDeleted(spec.Name)
	}
	if err == nil && p.prices != nil && p.prices.hasNew(ctx, &out.Head) {
		if err := wake(ctx, p.bus, spec.Name, WakePrices, time.Time{}); err != nil {
			p.log.WarnContext(ctx, "prices of a pool are not asked for before the next refresh", "pool", spec.Name, "error", err)
		}
	}
	return warnings, err
}

func beingDeleted(name string) *fault.Error {
	return fault.New(fault.Conflict, "name",
		"pool %q is being deleted; apply it again when `dsvm pool list` does not show it any more", name)
}

// Resume ends the pauses in which a pool asks for no nodes.
func (p *Pools) Resume(ctx context.Context, name string) (wire.PoolSummary, error) {
	if err := checkPoolName(ctx, p.store, name); err != nil {
		return wire.PoolSummary{}, err
	}
	_, err := p.driver.Drive(ctx, name, pool.Resume{})
	if fault.CodeOf(err) == fault.NotFound {
		return wire.PoolSummary{}, noPool(ctx, p.store, name)
	}
	if err != nil {
		return wire.PoolSummary{}, err
	}
	return p.summary(ctx, name)
}

// Delete begins to delete a pool.
func (p *Pools) Delete(ctx context.Context, name string) error {
	if err := checkPoolName(ctx, p.store, name); err != nil {
		return err
	}
	_, err := p.driver.Drive(ctx, name, pool.Delete{})
	if fault.CodeOf(err) == fault.NotFound {
		return noPool(ctx, p.store, name)
	}
	return err
}

// Tick has a pool look at its deadlines. at is when the tick was enqueued.
func (p *Pools) Tick(ctx context.Context, name string, at time.Time) error {
	return driveIfThere(ctx, p.driver, name, pool.Tick{At: at})
}

// Notify brings a pool what other pools say of jobs.
func (p *Pools) Notify(ctx context.Context, name string, events ...pool.Event) error {
	return driveIfThere(ctx, p.driver, name, events...)
}

// WakeDue wakes, through the queue, each pool that has something alive, waiting or
// under way. A pool that fails does not stop the others.
func (p *Pools) WakeDue(ctx context.Context) error {
	names, err := p.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		part, err := p.store.Overview(ctx, name)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			continue
		case err != nil:
			errs = append(errs, err)
		case part.Head.NeedsLook(part.Nodes):
			errs = append(errs, wake(ctx, p.bus, name, drive.WakeTick, time.Time{}))
		}
	}
	return errors.Join(errs...)
}

// WakeAll wakes every pool through the queue.
func (p *Pools) WakeAll(ctx context.Context) error {
	names, err := p.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, wake(ctx, p.bus, name, drive.WakeTick, time.Time{}))
	}
	return errors.Join(errs...)
}
