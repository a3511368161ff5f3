package drive

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// send performs the effects that are messages, during the visit: work for a node must
// leave in the order of its numbers.
func (d *Driver) send(ctx context.Context, a *actor, e pool.Effects) error {
	errs := make(chan error)
	started := 0
	start := func(send func() error) {
		started++
		go func() { errs <- send() }()
	}
	for vmid, items := range e.Work {
		start(func() error {
			items = d.addDoors(ctx, a, vmid, items)
			if len(items) == 0 {
				return nil
			}
			return d.bus.Work(ctx, protocol.SessionID(a.name, vmid), items)
		})
	}
	if !e.WakeAt.IsZero() {
		start(func() error { return d.bus.Wake(ctx, a.name, WakeTick, e.WakeAt) })
	}
	if !e.RecordAt.IsZero() {
		start(func() error { return d.bus.Wake(ctx, a.name, WakeRecord, e.RecordAt) })
	}
	for other, ids := range e.Notify {
		start(func() error { return d.bus.Ended(ctx, other, ids) })
	}
	var all []error
	for range started {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// addCalls adds the calls to Azure of one step to the calls of earlier steps. A capacity
// or an operation to poll replaces the earlier one.
func addCalls(calls *pool.Effects, e pool.Effects) {
	for name, c := range e.Sets {
		if calls.Sets == nil {
			calls.Sets = map[string]*pool.SetCalls{}
		}
		all := calls.Sets[name]
		if all == nil {
			calls.Sets[name] = c
			continue
		}
		all.Set = c.Set
		if c.Grow > 0 {
			all.Grow = c.Grow
		}
		if c.Poll != "" {
			all.Poll, all.PollKind = c.Poll, c.PollKind
		}
		all.Shrink, all.Drop, all.Model = all.Shrink || c.Shrink, all.Drop || c.Drop, all.Model || c.Model
	}
	calls.List = calls.List || e.List
	calls.DropRows = calls.DropRows || e.DropRows
	if e.Network != nil {
		calls.Network = e.Network
	}
	for _, n := range e.Remove { // copies, because the calls are made outside of the visit
		node := *n
		calls.Remove = append(calls.Remove, &node)
	}
	calls.Fence = append(calls.Fence, e.Fence...)
	calls.LookUp = append(calls.LookUp, e.LookUp...)
	calls.LookAt = append(calls.LookAt, e.LookAt...)
}

// maxRemovals bounds the instances that one call removes.
const maxRemovals = 100

// callAzure makes the calls that steps have decided on, and returns their answers as
// events. A scale set that refuses a change or a poll is an answer too.
func (d *Driver) callAzure(ctx context.Context, name string, head pool.Head, e pool.Effects) []pool.Event {
	events := d.callSets(ctx, name, head.Spec, e)
	if e.Network != nil {
		events = append(events, d.open(ctx, name, *e.Network))
	}
	for _, vmid := range e.Fence {
		taken, err := d.bus.Fence(ctx, protocol.SessionID(name, vmid))
		if err != nil {
			d.log.Warn("taking the session of a silent node failed", "pool", name, "node", vmid, "error", err)
			continue
		}
		events = append(events, pool.Fenced{VMID: vmid, Taken: taken})
	}
	for _, set := range head.Sets {
		c := e.Sets[set.Name]
		if shrink := c != nil && c.Shrink; set.Used && (e.List || shrink) {
			events = append(events, d.listSet(ctx, name, head.Spec, set, shrink)...)
		}
	}
	if e.DropRows {
		d.dropRows(ctx, name)
	}
	return append(events, d.lookUpEnded(ctx, name, e)...)
}

// networkWithin bounds a call to the network: see scheduler.Timing.NetworkAgain.
const networkWithin = time.Minute

// open has the network of a pool compared with what it is to be.
func (d *Driver) open(ctx context.Context, name string, want pool.Network) pool.Event {
	ctx, cancel := context.WithTimeout(ctx, networkWithin)
	defer cancel()
	answer := pool.Networked{Key: want.Key(), Began: d.now()}
	if d.network == nil {
		answer.Err = fault.New(fault.Invalid, "access", "this deployment opens no node to people beside the relay; "+
			"set DSVM_WAYS_FROM, see docs/interactive.md")
		return answer
	}
	var err error
	if answer.Address, answer.After, err = d.network.Open(ctx, name, want); err == nil {
		return answer
	}
	d.log.Warn("opening or closing the network of a pool failed; the pool tries again", "pool", name, "error", err)
	if !errors.As(err, &answer.Err) {
		answer.Err = &fault.Error{Code: fault.Internal, Message: err.Error(), Err: err}
	}
	return answer
}

// callSets makes all calls to the scale sets except lists and shrinks. It calls
// different sets at the same time, so that a slow answer of one does not delay another.
func (d *Driver) callSets(ctx context.Context, name string, spec pool.Spec, e pool.Effects) []pool.Event {
	leaving := groupBySet(e.Remove)
	sets := slices.Sorted(maps.Keys(e.Sets))
	for set := range leaving {
		sets = append(sets, set)
	}
	slices.Sort(sets)
	sets = slices.Compact(sets)
	answers := make([][]pool.Event, len(sets))
	var g errgroup.Group
	for i, set := range sets {
		g.Go(func() error {
			// Instances are removed first: Azure lowers the capacity by their number, and
			// the capacity that the step asks for does not count them.
			answers[i] = d.removeFrom(ctx, name, set, leaving[set])
			if c := e.Sets[set]; c != nil {
				answers[i] = append(answers[i], d.callSet(ctx, name, spec, c)...)
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error: errors are among the answers
	return slices.Concat(answers...)
}

// removeFrom deletes instances of a set by name.
func (d *Driver) removeFrom(ctx context.Context, name, set string, nodes []*pool.Node) (events []pool.Event) {
	for len(nodes) > 0 {
		some := nodes[:min(len(nodes), maxRemovals)]
		nodes = nodes[len(some):]
		a := d.answer(name, set, pool.OpRemove, Operation{}, d.fleet.Remove(ctx, name, set, some))
		if a.Err == nil {
			continue // lists show when they are gone
		}
		for _, n := range some {
			a.Nodes = append(a.Nodes, n.VMID)
		}
		events = append(events, a)
	}
	return events
}

// callSet makes all calls to one scale set except removals, lists and shrinks.
func (d *Driver) callSet(ctx context.Context, name string, spec pool.Spec, c *pool.SetCalls) []pool.Event {
	var events []pool.Event
	set := c.Set.Name
	if c.Grow > 0 {
		op, err := d.fleet.Grow(ctx, name, spec, c.Set, c.Grow)
		a := d.answer(name, set, pool.OpGrow, op, err)
		a.Target = c.Grow
		events = append(events, a)
	}
	if c.Model {
		op, err := d.fleet.UpdateModel(ctx, name, spec, c.Set)
		events = append(events, d.answer(name, set, pool.OpModel, op, err))
	}
	if c.Poll != "" {
		op, err := d.fleet.Poll(ctx, c.Poll)
		if fault.CodeOf(err) == fault.Gone {
			err = nil // nobody knows the operation any more; lists show what became of it
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

func groupBySet(nodes []*pool.Node) map[string][]*pool.Node {
	sets := map[string][]*pool.Node{}
	for _, n := range nodes {
		sets[n.Set] = append(sets[n.Set], n)
	}
	return sets
}

// listSet lists a scale set and, if shrink is true, lowers its capacity to the number of
// instances in the list. A failed list means nothing; in particular it does not mean
// that the set is empty.
func (d *Driver) listSet(ctx context.Context, name string, spec pool.Spec, of pool.Set, shrink bool) []pool.Event {
	set, began := of.Name, d.now()
	listed, err := d.fleet.List(ctx, name, spec, of)
	if err != nil {
		d.log.Warn("listing a scale set failed", "pool", name, "set", set, "error", err)
		if shrink {
			return []pool.Event{d.answer(name, set, pool.OpShrink, Operation{}, err)}
		}
		return nil
	}
	listed.At = began // the visit that takes it in may come much later
	events := []pool.Event{listed}
	if shrink {
		op, err := d.fleet.Shrink(ctx, name, set, len(listed.Instances))
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
	d.log.Warn("call to a scale set failed", "pool", name, "set", set, "call", kind, "error", err)
	if !errors.As(err, &a.Err) {
		a.Err = &fault.Error{Code: fault.Internal, Message: err.Error(), Err: err}
	}
	return a
}

// dropRows copies what a deleted pool has noted for the ledger, then deletes its rows.
func (d *Driver) dropRows(ctx context.Context, name string) {
	err := d.ledger.Record(ctx, name)
	if err == nil {
		err = d.store.DeletePool(ctx, name)
	}
	if err != nil {
		d.log.Warn("deleting the rows of a pool failed; the next step tries again", "pool", name, "error", err)
		return
	}
	d.mu.Lock()
	delete(d.pools, name)
	d.mu.Unlock()
}
