package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// consistentTries is how often a partition of more than one page is read because others
// write more to it meanwhile than the change log holds.
const consistentTries = 5

// Pools is the table of pools: a partition for each, with its head, its nodes,
// its live and finished jobs, its change log, and facts for the ledger.
type Pools struct {
	table *table.Table
	paces paces
	seen  seenIndex
}

// versionRow is the part of the head that says which version it is.
type versionRow struct {
	Seq             table.Number
	Nonce, SpecHash string
	Carried, Index  string
	ETag            string `json:"odata.etag"`
}

func (r *versionRow) version() pool.Version {
	return pool.Version{Seq: int64(r.Seq), Nonce: r.Nonce, ETag: r.ETag, SpecHash: r.SpecHash, Carried: r.Carried,
		Index: keptIndex(int64(r.Seq), r.Index)}
}

// PoolNames lists the names of all pools, sorted. It reads one row of each partition,
// however many jobs the pool has. There is no separate list of pools that could be wrong.
// A partition that has only remains of a pool (see DeletePool) is listed too; Load says
// NotFound for it.
func (p *Pools) PoolNames(ctx context.Context) ([]string, error) {
	var names []string
	last := ""
	for {
		q := table.Query{Filter: fmt.Sprintf("PartitionKey gt '%s'", table.Quote(last)), Fields: "PartitionKey", Limit: 1}
		found := false
		_, err := p.table.Scan(ctx, "list the pools", q, func(raw []byte) error {
			var row struct{ PartitionKey string }
			err := table.Decode(raw, &row)
			if row.PartitionKey > last && !found {
				names, found = append(names, row.PartitionKey), true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if !found {
			return names, nil
		}
		last = names[len(names)-1]
	}
}

// Load reads a pool. NotFound: it has no head, so there is no pool. The result
// is one version as a whole: Load reads again what others write while it reads.
// Conflict: the pool changes faster than that.
func (p *Pools) Load(ctx context.Context, name string) (*pool.Partition, pool.Version, error) {
	var jobs jobRows
	part, version, err := p.LoadInto(ctx, name, &jobs)
	if err != nil {
		return nil, pool.Version{}, err
	}
	slices.SortFunc(jobs, compareOrders) // those of a bundle were read after others that come later
	part.Jobs = jobs
	return part, version, nil
}

// jobRows keeps the rows of jobs as they are.
type jobRows []*pool.Job

// Begin forgets all rows.
func (r *jobRows) Begin() { *r = nil }

// Put adds rows.
func (r *jobRows) Put(rows ...*pool.Job) { *r = append(*r, rows...) }

// Drop removes rows.
func (r *jobRows) Drop(orders map[string]bool) {
	*r = slices.DeleteFunc(*r, func(j *pool.Job) bool { return orders[j.Order] })
}

// Len is how many rows there are.
func (r *jobRows) Len() int { return len(*r) }

// LoadInto is Load that hands over the live jobs page by page; the partition has none.
func (p *Pools) LoadInto(ctx context.Context, name string, jobs pool.JobSink) (*pool.Partition, pool.Version, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, pool.Version{}, err
	}
	for range consistentTries {
		jobs.Begin()
		part, version, pages, err := p.readPartition(ctx, name, jobs)
		if err != nil {
			return nil, pool.Version{}, err
		}
		if pages == 1 {
			return part, version, nil // one page of one partition is one snapshot
		}
		// The head was read first: the change log has what was written meanwhile.
		d, now, ok, err := p.ChangesSince(ctx, name, version, nil, jobs.Len()+len(part.Nodes))
		if err != nil {
			return nil, pool.Version{}, err
		}
		if ok {
			applyDelta(part, jobs, d)
			return part, now, nil
		}
	}
	return nil, pool.Version{}, fault.New(fault.Conflict, "", "pool %s changed while it was read; try again", name)
}

// HasNode reports whether a pool has a node that is not gone.
func (p *Pools) HasNode(ctx context.Context, name, vmid string) (bool, error) {
	key, rows := pool.NodeKey(vmid), map[string]any{}
	if err := p.readRows(ctx, name, []string{key}, rows); err != nil {
		return false, err
	}
	n, ok := rows[key].(*pool.Node)
	return ok && n.State != pool.NodeGone, nil
}

func (p *Pools) readPartition(ctx context.Context, name string, into pool.JobSink) (*pool.Partition, pool.Version, int, error) {
	part, version, found := &pool.Partition{}, pool.Version{}, false
	q := table.Query{Filter: table.Between(name, pool.LiveFrom, pool.LiveTo)}
	pages, err := p.table.Scan(ctx, "load pool "+name, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		switch kind, _, _ := strings.Cut(key, "!"); kind {
		case pool.HeadKey:
			part.Head, version, err = decodeHead(raw)
			found = true
		case "job":
			var jobs []*pool.Job
			jobs, err = decodeJobs(raw)
			into.Put(jobs...)
		case "node":
			var n *pool.Node
			n, err = decodeNode(raw)
			part.Nodes = append(part.Nodes, n)
		case "log":
			var logs []*pool.Log
			logs, err = decodeLogRows(raw)
			part.Logs = append(part.Logs, logSeqs(logs)...)
		}
		return err // a later release may have other kinds of rows
	})
	if err == nil && !found {
		err = job.NoPool(name)
	}
	if err != nil {
		return nil, pool.Version{}, pages, err
	}
	carries, err := decodeCarried(table.KeysOnly(name, pool.HeadKey), version.Carried)
	if err != nil {
		return nil, pool.Version{}, pages, err
	}
	carries.applyUses(part.Nodes)
	for _, l := range carries.Logs {
		part.Logs = append(part.Logs, l.Seq)
	}
	slices.Sort(part.Logs)
	return part, version, pages, err
}

// Head reads which version of a pool is current, without its rows and its
// spec.
func (p *Pools) Head(ctx context.Context, name string) (pool.Version, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return pool.Version{}, err
	}
	var row versionRow
	found := false
	q := table.Query{Filter: table.Is(name, pool.HeadKey), Fields: "PartitionKey,RowKey,Timestamp,Seq,Nonce,SpecHash,Carried,Index"}
	_, err := p.table.Scan(ctx, "read the head of pool "+name, q, func(raw []byte) error {
		found = true
		return table.Decode(raw, &row)
	})
	if err == nil && !found {
		err = job.NoPool(name)
	}
	return row.version(), err
}

// readHead reads the head. Its version always has an ETag.
func (p *Pools) readHead(ctx context.Context, name string) (pool.Head, pool.Version, error) {
	raw, etag, err := p.table.Get(ctx, "read the head of pool "+name, name, pool.HeadKey)
	if fault.CodeOf(err) == fault.NotFound {
		return pool.Head{}, pool.Version{}, job.NoPool(name)
	}
	if err != nil {
		return pool.Head{}, pool.Version{}, err
	}
	head, version, err := decodeHead(raw)
	version.ETag = string(etag)
	return head, version, err
}

// Overview reads a pool's head and nodes, without its jobs.
func (p *Pools) Overview(ctx context.Context, name string) (*pool.Partition, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	head, version, err := p.readHead(ctx, name)
	if err != nil {
		return nil, err
	}
	q := table.Query{Filter: table.Between(name, pool.NodeKey(""), pool.LiveTo)}
	nodes, err := readAll(ctx, p.table, "read the nodes of pool "+name, q, decodeNode)
	if err != nil {
		return nil, err
	}
	carries, err := decodeCarried(table.KeysOnly(name, pool.HeadKey), version.Carried)
	if err == nil {
		carries.applyUses(nodes)
	}
	return &pool.Partition{Head: head, Nodes: nodes}, err
}

// Logs reads the facts that wait to be recorded in the ledger, oldest first: those that the
// head carries, and those of the first rows, at most rows of them; 0 is no limit. After they
// are recorded, a Commit deletes them.
func (p *Pools) Logs(ctx context.Context, name string, rows int) ([]*pool.Log, error) {
	version, err := p.Head(ctx, name)
	if err != nil && fault.CodeOf(err) != fault.NotFound { // without a head there may be remains of a pool
		return nil, err
	}
	carries, err := decodeCarried(table.KeysOnly(name, pool.HeadKey), version.Carried)
	if err != nil {
		return nil, err
	}
	logs, err := carries.logs()
	if err != nil {
		return nil, err
	}
	// The rows are read after the head: facts go from it into rows, and never back.
	q := table.Query{Filter: table.Between(name, "log!", "log\""), Limit: rows}
	inRows, err := readAll(ctx, p.table, "read the log of pool "+name, q, decodeLogRows)
	if err != nil {
		return nil, err
	}
	moved := slices.Concat(inRows...)
	logs = slices.DeleteFunc(logs, func(l *pool.Log) bool { return slices.Contains(logSeqs(moved), l.Seq) })
	logs = append(logs, moved...)
	slices.SortFunc(logs, func(a, b *pool.Log) int { return cmp.Compare(a.Seq, b.Seq) })
	return logs, nil
}

func logSeqs(logs []*pool.Log) []int64 {
	seqs := make([]int64, len(logs))
	for i, l := range logs {
		seqs[i] = l.Seq
	}
	return seqs
}

// Job reads a job by its order, live or finished. NotFound: it is not there.
func (p *Pools) Job(ctx context.Context, name, order string) (*pool.Job, error) {
	j, err := p.liveJob(ctx, name, order)
	if fault.CodeOf(err) != fault.NotFound {
		return j, err
	}
	return p.FinishedJob(ctx, name, order)
}

// liveJob reads a live job, which may have a row of its own or be in a bundle: both are read
// at once, because a job may go from one into the other.
func (p *Pools) liveJob(ctx context.Context, name, order string) (*pool.Job, error) {
	bundle := pool.BundleKey(order)
	if bundle == "" || !isOrder(order) {
		return p.readJob(ctx, name, order, pool.JobKey(order))
	}
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	own := pool.JobKey(order)
	q := table.Query{Filter: table.Between(name, own, bundle+"!") + fmt.Sprintf(" and (RowKey eq '%s' or RowKey eq '%s')", own, bundle)}
	rows, err := readAll(ctx, p.table, "read job "+order, q, decodeJobs)
	if err != nil {
		return nil, err
	}
	for _, jobs := range rows {
		if i := slices.IndexFunc(jobs, func(j *pool.Job) bool { return j.Order == order }); i >= 0 {
			return jobs[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, "", "there is no job %s in pool %s", order, name)
}

// FinishedJob reads a finished job by its order. NotFound: it has not finished,
// or is not there.
func (p *Pools) FinishedJob(ctx context.Context, name, order string) (*pool.Job, error) {
	return p.readJob(ctx, name, order, pool.DoneKey(order))
}

func (p *Pools) readJob(ctx context.Context, name, order, rowKey string) (*pool.Job, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	if !isOrder(order) {
		return nil, fault.New(fault.NotFound, "", "there is no job %.40q in pool %s", order, name)
	}
	raw, _, err := p.table.Get(ctx, "read job "+order, name, rowKey)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, wrap(fault.NotFound, err, "there is no job %s in pool %s", order, name)
	}
	if err != nil {
		return nil, err
	}
	return decodeJob(raw)
}

// isOrder reports whether a text has the form of an order, a ULID or that of a
// sweep's member, so that it may be part of a key.
func isOrder(order string) bool {
	if sweep, _, ok := job.SweepOrder(order); ok {
		order = sweep
	}
	return len(order) == 26 && strings.Trim(order, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}
