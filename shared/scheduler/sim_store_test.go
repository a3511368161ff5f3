package scheduler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// ports are the driver's ports over the world: one table, one bus, the scale sets.
type ports struct{ *process }

// LoadInto reads the pool, all of it.
func (p *ports) LoadInto(ctx context.Context, _ string, jobs pool.JobSink) (part *pool.Partition, v pool.Version, err error) {
	err = p.call(ctx, "tables load", "", func(c *call) error {
		if p.w.seq == 0 {
			return fault.New(fault.NotFound, "pool", "there is no pool")
		}
		part, v = p.w.partition(), p.w.current
		jobs.Begin()
		for rows := range slices.Chunk(part.Jobs, 3) {
			jobs.Put(rows...)
		}
		part.Jobs = nil
		c.reads(v.Seq)
		return nil
	})
	return part, v, err
}

// Head reads which version of the pool is current.
func (p *ports) Head(ctx context.Context, _ string) (v pool.Version, err error) {
	err = p.call(ctx, "tables head", "", func(*call) error {
		if v = p.w.current; v.IsZero() {
			return fault.New(fault.NotFound, "pool", "there is no pool")
		}
		return nil
	})
	return v, err
}

// ChangesSince reads what has changed, when the ring of the world reaches back that far.
func (p *ports) ChangesSince(ctx context.Context, _ string, from pool.Version, keys []string, _ int) (d *pool.Delta, v pool.Version, ok bool, err error) {
	w := p.w
	err = p.call(ctx, "tables since", "", func(c *call) error {
		if w.seq == 0 || w.seq-from.Seq > w.ring || w.rng.Intn(8) == 0 {
			w.checker.seen["loaded again"]++
			return nil
		}
		written, all := map[string]bool{}, map[string]bool{}
		for _, key := range keys {
			all[key] = true
		}
		for _, edit := range w.edits[from.Seq:] {
			for _, key := range edit {
				written[key], all[key] = true, true
			}
		}
		d, v, ok = &pool.Delta{}, w.current, true
		unpack(w.rows[pool.HeadKey], &d.Head)
		for _, key := range slices.Sorted(maps.Keys(all)) {
			row, there := w.rows[key]
			order, isJob := strings.CutPrefix(key, pool.JobKey(""))
			switch {
			case !there:
				d.Gone = append(d.Gone, key)
				if isJob && written[key] {
					d.Ended = append(d.Ended, order)
				}
			case isJob:
				d.Jobs = append(d.Jobs, readRow[pool.Job](row))
			default:
				d.Nodes = append(d.Nodes, readRow[pool.Node](row))
			}
		}
		c.reads(v.Seq)
		w.checker.seen["caught up"]++
		if c.of.registered(d.Ended) {
			w.checker.seen["ended meanwhile"]++
		}
		return nil
	})
	return d, v, ok, err
}

// Commit writes the rows as one transaction on condition that v is current.
func (p *ports) Commit(ctx context.Context, _ string, v pool.Version, head pool.Head, changes []pool.Change) (next pool.Version, err error) {
	w := p.w
	err = p.call(ctx, "tables commit", "", func(c *call) error {
		if v.Seq != w.seq {
			if w.writer == p.process && p.wrote == w.seq && !w.dropped { // a dropped pool has another actor
				w.checker.fail("version", "a driver commits on version %d, and has itself written %d", v.Seq, w.seq)
			}
			w.checker.seen["conflict"]++
			return conflict()
		}
		next = pool.Version{Seq: head.Seq, Nonce: head.Nonce}
		w.write(head, changes)
		w.current = next
		w.writer = p.process
		c.of.wrote = true
		for vmid, items := range p.result.Effects.Work {
			for _, i := range items {
				if i.Assign != nil {
					w.unsent[assignment{vmid, i.N}] = p.process
				}
			}
		}
		w.checker.stepAt = p.stepAt
		w.checker.step(p.state, p.result)
		w.checker.memory(p.process)
		c.answered = func(err error) error {
			if err == nil && w.seq != head.Seq && w.chance(2) {
				err = conflict() // it was written, and another wrote on top before that was known
			}
			if err == nil {
				p.known, p.wrote = head.Seq, head.Seq
			}
			switch {
			case err == nil:
				p.owed.decide(&p.result.Effects)
			case fault.CodeOf(err) != fault.Conflict: // the driver does not know whether it was written, and has to see to its work
				p.owed.assign(&p.result.Effects)
			}
			return err
		}
		return nil
	})
	if err != nil {
		next = pool.Version{}
	}
	return next, err
}

func conflict() error {
	return fault.New(fault.Conflict, "", "the pool was changed by somebody else")
}

// FinishedJob reads a finished job's row.
func (p *ports) FinishedJob(ctx context.Context, _, order string) (j *pool.Job, err error) {
	err = p.call(ctx, "tables done", order, func(*call) error {
		row, ended := p.w.rows[pool.DoneKey(order)]
		if !ended || p.w.chance(4) { // its row has gone, and only its id remembers
			return fault.New(fault.NotFound, "", "there is no such job")
		}
		j = readRow[pool.Job](row)
		return nil
	})
	return j, err
}

// EndStates says how jobs have ended.
func (p *ports) EndStates(ctx context.Context, ids []string) (states map[string]pool.EndState, err error) {
	for _, id := range ids {
		p.owed.done("ask "+id, "")
	}
	err = p.call(ctx, "tables end", strings.Join(ids, " "), func(*call) error {
		states = map[string]pool.EndState{}
		for _, id := range ids {
			if p.w.others.jobs[id] != nil {
				states[id] = p.w.others.endState(id, p.w.now)
				continue
			}
			states[id] = pool.EndState{Pool: "p"}
			if row, ended := p.w.rows[pool.DoneKey(orderOf(id))]; ended {
				states[id] = pool.EndState{Pool: "p", State: readRow[pool.Job](row).State}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// write takes over the rows of a transaction, and refuses what the service would.
func (w *world) write(head pool.Head, changes []pool.Change) {
	w.seq = head.Seq
	w.edits = append(w.edits, pool.ChangedKeys(changes))
	if len(changes) > 99 {
		w.checker.fail("rows", "a transaction of %d rows", len(changes)+1)
	}
	for _, c := range changes {
		_, there := w.rows[c.Key]
		switch {
		case c.Insert && there:
			w.checker.fail("rows", "row %s was inserted twice", c.Key)
		case c.Value == nil && !there && strings.HasPrefix(c.Key, "log!"):
			// recorded by somebody else already; the store leaves it out
		case c.Value == nil && !there:
			w.checker.fail("rows", "row %s was deleted and is not there", c.Key)
		case c.Value == nil:
			delete(w.rows, c.Key)
		default:
			if n, isNode := c.Value.(*pool.Node); isNode && c.OnlyUse {
				before := readRow[pool.Node](w.rows[c.Key])
				before.SetUse(n.Use())
				if !bytes.Equal(pack(before), pack(n)) {
					w.checker.fail("rows", "only the use of a node changes, and its row is written as\n%s\nafter\n%s", pack(n), w.rows[c.Key])
				}
				w.checker.seen["use of a node"]++
			}
			w.rows[c.Key] = pack(c.Value)
			w.trace.Write(w.rows[c.Key])
		}
	}
	w.checkBundles(changes)
	w.rows[pool.HeadKey] = pack(head)
	head.Nonce = "" // drawn by the driver
	w.trace.Write(pack(head))
}

// head reads the head's row.
func (w *world) head() (h pool.Head) {
	if row := w.rows[pool.HeadKey]; row != nil {
		unpack(row, &h)
	}
	return h
}

// partition reads all live rows, as a new process does.
func (w *world) partition() *pool.Partition {
	part := &pool.Partition{Head: w.head()}
	for key, row := range w.rows {
		switch {
		case strings.HasPrefix(key, "node!"):
			part.Nodes = append(part.Nodes, readRow[pool.Node](row))
		case strings.HasPrefix(key, "job!"):
			part.Jobs = append(part.Jobs, readRow[pool.Job](row))
		}
	}
	sort.Slice(part.Nodes, func(i, k int) bool { return part.Nodes[i].VMID < part.Nodes[k].VMID })
	sort.Slice(part.Jobs, func(i, k int) bool { return part.Jobs[i].Order < part.Jobs[k].Order })
	return part
}

// load builds a state from the rows.
func (w *world) load() *scheduler.State {
	part := w.partition()
	return scheduler.NewState(part.Head, part.Nodes, part.Jobs, w.now)
}

// checkBundles makes sure that a row that several jobs share is written with all of them, as
// their own rows would be.
func (w *world) checkBundles(changes []pool.Change) {
	for _, c := range changes {
		if c.Bundle == nil {
			continue
		}
		w.checker.seen["bundle"]++
		in := map[string]bool{}
		for _, j := range c.Bundle.Jobs {
			key := pool.JobKey(j.Order)
			if in[key] = true; !bytes.Equal(w.rows[key], pack(j)) {
				w.checker.fail("rows", "job %s is written into a bundle as\n%s\nand its row is\n%s", j.ID, pack(j), w.rows[key])
			}
		}
		for key, row := range w.rows {
			order, isJob := pool.OrderOf(key)
			if isJob && pool.BundleKey(order) == c.Bundle.Key && readRow[pool.Job](row).Bundled != in[key] {
				w.checker.fail("rows", "the job %s is in its bundle: %t", key, in[key])
			}
		}
	}
}

func pack(value any) []byte {
	row, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return row
}

func unpack(row []byte, into any) {
	if err := json.Unmarshal(row, into); err != nil {
		panic(fmt.Sprintf("what was written cannot be read: %v", err))
	}
}

func readRow[T any](row []byte) *T {
	value := new(T)
	unpack(row, value)
	return value
}
