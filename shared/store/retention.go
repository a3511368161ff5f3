package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// Retention removes rows of pools and ids together. The order is always the same:
// tombstones, the lists of what is to be removed later (see expiry.go), then the
// finished rows. After a kill in between, it begins again with the same rows and
// writes the same once more.
type Retention struct {
	pools *Pools
	ids   *IDs
}

const (
	// maxDrop bounds the finished jobs that one call writes into their ids: about
	// sixty for each of the sixteen partitions.
	maxDrop = 1000
	// minDrop is the number of finished jobs that are dropped without waiting for
	// more; fewer wait for the caller's maxWait.
	minDrop = 500
)

// DropDone forgets finished jobs of a pool that ended before a time, at most maxDrop of
// them, and returns how many it forgot. Their ids remember how they ended. If there are
// few, it drops none before one of them has been due for maxWait. It may be killed at any
// point and repeated.
func (r *Retention) DropDone(ctx context.Context, name string, before time.Time, maxWait time.Duration) (int, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return 0, err
	}
	jobs, err := r.endedBefore(ctx, name, before)
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	isDue := len(jobs) >= minDrop
	for _, j := range jobs {
		isDue = isDue || !j.EndedAt.After(before.Add(-maxWait))
	}
	if !isDue {
		return 0, nil
	}
	return len(jobs), r.dropJobs(ctx, name, jobs, r.deleteRows)
}

// endedBefore reads finished jobs that ended before a time. No job ends before it is
// submitted, so it does not read the keys of jobs that were submitted later.
func (r *Retention) endedBefore(ctx context.Context, name string, before time.Time) ([]*pool.Job, error) {
	order, err := orderAt(before)
	if err != nil {
		return nil, err
	}
	q := table.Query{
		Filter: table.Between(name, pool.DoneKey(order)+"!", pool.DoneTo) + // the first key after that order's
			fmt.Sprintf(" and EndedAt lt datetime'%s'", before.UTC().Format(table.TimeLayout)),
		Limit: maxDrop,
	}
	return readAll(ctx, r.pools.table, "look for old jobs of pool "+name, q, decodeJob)
}

// orderAt is the order between jobs that were submitted before a time and those that were
// submitted at that time or later.
func orderAt(t time.Time) (string, error) {
	var u ulid.ULID
	if err := u.SetTime(ulid.Timestamp(t)); err != nil {
		return "", wrap(fault.Invalid, err, "%s is not a time jobs could have been submitted at", t)
	}
	return u.String(), nil
}

// deleteFunc deletes rows of a pool, as many as a transaction holds beside a head.
type deleteFunc func(ctx context.Context, name string, keys []string) error

// dropJobs writes the tombstones of finished jobs, then deletes their rows with deleteRows.
func (r *Retention) dropJobs(ctx context.Context, name string, jobs []*pool.Job, deleteRows deleteFunc) error {
	if err := r.archive(ctx, name, jobs); err != nil {
		return err
	}
	for chunk := range slices.Chunk(jobs, table.MaxRows-1) {
		keys := make([]string, len(chunk))
		for i, j := range chunk {
			keys[i] = pool.DoneKey(j.Order)
		}
		if err := deleteRows(ctx, name, keys); err != nil {
			return err
		}
	}
	return nil
}

// archive writes the tombstones of jobs, and lists the jobs for the time when their
// files and their ids are to be removed.
func (r *Retention) archive(ctx context.Context, name string, jobs []*pool.Job) error {
	if err := r.ids.writeEnds(ctx, jobs); err != nil {
		return err
	}
	files, ids := map[string][]ArchivedJob{}, map[string][]ArchivedJob{}
	latest := map[string]time.Time{}
	for _, j := range jobs {
		at := j.EndedAt.UTC()
		if at.Before(j.SubmittedAt) { // a node's clock is wrong
			at = j.SubmittedAt.UTC()
		}
		day := at.Format(time.DateOnly)
		archived := ArchivedJob{Order: j.Order, ID: j.ID}
		if latest[day].Before(at) {
			latest[day] = at
		}
		if len(j.Attempts) > 0 {
			files[day] = append(files[day], archived)
		}
		if _, _, isMember := job.SweepOrder(j.Order); !isMember {
			ids[day] = append(ids[day], archived)
		}
	}
	for _, day := range slices.Sorted(maps.Keys(latest)) {
		for kind, all := range map[ExpiryKind][]ArchivedJob{ExpireFiles: files[day], ExpireIDs: ids[day]} {
			if err := r.ids.putExpiry(ctx, kind, name, latest[day], all); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropAllDone drops all finished jobs of a pool.
func (r *Retention) dropAllDone(ctx context.Context, name string, deleteRows deleteFunc) error {
	for {
		q := table.Query{Filter: table.Between(name, pool.DoneFrom, pool.DoneTo), Limit: maxDrop}
		jobs, err := readAll(ctx, r.pools.table, "read finished jobs of pool "+name, q, decodeJob)
		if err != nil || len(jobs) == 0 {
			return err
		}
		if err := r.dropJobs(ctx, name, jobs, deleteRows); err != nil {
			return err
		}
	}
}

// DeletePool removes what is left of a pool: every row, the head last. The ids of its
// jobs remember how they ended. Conflict: the pool is not marked as Deleting, rows of
// facts wait to be recorded, or somebody else changes the pool meanwhile. It may be
// repeated; a pool that does not exist is no error.
func (r *Retention) DeletePool(ctx context.Context, name string) error {
	if err := job.CheckPool("pool", name); err != nil {
		return err
	}
	waiting, err := r.pools.Logs(ctx, name, 1)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		return fault.New(fault.Conflict, "", "the use of pool %s is not recorded yet; record it, then delete the pool", name)
	}
	head, version, err := r.pools.readHead(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		// Nobody can commit to a pool without a head: what is left are remains.
		if err := r.dropAllDone(ctx, name, r.deleteRows); err != nil {
			return err
		}
		return r.deleteAllRows(ctx, name, r.deleteRows)
	}
	if err != nil {
		return err
	}
	if !head.Deleting {
		return fault.New(fault.Conflict, "", "pool %s is not to be deleted", name)
	}
	g := &guardedDeletion{r.pools, head, version}
	if err := r.dropAllDone(ctx, name, g.deleteRows); err != nil {
		return err
	}
	if err := r.deleteAllRows(ctx, name, g.deleteRows); err != nil {
		return err
	}
	err = r.pools.table.Delete(ctx, "delete pool "+name, name, pool.HeadKey, table.ETag(g.version.ETag))
	if fault.CodeOf(err) == fault.NotFound {
		return nil // deleted by an earlier try of this call, or by another call
	}
	return err
}

// guardedDeletion deletes rows of a pool by transactions that replace the head, so
// that a pool that another process changes at the same time keeps its rows.
type guardedDeletion struct {
	pools   *Pools
	head    pool.Head
	version pool.Version
}

func (g *guardedDeletion) deleteRows(ctx context.Context, name string, keys []string) error {
	changes := make([]pool.Change, 0, len(keys))
	for _, k := range keys {
		if k != pool.HeadKey {
			changes = append(changes, pool.Change{Key: k})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	g.head.Seq, g.head.Nonce = g.head.Seq+1, rand.Text()
	next, err := g.pools.commitUnlogged(ctx, name, g.version, g.head, changes)
	g.version = next
	return err
}

// deleteAllRows hands the keys of all rows of a pool to deleteRows, as many at a time
// as a transaction holds beside a head.
func (r *Retention) deleteAllRows(ctx context.Context, name string, deleteRows deleteFunc) error {
	var batch []string
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := deleteRows(ctx, name, batch)
		batch = batch[:0]
		return err
	}
	q := table.Query{Filter: table.Between(name, "", "~"), Fields: "PartitionKey,RowKey"}
	_, err := r.pools.table.Scan(ctx, "delete rows of pool "+name, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		if batch = append(batch, key); len(batch) < table.MaxRows-1 {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// deleteRows deletes rows that nobody changes any more. When one of them is
// gone already, it deletes the rest one by one.
func (r *Retention) deleteRows(ctx context.Context, name string, keys []string) error {
	operations := make([]table.Operation, len(keys))
	for i, k := range keys {
		operations[i] = table.Operation{Kind: table.Delete, Row: table.KeysOnly(name, k), Match: table.Any}
	}
	what := "delete rows of pool " + name
	err := r.pools.table.Transact(ctx, what, operations)
	if fault.CodeOf(err) != fault.NotFound {
		return err
	}
	var failures []error
	for _, k := range keys {
		if err := r.pools.table.Delete(ctx, what, name, k, table.Any); err != nil && fault.CodeOf(err) != fault.NotFound {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
