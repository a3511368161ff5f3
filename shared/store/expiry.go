package store

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// When the finished rows of jobs are deleted, the jobs are listed, because their files and
// ids are removed later. A row lists many jobs; its key has the time at which the last of
// them ended. So one range of keys finds what is due, however many ids there are.

// ExpiryKind says what of a job expires: its files or its id.
type ExpiryKind string

const (
	ExpireFiles ExpiryKind = "files" // on the share
	ExpireIDs   ExpiryKind = "ids"   // the ids themselves, and with them the tombstones
)

// ArchivedJob is a job whose finished row is gone.
type ArchivedJob struct{ Order, ID string }

// Expiry lists jobs of one pool whose files or ids expire at the same time.
type Expiry struct {
	Pool string
	Jobs []ArchivedJob

	key string
}

// expirePartition of the table of ids holds these lists.
const expirePartition = "expire"

// stampLayout sorts as the times do.
const stampLayout = "20060102T150405"

func (k ExpiryKind) from(t time.Time) string { return string(k) + "!" + t.UTC().Format(stampLayout) }

// putExpiry lists jobs, the last of which ended at a time. The same jobs give the same row.
func (d *IDs) putExpiry(ctx context.Context, kind ExpiryKind, name string, ended time.Time, jobs []ArchivedJob) error {
	for len(jobs) > 0 {
		row, n := encodeExpiry(kind, name, ended, jobs)
		if err := d.table.Put(ctx, "list jobs to be removed later", row); err != nil {
			return err
		}
		jobs = jobs[n:]
	}
	return nil
}

// encodeExpiry writes a list of as many of the jobs as fit into a row, and returns
// their number.
func encodeExpiry(kind ExpiryKind, name string, ended time.Time, jobs []ArchivedJob) (row []byte, n int) {
	var b strings.Builder
	for n < len(jobs) && b.Len()+len(jobs[n].Order)+len(jobs[n].ID)+2 <= table.LongUnits {
		b.WriteString(jobs[n].Order + " " + jobs[n].ID + "\n")
		n++
	}
	e := table.NewRow(expirePartition, kind.from(ended)+"!"+jobs[0].Order)
	e.Text("Pool", name)
	e.Long("Jobs", b.String())
	return e.JSON(), n
}

func decodeExpiry(raw []byte) (Expiry, error) {
	var row struct{ RowKey, Pool, Jobs string }
	if err := table.Decode(raw, &row); err != nil {
		return Expiry{}, err
	}
	e := Expiry{Pool: row.Pool, key: row.RowKey}
	jobs, err := table.LongText(raw, "Jobs", row.Jobs)
	for line := range strings.Lines(jobs) {
		order, id, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if ok && isOrder(order) && id != "" {
			e.Jobs = append(e.Jobs, ArchivedJob{order, id})
		}
	}
	return e, err
}

// DueExpiries reads lists of jobs that ended before a time and of which something of
// this kind is to be removed, the oldest first, at most limit lists.
func (d *IDs) DueExpiries(ctx context.Context, kind ExpiryKind, before time.Time, limit int) ([]Expiry, error) {
	q := table.Query{Filter: table.Between(expirePartition, string(kind)+"!", kind.from(before)), Limit: limit}
	return readAll(ctx, d.table, "look for jobs to be removed", q, decodeExpiry)
}

// DeleteExpiry forgets a list: what it names is removed.
func (d *IDs) DeleteExpiry(ctx context.Context, e Expiry) error {
	return d.deleteRow(ctx, "forget a list of removed jobs", expirePartition, e.key, table.Any)
}

// DropIDs forgets the ids of a list. One that stands for another job by now, or for
// one that has not ended, stays.
func (d *IDs) DropIDs(ctx context.Context, e Expiry) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, archived := range e.Jobs {
		group.Go(func() error {
			if err := d.deleteOldRow(ctx, archived.ID); err != nil {
				return err
			}
			row, _, etag, err := d.readID(ctx, archived.ID)
			if fault.CodeOf(err) == fault.NotFound || err == nil && (row.Order != archived.Order || !row.HasEnded()) {
				return nil
			}
			if err != nil {
				return err
			}
			return d.deleteRow(ctx, "forget an id", idPartition(row.ID), idKey(row.ID), etag)
		})
	}
	return group.Wait()
}

// DropRejected forgets documents that were rejected before a time, at most limit of
// them, and returns how many it forgot.
func (d *IDs) DropRejected(ctx context.Context, before time.Time, limit int) (int, error) {
	type rejection struct {
		id  ID
		key string // in the list
	}
	edge := ID{At: before.Add(-table.Tick)}
	from, _, _ := strings.Cut(edge.RejectedKey(), "!")
	q := table.Query{Filter: table.Between(rejectedPartition, from, "~"), Limit: limit}
	old, err := readAll(ctx, d.table, "look for old rejections", q, func(raw []byte) (rejection, error) {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return rejection{}, err
		}
		id, _, err := decodeID(raw)
		return rejection{id, key}, err
	})
	if err != nil {
		return 0, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, rejected := range old {
		group.Go(func() error {
			if err := d.dropRejection(ctx, rejected.id); err != nil {
				return err
			}
			return d.deleteRow(ctx, "unlist an old rejection", rejectedPartition, rejected.key, table.Any)
		})
	}
	return len(old), group.Wait()
}

// dropRejection forgets the row of a rejected id, unless it says something else by now.
func (d *IDs) dropRejection(ctx context.Context, rejected ID) error {
	row, _, etag, err := d.readID(ctx, rejected.ID)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.deleteOldRow(ctx, rejected.ID); err != nil {
		return err
	}
	if row.State != job.Rejected || !row.At.Equal(rejected.At) {
		return nil
	}
	return d.deleteRow(ctx, "forget a rejection", idPartition(row.ID), idKey(row.ID), etag)
}
