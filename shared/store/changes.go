package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// Every transaction writes the keys of the rows that it changes into a row of the change
// log, which is in the partition of the pool. The log has a fixed number of rows; the
// newest replaces the oldest. A reader that has an older version reads the log and the
// changed rows instead of the whole partition. The last short rows are carried by the head, and
// go from there into the log several at once (see carried.go).

const (
	// readWorkers bounds the rows that one call reads at the same time.
	readWorkers = 16
	// catchUpRounds bounds how often ChangesSince reads again because the head has
	// changed meanwhile. Each round reads only what is new, so that the call ends as
	// soon as others write nothing for a few milliseconds. Reading everything would
	// not end sooner.
	catchUpRounds = 200
	// A row read by its key costs as much as about rowsPerRead rows of a page
	// (measured). So with more than live/rowsPerRead keys, and freeReads in any
	// case, reading everything is cheaper.
	rowsPerRead = 4
	freeReads   = 200
)

// logRow is a row of the change log: what one transaction changed.
type logRow struct {
	Seq   int64    `json:"seq"`
	Nonce string   `json:"nonce"`          // of the version it made
	Prev  string   `json:"prev,omitempty"` // of the version before; see withoutPrev
	Keys  []string `json:"keys,omitempty"`
}

// keySeparator may stand in no key: Table Storage forbids it.
const keySeparator = "/"

func encodeLogRow(partition string, row logRow) []byte {
	e := table.NewRow(partition, pool.ChangeLogKey(row.Seq))
	e.Int64("Seq", row.Seq)
	e.Text("Nonce", row.Nonce)
	e.Text("Prev", row.Prev+row.sharedSuffix())
	e.Text("Keys", strings.Join(row.Keys, keySeparator))
	return e.JSON()
}

// sharedSuffix ends Prev if jobs in bundles changed. To an earlier release, which does not
// know bundles, the log has a gap there: it loads the pool, and refuses it if it has any.
// Otherwise it would take these jobs for gone, and end them on their nodes.
func (r *logRow) sharedSuffix() string {
	if slices.ContainsFunc(r.Keys, func(key string) bool { return strings.HasSuffix(key, sharedMark) }) {
		return sharedMark
	}
	return ""
}

// decodeLogRow reads a row of the change log: what one transaction changed, or several.
func decodeLogRow(raw []byte) ([]logRow, error) {
	var row struct {
		Seq                      table.Number
		Nonce, Prev, Keys, Edits string
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	if row.Edits != "" {
		var rows []logRow
		err := table.DecodeText(raw, "its changes", row.Edits, &rows)
		fillPrev(rows)
		return rows, err
	}
	l := logRow{Seq: int64(row.Seq), Nonce: row.Nonce, Prev: strings.TrimSuffix(row.Prev, sharedMark)}
	if row.Keys != "" {
		l.Keys = strings.Split(row.Keys, keySeparator)
	}
	return []logRow{l}, nil
}

// ChangesSince reads what has changed in a pool since a version, and also the rows
// under keys; live is about how many rows a full load would read. The result is one
// version as a whole. It reports false when the pool has to be loaded instead: the
// change log does not reach back that far, the pool is not there, or it would cost
// more. Conflict: the pool changes faster than it can be read.
func (p *Pools) ChangesSince(ctx context.Context, name string, from pool.Version, keys []string, live int) (
	*pool.Delta, pool.Version, bool, error,
) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, pool.Version{}, false, err
	}
	at := from
	rows := map[string]any{}
	logged := map[string]bool{}
	pending := slices.Clone(keys)
	for i, key := range pending { // the caller does not know what became of these jobs
		if order, isJob := pool.OrderOf(key); isJob && pool.BundleKey(order) != "" {
			pending[i] += sharedMark
		}
	}
	for range catchUpRounds {
		head, version, changed, ok, err := p.readChangeLog(ctx, name, at)
		if err != nil || !ok {
			return nil, pool.Version{}, false, err
		}
		if version.Same(at) && len(pending) == 0 {
			d := newDelta(head, rows, logged)
			carries, err := decodeCarried(table.KeysOnly(name, pool.HeadKey), version.Carried)
			if err == nil {
				carries.applyUses(d.Nodes)
			}
			return d, version, err == nil, err
		}
		for _, key := range changed {
			logged[strings.TrimSuffix(key, sharedMark)] = true
		}
		pending = append(pending, changed...)
		slices.Sort(pending)
		pending = slices.Compact(pending)
		if len(pending) > freeReads+live/rowsPerRead {
			return nil, pool.Version{}, false, nil
		}
		if err := p.readRows(ctx, name, pending, rows); err != nil {
			return nil, pool.Version{}, false, err
		}
		at, pending = version, nil
	}
	return nil, pool.Version{}, false, fault.New(fault.Conflict, "", "pool %s changes faster than it can be read; try again", name)
}

// newDelta sorts rows, by their keys, according to their kinds. logged has the keys
// that were written; the caller is only not sure of the others.
func newDelta(head pool.Head, rows map[string]any, logged map[string]bool) *pool.Delta {
	d := &pool.Delta{Head: head}
	for key, row := range rows {
		switch row := row.(type) {
		case *pool.Node:
			d.Nodes = append(d.Nodes, row)
		case *pool.Job:
			d.Jobs = append(d.Jobs, row)
		default:
			d.Gone = append(d.Gone, key)
			if order, isJob := strings.CutPrefix(key, pool.JobKey("")); isJob && logged[key] {
				d.Ended = append(d.Ended, order)
			}
		}
	}
	slices.SortFunc(d.Nodes, compareVMIDs)
	slices.SortFunc(d.Jobs, compareOrders)
	slices.Sort(d.Gone)
	slices.Sort(d.Ended)
	return d
}

// applyDelta brings a partition and its jobs to the version that a delta leads to.
func applyDelta(p *pool.Partition, jobs pool.JobSink, d *pool.Delta) {
	nodes, orders := map[string]bool{}, map[string]bool{}
	for _, n := range d.Nodes {
		nodes[n.VMID] = true
	}
	for _, j := range d.Jobs {
		orders[j.Order] = true
	}
	for _, key := range d.Gone {
		if vmid, ok := pool.VMIDOf(key); ok {
			nodes[vmid] = true
		} else if order, ok := pool.OrderOf(key); ok {
			orders[order] = true
		}
	}
	p.Head = d.Head
	if len(nodes) > 0 {
		p.Nodes = append(slices.DeleteFunc(p.Nodes, func(n *pool.Node) bool { return nodes[n.VMID] }), d.Nodes...)
		slices.SortFunc(p.Nodes, compareVMIDs)
	}
	if len(orders) > 0 {
		jobs.Drop(orders)
		jobs.Put(d.Jobs...)
	}
}

func compareVMIDs(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) }

func compareOrders(a, b *pool.Job) int { return strings.Compare(a.Order, b.Order) }

// readChangeLog reads the head and the keys of all rows that changed since a
// version. It reports false when the log does not have all of them.
func (p *Pools) readChangeLog(ctx context.Context, name string, from pool.Version) (
	head pool.Head, version pool.Version, keys []string, ok bool, err error,
) {
	found := false
	var rows []logRow
	q := table.Query{Filter: table.Between(name, pool.ChangeLogFrom, pool.ChangeLogTo) + fmt.Sprintf(" and Seq ge %dL", from.Seq)}
	_, err = p.table.Scan(ctx, "read the change log of pool "+name, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		if key == pool.HeadKey {
			found = true
			head, version, err = decodeHead(raw)
			return err
		}
		some, err := decodeLogRow(raw)
		rows = append(rows, some...)
		return err
	})
	if err != nil || !found {
		return head, version, nil, false, err
	}
	carries, err := decodeCarried(table.KeysOnly(name, pool.HeadKey), version.Carried)
	if err != nil {
		return head, version, nil, false, err
	}
	rows = append(rows, carries.Edits...)
	// The chain of nonces proves that nothing is missing, and that the pool was
	// not deleted and created again in between.
	slices.SortFunc(rows, func(a, b logRow) int { return int(a.Seq - b.Seq) })
	seq, nonce := from.Seq, from.Nonce
	for _, row := range rows {
		if row.Seq <= seq || row.Seq > version.Seq {
			continue
		}
		if row.Seq != seq+1 || row.Prev != nonce {
			return head, version, nil, false, nil
		}
		seq, nonce = row.Seq, row.Nonce
		keys = append(keys, row.Keys...)
	}
	return head, version, keys, seq == version.Seq && nonce == version.Nonce, nil
}

// readRows reads jobs and nodes by the keys of rows of their own; one that is not there
// becomes nil. A key that ends in sharedMark is that of a job in a bundle, or of one that
// has left it.
func (p *Pools) readRows(ctx context.Context, name string, keys []string, into map[string]any) error {
	var own []string
	bundles := map[string][]string{} // keys of jobs by key of the bundle
	for _, key := range keys {
		if plain, isShared := strings.CutSuffix(key, sharedMark); isShared {
			order, _ := pool.OrderOf(plain)
			bundles[pool.BundleKey(order)] = append(bundles[pool.BundleKey(order)], plain)
		} else {
			own = append(own, key)
		}
	}
	left, err := p.readBundles(ctx, name, bundles, into)
	if err != nil {
		return err
	}
	return p.readOwnRows(ctx, name, append(own, left...), into)
}

// readBundles reads jobs that are in bundles, and returns the keys of those that are not.
func (p *Pools) readBundles(ctx context.Context, name string, bundles map[string][]string, into map[string]any) (left []string, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readWorkers)
	for bundle, keys := range bundles {
		g.Go(func() error {
			found := map[string]any{}
			raw, _, err := p.table.Get(ctx, "read a row of pool "+name, name, bundle)
			if err != nil && fault.CodeOf(err) != fault.NotFound {
				return err
			}
			if err == nil {
				jobs, err := decodeBundle(raw)
				if err != nil {
					return err
				}
				for _, j := range jobs {
					found[pool.JobKey(j.Order)] = j
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, key := range keys {
				if j := found[key]; j != nil {
					into[key] = j
				} else {
					left = append(left, key)
				}
			}
			return nil
		})
	}
	err = g.Wait()
	return left, err
}

// readOwnRows reads jobs and nodes that have rows of their own.
func (p *Pools) readOwnRows(ctx context.Context, name string, keys []string, into map[string]any) error {
	rows := make([]any, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readWorkers)
	for i, key := range keys {
		g.Go(func() error {
			raw, _, err := p.table.Get(ctx, "read a row of pool "+name, name, key)
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
