package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Work sends items to a node; when it fails, some of them may have been sent.
func (p *ports) Work(ctx context.Context, session string, items []protocol.WorkItem) error {
	w := p.w
	_, vmid, _ := strings.Cut(session, ".")
	return p.call(ctx, "bus work", vmid, func(c *call) error {
		sent := items
		w.checker.sends(items)
		if w.chance(100) {
			sent = items[:w.rng.Intn(len(items))]
		}
		for _, i := range sent {
			delete(w.unsent, assignment{vmid, i.N})
		}
		w.work[vmid] = append(w.work[vmid], workMail{sent, w.now.Add(time.Duration(w.rng.Intn(2)) * time.Second)})
		c.answered = func(err error) error {
			if err == nil {
				p.owed.sent(vmid, items)
			}
			return err
		}
		if len(sent) < len(items) {
			return unknown()
		}
		return nil
	})
}

// Wake has the pool driven with a tick, or its ledger recorded, at a time.
func (p *ports) Wake(ctx context.Context, _, kind string, at time.Time) error {
	w := p.w
	p.owed.done("wake "+kind, at.String())
	return p.call(ctx, "bus wake", kind, func(*call) error {
		switch {
		case w.chance(20): // lost; the timer makes up for it
		case kind == drive.WakeTick:
			w.events = append(w.events, mail{event: pool.Tick{At: at}, at: at})
		default:
			w.late = append(w.late, mail{do: w.record, at: at})
		}
		return nil
	})
}

// Fence takes a node's session unless its agent holds it.
func (p *ports) Fence(ctx context.Context, session string) (taken bool, err error) {
	_, vmid, _ := strings.Cut(session, ".")
	p.owed.done("fence "+vmid, "")
	err = p.call(ctx, "bus fence", vmid, func(*call) error {
		v := p.w.instances[vmid]
		taken = v == nil || v.hung
		if v != nil && taken {
			v.fenced = true
		}
		return nil
	})
	return taken, err
}

// Record copies the ledger rows of a pool that is to go.
func (p *ports) Record(ctx context.Context, _ string) error {
	p.owed.done("rows", "")
	return p.call(ctx, "tables record", "", func(*call) error {
		p.w.record()
		return nil
	})
}

// DeletePool deletes a pool's rows; see sim_delete_test.go.
func (p *ports) DeletePool(ctx context.Context, _ string) error {
	return p.call(ctx, "tables drop", "", func(*call) error {
		p.w.dropRows()
		return nil
	})
}

// List is what Azure says of a scale set, sometimes with a lag.
func (p *ports) List(ctx context.Context, _ string, _ pool.Spec, of pool.Set) (l pool.Listed, err error) {
	w, set := p.w, of.Name
	p.owed.listed()
	err = p.call(ctx, "compute list", set, func(c *call) error {
		if w.chance(30) {
			return unknown()
		}
		l = w.list(set)
		l.Model, l.Wanted = w.set(set).models(p.deployment)
		c.of.listed[set] = len(l.Instances)
		return nil
	})
	if err != nil {
		p.owed.done("shrink "+set, "") // without a list it is not known to what
	}
	return l, err
}

// Grow asks a scale set for a capacity.
func (p *ports) Grow(ctx context.Context, _ string, _ pool.Spec, set pool.Set, target int) (op drive.Operation, err error) {
	p.owed.done("grow "+set.Name, fmt.Sprint(target))
	err = p.call(ctx, "compute set", set.Name, func(*call) error {
		op, err = p.w.grow(set, target, p.deployment)
		return err
	})
	return answer(op, err)
}

// answer is that of a call to a scale set: an operation only comes without an error.
func answer(op drive.Operation, err error) (drive.Operation, error) {
	if err != nil {
		return drive.Operation{}, err
	}
	return op, nil
}

// Shrink writes the capacity of a set down to the number of instances that were listed.
func (p *ports) Shrink(ctx context.Context, _, set string, listed int) (op drive.Operation, err error) {
	w := p.w
	p.owed.done("shrink "+set, "")
	err = p.call(ctx, "compute set", set, func(c *call) error {
		if n, ok := c.of.listed[set]; !ok || n != listed {
			w.checker.fail("shrink", "the capacity of %s is to be written down to %d, and %d instances were listed (%v)", set, listed, n, ok)
		}
		there := 0
		for _, v := range w.instances {
			if v.set == set && v.dieAt.IsZero() {
				there++
			}
		}
		if there > listed {
			return fault.New(fault.Conflict, "", "the set has %d instances", there)
		}
		w.checker.seen["shrunk"]++
		w.set(set).capacity = min(w.set(set).capacity, listed)
		op.After = 2 * time.Second
		return nil
	})
	return answer(op, err)
}

// Remove deletes instances by name.
func (p *ports) Remove(ctx context.Context, _, set string, nodes []*pool.Node) error {
	w := p.w
	var ids []string
	for _, n := range nodes {
		p.owed.done("remove "+n.VMID, "")
		ids = append(ids, n.VMID)
	}
	return p.call(ctx, "compute set", set, func(*call) error {
		for _, vmid := range ids {
			if v := w.instances[vmid]; v != nil && v.dieAt.IsZero() {
				took := 3
				if w.chance(20) {
					took = 60
				}
				v.dieAt = w.now.Add(time.Duration(took) * time.Second)
				w.set(v.set).capacity--
			}
		}
		return nil
	})
}

// Drop deletes an empty scale set.
func (p *ports) Drop(ctx context.Context, _, set string) (op drive.Operation, err error) {
	w := p.w
	p.owed.done("drop "+set, "")
	err = p.call(ctx, "compute set", set, func(*call) error {
		if n := w.there(set); n > 0 {
			w.checker.fail("busy node", "set %s is to be deleted with %d instances", set, n)
		}
		delete(w.sets, set)
		op.After = 2 * time.Second
		return nil
	})
	return answer(op, err)
}

// Poll looks at an operation.
func (p *ports) Poll(ctx context.Context, token string) (op drive.Operation, err error) {
	w := p.w
	p.owed.polled(token)
	err = p.call(ctx, "compute poll", token, func(*call) error {
		op = drive.Operation{After: 2 * time.Second}
		switch o := w.ops[token]; {
		case o == nil:
			return fault.New(fault.Gone, "", "the operation is not known any more")
		case o.preempted:
			err = fault.New(fault.Preempted, "", "preempted by a more recent operation")
			w.checker.seen["operation preempted"]++
		case w.now.Before(o.doneAt) || w.sticks(o):
			op.Token = token
			return nil
		case o.fails:
			err = fault.New(fault.NoCapacity, "", "allocation failed")
		}
		delete(w.ops, token)
		return err
	})
	if err != nil && fault.CodeOf(err) == fault.Internal {
		return drive.Operation{Token: token, After: 2 * time.Second}, nil // what stands in the way of asking is no error
	}
	return answer(op, err)
}

// there counts the instances of a set.
func (w *world) there(set string) int {
	n := 0
	for _, v := range w.instances {
		if v.set == set {
			n++
		}
	}
	return n
}

// record copies the ledger rows that wait, and says so.
func (w *world) record() {
	var seqs []int64
	for key, row := range w.rows {
		if strings.HasPrefix(key, "log!") {
			l := readRow[pool.Log](row)
			w.checker.record(l.Entries)
			seqs = append(seqs, l.Seq)
		}
	}
	slices.Sort(seqs)
	if len(seqs) > 0 && !w.chance(10) {
		w.deliver(pool.Recorded{Seqs: seqs})
	}
}
