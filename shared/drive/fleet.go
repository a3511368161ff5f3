package drive

import (
	"context"
	"errors"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// merge adds a step's calls to Azure to those of the steps before it.
func merge(calls *pool.Effects, e pool.Effects) {
	for name, c := range e.Sets {
		if calls.Sets == nil {
			calls.Sets = map[string]*pool.SetCalls{}
		}
		all := calls.Sets[name]
		if all == nil {
			calls.Sets[name] = c
			continue
		}
		if all.Set = c.Set; c.Grow > 0 {
			all.Grow = c.Grow
		}
		if c.Poll != "" {
			all.Poll, all.PollKind = c.Poll, c.PollKind
		}
		all.Shrink, all.Drop = all.Shrink || c.Shrink, all.Drop || c.Drop
	}
	calls.List = calls.List || e.List
	calls.DropRows = calls.DropRows || e.DropRows
	calls.Remove = append(calls.Remove, e.Remove...)
	calls.Fence = append(calls.Fence, e.Fence...)
	calls.LookUp = append(calls.LookUp, e.LookUp...)
}

// removeAtOnce bounds the instances named in one call.
const removeAtOnce = 100

// call makes the calls to Azure that were decided and returns their answers as
// events. A call that fails is an answer too.
func (d *Driver) call(ctx context.Context, name string, head pool.Head, e pool.Effects) []pool.Event {
	events := d.callSets(ctx, name, head.Spec, e)
	for _, vmid := range e.Fence {
		taken, err := d.bus.Fence(ctx, protocol.SessionID(name, vmid))
		if err != nil {
			d.log.Warn("a silent node's session could not be tried", "pool", name, "vmid", vmid, "error", err)
			continue
		}
		events = append(events, pool.Fenced{VMID: vmid, Taken: taken})
	}
	for _, set := range head.Sets {
		c := e.Sets[set.Name]
		if settle := c != nil && c.Shrink; set.Used && (e.List || settle) {
			events = append(events, d.list(ctx, name, set.Name, settle)...)
		}
	}
	if e.DropRows {
		d.dropRows(ctx, name)
	}
	return append(events, d.ask(ctx, name, e.LookUp)...)
}

// callSets makes the calls to the scale sets but for the lists, those of different
// sets side by side: a slow answer about one keeps no other from growing.
func (d *Driver) callSets(ctx context.Context, name string, spec pool.Spec, e pool.Effects) []pool.Event {
	going := bySet(e.Remove)
	sets := slices.Sorted(maps.Keys(e.Sets))
	for set := range going {
		sets = append(sets, set)
	}
	slices.Sort(sets)
	sets = slices.Compact(sets)
	answers := make([][]pool.Event, len(sets))
	var g errgroup.Group
	for i, set := range sets {
		g.Go(func() error {
			// What is deleted comes off the capacity by itself, so that goes first: what
			// is asked for counts without it.
			answers[i] = d.removeFrom(ctx, name, set, going[set])
			if c := e.Sets[set]; c != nil {
				answers[i] = append(answers[i], d.callSet(ctx, name, spec, c)...)
			}
			return nil
		})
	}
	g.Wait()
	return slices.Concat(answers...)
}

// removeFrom deletes instances of a set by name.
func (d *Driver) removeFrom(ctx context.Context, name, set string, nodes []*pool.Node) (events []pool.Event) {
	for len(nodes) > 0 {
		some := nodes[:min(len(nodes), removeAtOnce)]
		nodes = nodes[len(some):]
		a := d.answer(name, set, pool.OpRemove, Operation{}, d.fleet.Remove(ctx, name, set, some))
		if a.Err == nil {
			continue // the listing shows when they are gone
		}
		for _, n := range some {
			a.Nodes = append(a.Nodes, n.VMID)
		}
		events = append(events, a)
	}
	return events
}

// callSet makes the calls to one scale set but for the list.
func (d *Driver) callSet(ctx context.Context, name string, spec pool.Spec, c *pool.SetCalls) []pool.Event {
	var events []pool.Event
	set := c.Set.Name
	if c.Grow > 0 {
		op, err := d.fleet.Grow(ctx, name, spec, c.Set, c.Grow)
		a := d.answer(name, set, pool.OpGrow, op, err)
		a.Target = c.Grow
		events = append(events, a)
	}
	if c.Poll != "" {
		op, err := d.fleet.Poll(ctx, c.Poll)
		if fault.CodeOf(err) == fault.Gone {
			err = nil // the operation is not known any more; the listing tells
		}
		a := d.answer(name, set, c.PollKind, op, err)
		a.Of = c.Poll
		events = append(events, a)
	}
	if c.Drop {
		op, err := d.fleet.Drop(ctx, name, set)
		events = append(events, d.answer(name, set, pool.OpDrop, op, err))
	}
	return events
}

func bySet(nodes []*pool.Node) map[string][]*pool.Node {
	sets := map[string][]*pool.Node{}
	for _, n := range nodes {
		sets[n.Set] = append(sets[n.Set], n)
	}
	return sets
}

// askWorkers bounds the reads that one call has under way.
const askWorkers = 8

// ask finds out what became of jobs that others wait for. What cannot be read is
// asked for again with the next tick.
func (d *Driver) ask(ctx context.Context, name string, ids []string) []pool.Event {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	states := make([]job.State, len(ids))
	var g errgroup.Group
	g.SetLimit(askWorkers)
	for i, id := range ids {
		g.Go(func() error {
			state, err := d.store.EndState(ctx, name, id)
			if err != nil && fault.CodeOf(err) != fault.NotFound {
				d.log.Warn("a job that others wait for could not be looked up", "pool", name, "job", id, "error", err)
			}
			if err == nil {
				states[i] = state
			}
			return nil
		})
	}
	g.Wait()
	var events []pool.Event
	for i, state := range states {
		if state != "" {
			events = append(events, pool.JobEnd{ID: ids[i], State: state})
		}
	}
	return events
}

// list looks at the scale set. A look that failed says nothing, and in
// particular not that there is nothing.
func (d *Driver) list(ctx context.Context, name, set string, settle bool) []pool.Event {
	listed, err := d.fleet.List(ctx, name, set)
	if err != nil {
		d.log.Warn("the scale set could not be listed", "pool", name, "set", set, "error", err)
		if settle {
			return []pool.Event{d.answer(name, set, pool.OpShrink, Operation{}, err)}
		}
		return nil
	}
	events := []pool.Event{listed}
	if settle {
		op, err := d.fleet.Settle(ctx, name, set, len(listed.Instances))
		events = append(events, d.answer(name, set, pool.OpShrink, op, err))
	}
	return events
}

// answer turns the outcome of a call into an event.
func (d *Driver) answer(name, set, kind string, op Operation, err error) pool.Answered {
	a := pool.Answered{Set: set, Kind: kind, Token: op.Token, After: op.After}
	if err == nil {
		return a
	}
	d.log.Warn("a call to the scale set failed", "pool", name, "set", set, "call", kind, "error", err)
	if !errors.As(err, &a.Err) {
		a.Err = &fault.Error{Code: fault.Internal, Message: err.Error(), Err: err}
	}
	return a
}

// dropRows removes what is left of a deleted pool, its ledger first.
func (d *Driver) dropRows(ctx context.Context, name string) {
	err := d.ledger.Record(ctx, name)
	if err == nil {
		err = d.store.DeletePool(ctx, name)
	}
	if err != nil {
		d.log.Warn("the rows of a deleted pool are left for the next look", "pool", name, "error", err)
		return
	}
	d.mu.Lock()
	delete(d.pools, name)
	d.mu.Unlock()
}
