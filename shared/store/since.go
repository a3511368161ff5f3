package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Every transaction leaves the keys of the rows it changed in a small ring beside
// the head. Who has an older version reads the ring and those rows instead of the
// whole partition.

const (
	// readers bounds the rows that one call reads side by side.
	readers = 16
	// catchUpRounds bounds how often ChangesSince follows a head that moves on. Each round
	// reads only what is new, so that one ends as soon as the others rest for a few
	// milliseconds; reading everything could not end sooner.
	catchUpRounds = 200
	// A row read by its key costs as much as about rowsPerRead rows of a page (measured), so
	// that beyond live/rowsPerRead keys, and freeReads in any case, reading
	// everything is cheaper.
	rowsPerRead = 4
	freeReads   = 200
)

// edit is a row of the ring.
type edit struct {
	seq         int64
	nonce, prev string // of the version it made, and of that it was made on
	keys        []string
}

// keySeparator may stand in no key: Table Storage forbids it.
const keySeparator = "/"

func encodeEdit(partition string, change edit) []byte {
	e := newEntity(partition, pool.ChangeLogKey(change.seq))
	e.int64("Seq", change.seq)
	e.text("Nonce", change.nonce)
	e.text("Prev", change.prev)
	e.text("Keys", strings.Join(change.keys, keySeparator))
	return e.end()
}

func decodeEdit(raw []byte) (edit, error) {
	var row struct {
		Seq               number
		Nonce, Prev, Keys string
	}
	err := decode(raw, &row)
	e := edit{seq: int64(row.Seq), nonce: row.Nonce, prev: row.Prev}
	if row.Keys != "" {
		e.keys = strings.Split(row.Keys, keySeparator)
	}
	return e, err
}

// ChangesSince reads what has changed in a pool since a version, and the rows under keys
// besides; live is about how many rows a full load would read. What it returns is
// one version as a whole. It reports false when the pool has to be loaded instead:
// the ring does not reach back that far, the pool is not there, or it would cost
// more. Conflict says that the pool changes faster than it can be read.
func (s *Store) ChangesSince(ctx context.Context, name string, from pool.Version, keys []string, live int) (*pool.Delta, pool.Version, bool, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, pool.Version{}, false, err
	}
	at := from
	rows := map[string]any{}
	others := map[string]bool{} // keys that the ring tells of
	pending := slices.Clone(keys)
	for range catchUpRounds {
		head, version, changed, ok, err := s.edits(ctx, name, at)
		if err != nil || !ok {
			return nil, pool.Version{}, false, err
		}
		if version.Same(at) && len(pending) == 0 {
			d := &pool.Delta{Head: head}
			sortDelta(d, rows, others)
			return d, version, true, nil
		}
		for _, k := range changed {
			others[k] = true
		}
		pending = append(pending, changed...)
		slices.Sort(pending)
		pending = slices.Compact(pending)
		if len(pending) > freeReads+live/rowsPerRead {
			return nil, pool.Version{}, false, nil
		}
		if err := s.readRows(ctx, name, pending, rows); err != nil {
			return nil, pool.Version{}, false, err
		}
		at, pending = version, nil
	}
	return nil, pool.Version{}, false, fault.New(fault.Conflict, "", "pool %s changes faster than it can be read; try again", name)
}

// sortDelta takes rows by their kinds; others has the keys that were written, in
// contrast to those that the caller only is not sure of.
func sortDelta(d *pool.Delta, rows map[string]any, others map[string]bool) {
	for key, row := range rows {
		switch row := row.(type) {
		case *pool.Node:
			d.Nodes = append(d.Nodes, row)
		case *pool.Job:
			d.Jobs = append(d.Jobs, row)
		default:
			d.Gone = append(d.Gone, key)
			if order, isJob := strings.CutPrefix(key, pool.JobKey("")); isJob && others[key] {
				d.Ended = append(d.Ended, order)
			}
		}
	}
	slices.SortFunc(d.Nodes, byVMID)
	slices.SortFunc(d.Jobs, byOrder)
	slices.Sort(d.Gone)
	slices.Sort(d.Ended)
}

// applyDelta brings a partition to the version that a delta leads to.
func applyDelta(p *pool.Partition, d *pool.Delta) {
	changed := map[string]bool{}
	for _, n := range d.Nodes {
		changed[pool.NodeKey(n.VMID)] = true
	}
	for _, j := range d.Jobs {
		changed[pool.JobKey(j.Order)] = true
	}
	for _, key := range d.Gone {
		changed[key] = true
	}
	p.Head = d.Head
	if len(changed) == 0 {
		return
	}
	p.Nodes = append(slices.DeleteFunc(p.Nodes, func(n *pool.Node) bool { return changed[pool.NodeKey(n.VMID)] }), d.Nodes...)
	p.Jobs = append(slices.DeleteFunc(p.Jobs, func(j *pool.Job) bool { return changed[pool.JobKey(j.Order)] }), d.Jobs...)
	slices.SortFunc(p.Nodes, byVMID)
	slices.SortFunc(p.Jobs, byOrder)
}

func byVMID(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) }

func byOrder(a, b *pool.Job) int { return strings.Compare(a.Order, b.Order) }

// edits reads the head and the keys of all rows that changed since a version. It
// reports false when the ring does not tell of all of it.
func (s *Store) edits(ctx context.Context, name string, from pool.Version) (head pool.Head, version pool.Version, keys []string, ok bool, err error) {
	found := false
	var edits []edit
	q := query{filter: between(name, pool.ChangeLogFrom, pool.ChangeLogTo) + fmt.Sprintf(" and Seq ge %dL", from.Seq)}
	_, err = s.scan(ctx, "read the last edits of pool "+name, s.pools, q, func(raw []byte) (err error) {
		var row struct{ RowKey string }
		if err := decode(raw, &row); err != nil {
			return err
		}
		if row.RowKey == pool.HeadKey {
			found = true
			head, version, err = decodeHead(raw)
			return err
		}
		e, err := decodeEdit(raw)
		edits = append(edits, e)
		return err
	})
	if err != nil || !found {
		return head, version, nil, false, err
	}
	// The chain of nonces proves that nothing is missing, and that the pool was
	// not deleted and made anew in between.
	slices.SortFunc(edits, func(a, b edit) int { return int(a.seq - b.seq) })
	seq, nonce := from.Seq, from.Nonce
	for _, e := range edits {
		if e.seq <= seq || e.seq > version.Seq {
			continue
		}
		if e.seq != seq+1 || e.prev != nonce {
			return head, version, nil, false, nil
		}
		seq, nonce = e.seq, e.nonce
		keys = append(keys, e.keys...)
	}
	return head, version, keys, seq == version.Seq && nonce == version.Nonce, nil
}

// readRows reads rows of jobs and nodes by their keys; one that is not there
// becomes nil.
func (s *Store) readRows(ctx context.Context, name string, keys []string, into map[string]any) error {
	rows := make([]any, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, key := range keys {
		g.Go(func() error {
			raw, _, err := s.get(ctx, "read a row of pool "+name, s.pools, name, key)
			if fault.CodeOf(err) == fault.NotFound {
				return nil
			}
			if err != nil {
				return err
			}
			if strings.HasPrefix(key, pool.NodeKey("")) {
				rows[i], err = decodeNode(raw)
			} else {
				rows[i], err = decodeJob(raw)
			}
			return err
		})
	}
	err := g.Wait()
	for i, key := range keys {
		into[key] = rows[i]
	}
	return err
}
