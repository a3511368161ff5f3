package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// consistentTries is how often a partition of more than one page is read again
// because more was written to it in the meantime than the ring of edits holds.
const consistentTries = 5

// versionRow is the part of the head that says which version it is.
type versionRow struct {
	Seq             number
	Nonce, SpecHash string
	ETag            string `json:"odata.etag"`
}

func (r *versionRow) version() pool.Version {
	return pool.Version{Seq: int64(r.Seq), Nonce: r.Nonce, ETag: r.ETag, SpecHash: r.SpecHash}
}

// Load reads a pool. Without a head there is no pool: NotFound. What it
// returns is one version as a whole: what others wrote while it was read is read
// again. When the pool changes faster than that, the answer is Conflict.
func (s *Store) Load(ctx context.Context, name string) (*pool.Partition, pool.Version, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, pool.Version{}, err
	}
	what := "load pool " + name
	for range consistentTries {
		p, version, pages, err := s.load(ctx, what, name)
		if err != nil {
			return nil, pool.Version{}, err
		}
		if pages == 1 {
			return p, version, nil // one page of one partition is one snapshot
		}
		// The head was read first: what was written meanwhile, the ring tells.
		d, now, ok, err := s.ChangesSince(ctx, name, version, nil, len(p.Jobs)+len(p.Nodes))
		if err != nil {
			return nil, pool.Version{}, err
		}
		if ok {
			applyDelta(p, d)
			return p, now, nil
		}
	}
	return nil, pool.Version{}, fault.New(fault.Conflict, "", "pool %s changed while it was read; try again", name)
}

func (s *Store) load(ctx context.Context, what, name string) (*pool.Partition, pool.Version, int, error) {
	p, version, found := &pool.Partition{}, pool.Version{}, false
	query := query{filter: between(name, pool.LiveFrom, pool.LiveTo)}
	pages, err := s.scan(ctx, what, s.pools, query, func(raw []byte) error {
		var row struct{ RowKey string }
		if err := decode(raw, &row); err != nil {
			return err
		}
		switch kind, _, _ := strings.Cut(row.RowKey, "!"); kind {
		case pool.HeadKey:
			var err error
			p.Head, version, err = decodeHead(raw)
			found = true
			return err
		case "job":
			j, err := decodeJob(raw)
			p.Jobs = append(p.Jobs, j)
			return err
		case "node":
			n, err := decodeNode(raw)
			p.Nodes = append(p.Nodes, n)
			return err
		case "log":
			var log struct{ Seq number }
			err := decode(raw, &log)
			p.Logs = append(p.Logs, int64(log.Seq))
			return err
		}
		return nil // a kind of row that a later release knows
	})
	if err == nil && !found {
		err = job.NoPool(name)
	}
	return p, version, pages, err
}

// Head reads which version of a pool is current, without its rows and its
// spec.
func (s *Store) Head(ctx context.Context, name string) (pool.Version, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return pool.Version{}, err
	}
	var row versionRow
	found := false
	q := query{filter: key(name, pool.HeadKey), fields: "PartitionKey,RowKey,Timestamp,Seq,Nonce,SpecHash"}
	_, err := s.scan(ctx, "read the head of pool "+name, s.pools, q, func(raw []byte) error {
		found = true
		return decode(raw, &row)
	})
	if err == nil && !found {
		err = job.NoPool(name)
	}
	return row.version(), err
}

// Overview reads a pool's head and nodes, without its jobs.
func (s *Store) Overview(ctx context.Context, name string) (*pool.Partition, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	head, _, err := s.head(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &pool.Partition{Head: head}
	_, err = s.scan(ctx, "read the nodes of pool "+name, s.pools, query{filter: between(name, pool.NodeKey(""), pool.LiveTo)}, func(raw []byte) error {
		n, err := decodeNode(raw)
		p.Nodes = append(p.Nodes, n)
		return err
	})
	return p, err
}

// head reads the head with its ETag for certain.
func (s *Store) head(ctx context.Context, name string) (pool.Head, pool.Version, error) {
	raw, etag, err := s.get(ctx, "read the head of pool "+name, s.pools, name, pool.HeadKey)
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

// Logs reads rows of facts that wait to be recorded, oldest first, up to a
// limit; 0 is none. Once they are recorded, a Commit deletes them.
func (s *Store) Logs(ctx context.Context, name string, limit int) ([]*pool.Log, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	var logs []*pool.Log
	_, err := s.scan(ctx, "read the log of pool "+name, s.pools, query{filter: between(name, "log!", "log\""), limit: limit}, func(raw []byte) error {
		l, err := decodeLog(raw)
		logs = append(logs, l)
		return err
	})
	return logs, err
}

// Job reads a job by its order, live or finished. NotFound when there is none.
func (s *Store) Job(ctx context.Context, name, order string) (*pool.Job, error) {
	j, err := s.readJob(ctx, name, order, pool.JobKey(order))
	if fault.CodeOf(err) != fault.NotFound {
		return j, err
	}
	return s.FinishedJob(ctx, name, order)
}

// FinishedJob reads a finished job by its order. NotFound when it has not finished,
// or is not there.
func (s *Store) FinishedJob(ctx context.Context, name, order string) (*pool.Job, error) {
	return s.readJob(ctx, name, order, pool.DoneKey(order))
}

// EndState says how a job of a pool has ended, or that its document was rejected;
// fault.NotFound: it has not ended, or is none of this pool. A job whose rows have
// gone has ended as its id remembers.
func (s *Store) EndState(ctx context.Context, name, id string) (job.State, error) {
	row, err := s.Find(ctx, id)
	if err == nil && row.State != job.Rejected && row.Pool == name {
		var j *pool.Job
		if j, err = s.FinishedJob(ctx, name, row.Order); err == nil {
			return j.State, nil
		}
		if fault.CodeOf(err) == fault.NotFound && !row.HasEnded() {
			row, err = s.Find(ctx, id) // its tombstone was there before its row went
		} else if row.HasEnded() {
			err = nil
		}
	}
	switch {
	case err != nil:
		return "", err
	case row.State == job.Rejected:
		return job.Rejected, nil
	case row.Pool != name:
		return "", fault.New(fault.NotFound, "", "job %.100q is none of pool %s", id, name)
	case !row.HasEnded():
		return "", fault.New(fault.NotFound, "", "job %.100q has not ended", id)
	}
	return row.State, nil
}

func (s *Store) readJob(ctx context.Context, name, order, rowKey string) (*pool.Job, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, err
	}
	if !isOrder(order) {
		return nil, fault.New(fault.NotFound, "", "there is no job %.40q in pool %s", order, name)
	}
	raw, _, err := s.get(ctx, "read job "+order, s.pools, name, rowKey)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, wrap(fault.NotFound, err, "there is no job %s in pool %s", order, name)
	}
	if err != nil {
		return nil, err
	}
	return decodeJob(raw)
}

// isOrder reports whether a text has the form of an order, a ULID or that of a
// sweep's member, and so may be part of a key.
func isOrder(order string) bool {
	if sweep, _, ok := job.SweepOrder(order); ok {
		order = sweep
	}
	return len(order) == 26 && strings.Trim(order, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// get reads one row and its ETag.
func (s *Store) get(ctx context.Context, what string, table *aztables.Client, partition, row string) ([]byte, azcore.ETag, error) {
	var response aztables.GetEntityResponse
	err := s.call(ctx, what, func(ctx context.Context) (err error) {
		response, err = table.GetEntity(ctx, partition, row, nil)
		return err
	})
	return response.Value, response.ETag, err
}

// query is a range of rows.
type query struct {
	filter string
	fields string // "" = all
	limit  int    // 0 = none
}

// scan reads rows page by page, in the order of their keys, and returns the
// number of pages. A page may be empty and still not be the last.
func (s *Store) scan(ctx context.Context, what string, table *aztables.Client, q query, row func(raw []byte) error) (pages int, err error) {
	options := aztables.ListEntitiesOptions{Filter: &q.filter}
	if q.fields != "" {
		options.Select = &q.fields
	}
	left := q.limit
	for {
		if q.limit > 0 {
			top := int32(min(left, maxTop))
			options.Top = &top
		}
		var page aztables.ListEntitiesResponse
		err := s.call(ctx, what, func(ctx context.Context) (err error) {
			page, err = table.NewListEntitiesPager(&options).NextPage(ctx)
			return err
		})
		if err != nil {
			return pages, err
		}
		pages++
		for _, raw := range page.Entities {
			if err := row(raw); err != nil {
				return pages, err
			}
		}
		left -= len(page.Entities)
		if page.NextPartitionKey == nil && page.NextRowKey == nil || q.limit > 0 && left <= 0 {
			return pages, nil
		}
		options.NextPartitionKey, options.NextRowKey = page.NextPartitionKey, page.NextRowKey
	}
}

// maxTop is the largest page of the service.
const maxTop = 1000

// Filters. Only keys are indexed, so each of them bounds the keys.
func between(partition, from, to string) string {
	return fmt.Sprintf("PartitionKey eq '%s' and RowKey ge '%s' and RowKey lt '%s'", literal(partition), literal(from), literal(to))
}

func key(partition, row string) string {
	return fmt.Sprintf("PartitionKey eq '%s' and RowKey eq '%s'", literal(partition), literal(row))
}

// literal quotes what stands between apostrophes.
func literal(s string) string { return strings.ReplaceAll(s, "'", "''") }
