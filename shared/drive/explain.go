package drive

import (
	"context"
	"slices"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// Explain says why a live job is where it is; false: it is not live, or no longer.
// fault.NotFound: there is no such pool.
func (d *Driver) Explain(ctx context.Context, name, order string) (e scheduler.Explanation, live bool, err error) {
	err = d.withState(ctx, name, func(s *scheduler.State) { e, live = scheduler.Explain(s, order, d.now(), d.timing) })
	return e, live, err
}

// ExplainAll explains live jobs, by their orders; those that are not live are left out.
// fault.NotFound: there is no such pool.
func (d *Driver) ExplainAll(ctx context.Context, name string, orders []string) (map[string]scheduler.Explanation, error) {
	all := map[string]scheduler.Explanation{}
	err := d.withState(ctx, name, func(s *scheduler.State) {
		for _, order := range orders {
			if e, live := scheduler.Explain(s, order, d.now(), d.timing); live {
				all[order] = e
			}
		}
	})
	return all, err
}

// ExplainPool says why a pool has the size it has. fault.NotFound: there is no
// such pool.
func (d *Driver) ExplainPool(ctx context.Context, name string) (e scheduler.Explanation, err error) {
	err = d.withState(ctx, name, func(s *scheduler.State) { e = scheduler.ExplainPool(s, d.now(), d.timing) })
	return e, err
}

// PlanApply says what a new spec would do to a pool, and changes nothing. fault.NotFound:
// there is no such pool.
func (d *Driver) PlanApply(ctx context.Context, name string, spec pool.Spec) (plan scheduler.ApplyPlan, err error) {
	err = d.withState(ctx, name, func(s *scheduler.State) {
		plan = scheduler.PlanApply(s, spec, d.now())
		plan.Head.Sets = slices.Clone(plan.Head.Sets)
		plan.Leaving, plan.Staying, plan.Hit = copyAll(plan.Leaving), copyAll(plan.Staying), copyAll(plan.Hit)
		for i, j := range plan.Stuck {
			plan.Stuck[i].Job = copyAll([]*pool.Job{j.Job})[0]
		}
	})
	return plan, err
}

// copyAll copies rows, which the next step may change.
func copyAll[T any](rows []*T) []*T {
	out := make([]*T, len(rows))
	for i, row := range rows {
		one := *row
		out[i] = &one
	}
	return out
}

// Assigned is the job that a node has under an assignment number; false: it has none, or
// no longer. fault.NotFound: there is no such pool.
func (d *Driver) Assigned(ctx context.Context, name, vmid string, number int64) (j pool.Job, held bool, err error) {
	err = d.withState(ctx, name, func(s *scheduler.State) {
		if found := s.Assigned(vmid, number); found != nil {
			j, held = *found, true
		}
	})
	return j, held, err
}

// Nodes is a pool's head, its nodes and how many jobs each of them has, by VMID.
// fault.NotFound: there is no such pool.
func (d *Driver) Nodes(ctx context.Context, name string) (head pool.Head, nodes []*pool.Node, jobs map[string]int, err error) {
	err = d.withState(ctx, name, func(s *scheduler.State) {
		head, jobs = s.Head, map[string]int{}
		head.Sets = slices.Clone(head.Sets)
		for vmid, n := range s.Nodes {
			row := *n.Node
			nodes = append(nodes, &row)
			jobs[vmid] = n.JobCount()
		}
	})
	return head, nodes, jobs, err
}

// OpenEntries are what the ledger would get of a pool if all that runs in it ended now.
// fault.NotFound: there is no such pool.
func (d *Driver) OpenEntries(ctx context.Context, name string, now time.Time) (entries []usage.Entry, err error) {
	err = d.withState(ctx, name, func(s *scheduler.State) { entries = s.OpenEntries(now) })
	return entries, err
}

// withState calls show with the pool's current state, which show must not change.
func (d *Driver) withState(ctx context.Context, name string, show func(*scheduler.State)) error {
	a := d.actor(name)
	if err := a.lock(ctx); err != nil {
		return err
	}
	defer a.unlock()
	if a.state != nil {
		v, err := d.store.Head(ctx, name)
		if err != nil {
			return err
		}
		if !v.Same(a.version) { // another process has changed the pool
			a.markOutdated()
		}
	}
	if err := d.load(ctx, a, nil); err != nil {
		return err
	}
	show(a.state)
	return nil
}
