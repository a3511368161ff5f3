package store

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// What is to go some day is listed when the finished rows of jobs go, many jobs to
// a row and by the time at which the last of them ended. So what is due is found
// by one range of keys, however many ids there are.

// ExpiryKind is what of a job is to go.
type ExpiryKind string

const (
	ExpireFiles ExpiryKind = "files" // on the share
	ExpireIDs   ExpiryKind = "ids"   // the ids themselves, and with them the tombstones
)

// ArchivedJob is a job whose finished row has gone.
type ArchivedJob struct{ Order, ID string }

// Expiry lists jobs of one pool of which something is to go at the same time.
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

// writeExpiry lists jobs of which the last ended at a time. The same jobs again are
// the same row.
func (s *Store) writeExpiry(ctx context.Context, kind ExpiryKind, name string, ended time.Time, jobs []ArchivedJob) error {
	for len(jobs) > 0 {
		entity, n := encodeExpiry(kind, name, ended, jobs)
		err := s.call(ctx, "list what is to go", func(ctx context.Context) error {
			_, err := s.ids.UpsertEntity(ctx, entity, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
			return err
		})
		if err != nil {
			return err
		}
		jobs = jobs[n:]
	}
	return nil
}

// encodeExpiry writes a list of as many of the jobs as fit into a row, and returns
// their number.
func encodeExpiry(kind ExpiryKind, name string, ended time.Time, jobs []ArchivedJob) (entity []byte, n int) {
	var b strings.Builder
	for n < len(jobs) && b.Len()+len(jobs[n].Order)+len(jobs[n].ID)+2 <= chunks*chunkUnits {
		b.WriteString(jobs[n].Order + " " + jobs[n].ID + "\n")
		n++
	}
	e := newEntity(expirePartition, kind.from(ended)+"!"+jobs[0].Order)
	e.text("Pool", name)
	e.long("Jobs", b.String())
	return e.end(), n
}

// DueExpiries reads lists of jobs that ended before a time and of which something of
// this kind is to go, the oldest first, at most limit lists.
func (s *Store) DueExpiries(ctx context.Context, kind ExpiryKind, before time.Time, limit int) ([]Expiry, error) {
	var all []Expiry
	q := query{filter: between(expirePartition, string(kind)+"!", kind.from(before)), limit: limit}
	_, err := s.scan(ctx, "look for what is to go", s.ids, q, func(raw []byte) error {
		e, err := decodeExpiry(raw)
		all = append(all, e)
		return err
	})
	return all, err
}

func decodeExpiry(raw []byte) (Expiry, error) {
	var row struct{ RowKey, Pool, Jobs, Jobs1, Jobs2, Jobs3, Jobs4, Jobs5, Jobs6, Jobs7 string }
	if err := decode(raw, &row); err != nil {
		return Expiry{}, err
	}
	e := Expiry{Pool: row.Pool, key: row.RowKey}
	for line := range strings.Lines(row.Jobs + row.Jobs1 + row.Jobs2 + row.Jobs3 + row.Jobs4 + row.Jobs5 + row.Jobs6 + row.Jobs7) {
		order, id, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if ok && isOrder(order) && id != "" {
			e.Jobs = append(e.Jobs, ArchivedJob{order, id})
		}
	}
	return e, nil
}

// DeleteExpiry forgets a list: what it names has gone.
func (s *Store) DeleteExpiry(ctx context.Context, e Expiry) error {
	return s.deleteIDRow(ctx, "forget a list of what has gone", expirePartition, e.key, nil)
}

// DropIDs forgets the ids of a list. One that stands for another job by now, or for
// one that has not ended, stays.
func (s *Store) DropIDs(ctx context.Context, e Expiry) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, b := range e.Jobs {
		group.Go(func() error {
			if err := s.dropOldKey(ctx, b.ID); err != nil {
				return err
			}
			row, _, etag, err := s.readID(ctx, b.ID)
			if fault.CodeOf(err) == fault.NotFound || err == nil && (row.Order != b.Order || !row.HasEnded()) {
				return nil
			}
			if err != nil {
				return err
			}
			return s.deleteIDRow(ctx, "forget an id", idPartition(row.ID), idKey(row.ID), &etag)
		})
	}
	return group.Wait()
}

// DropRejected forgets documents that were rejected before a time, at most limit of
// them, and returns how many it forgot.
func (s *Store) DropRejected(ctx context.Context, before time.Time, limit int) (int, error) {
	var old []ID
	var keys []string
	edge := ID{At: before.Add(-tick)}
	from, _, _ := strings.Cut(rejectedKey(&edge), "!")
	q := query{filter: between(rejectedPartition, from, "~"), limit: limit}
	_, err := s.scan(ctx, "look for old rejections", s.ids, q, func(raw []byte) error {
		var row struct{ RowKey string }
		if err := decode(raw, &row); err != nil {
			return err
		}
		id, _, err := decodeID(raw)
		old, keys = append(old, id), append(keys, row.RowKey)
		return err
	})
	if err != nil {
		return 0, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i, id := range old {
		group.Go(func() error {
			row, _, etag, err := s.readID(ctx, id.ID)
			if err == nil {
				err = s.dropOldKey(ctx, id.ID)
			}
			if err == nil && row.State == job.Rejected && row.At.Equal(id.At) {
				err = s.deleteIDRow(ctx, "forget a rejection", idPartition(row.ID), idKey(row.ID), &etag)
			}
			if err != nil && fault.CodeOf(err) != fault.NotFound {
				return err
			}
			return s.deleteIDRow(ctx, "unlist an old rejection", rejectedPartition, keys[i], nil)
		})
	}
	return len(old), group.Wait()
}

// dropOldKey deletes the row that an earlier version has written for an id with
// capitals, before the one goes that took its place: else the id would be found again,
// as one whose job is nowhere.
func (s *Store) dropOldKey(ctx context.Context, id string) error {
	if fold(id) == id {
		return nil
	}
	return s.deleteIDRow(ctx, "forget an id of an earlier version", partitionOf(id), keyOf(id), nil)
}

// deleteIDRow deletes a row of the table of ids, on condition that it is still the
// one that was read, if an ETag says so. One that is gone or was changed is fine.
func (s *Store) deleteIDRow(ctx context.Context, what, partition, row string, match *azcore.ETag) error {
	err := s.call(ctx, what, func(ctx context.Context) error {
		_, err := s.ids.DeleteEntity(ctx, partition, row, &aztables.DeleteEntityOptions{IfMatch: match})
		return err
	})
	if code := fault.CodeOf(err); code == fault.NotFound || code == fault.Conflict {
		return nil
	}
	return err
}
