package store

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// rejectedPartition of the table of ids lists the rejected ones, newest first,
// so that nobody has to search all ids for them. It is an index only: a row of
// it counts when the id's own row says the same.
const rejectedPartition = "rejected"

// RejectedKey is the key of a rejected document in the list of them: the newest is first.
func (id *ID) RejectedKey() string {
	return fmt.Sprintf("%019d!%s", math.MaxInt64-id.At.Truncate(table.Tick).UnixNano(), idKey(id.ID))
}

// Reject notes that a document was refused, and why. An id that stands for a
// job already stays as it is.
func (d *IDs) Reject(ctx context.Context, id ID) error {
	if id.At.IsZero() {
		return fault.New(fault.Internal, "", "a rejection needs its time")
	}
	const what = "note a rejected document"
	id.ID, id.State = normalize(id.ID), job.Rejected
	id.Pool, id.Order, id.Hash = table.Cut(id.Pool, maxID), table.Cut(id.Order, maxID), table.Cut(id.Hash, maxID)
	for range idRounds {
		found, _, etag, err := d.readID(ctx, id.ID)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			err = d.table.Insert(ctx, what, encodeID(&id, ""))
		case err != nil:
			return err
		case found.State != job.Rejected:
			return nil
		default:
			err = d.table.Replace(ctx, what, encodeID(&id, ""), etag)
			if err == nil && found.RejectedKey() != id.RejectedKey() {
				err = d.unlistRejection(ctx, &found)
			}
		}
		switch fault.CodeOf(err) {
		case "":
			// The row is written before the index: after an error the caller repeats
			// the call, which writes the index.
			return d.listRejection(ctx, &id)
		case fault.Conflict, fault.NotFound: // another caller was first: read again
		default:
			return err
		}
	}
	return errBusy(id.ID)
}

func (d *IDs) listRejection(ctx context.Context, id *ID) error {
	e := table.NewRow(rejectedPartition, id.RejectedKey())
	writeID(e, id)
	return d.table.Put(ctx, "list a rejected document", e.JSON())
}

func (d *IDs) unlistRejection(ctx context.Context, id *ID) error {
	err := d.table.Delete(ctx, "unlist a rejected document", rejectedPartition, id.RejectedKey(), table.Any)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// Rejected lists rejected documents, newest first, at most limit of them.
func (d *IDs) Rejected(ctx context.Context, limit int) ([]ID, error) {
	ids, _, err := d.RejectedAfter(ctx, "", limit)
	return ids, err
}

// RejectedAfter lists rejected documents, newest first. It looks at limit of them, and
// lists those that still are. after is "" or the key that the call before has returned;
// that key is "" at the end.
func (d *IDs) RejectedAfter(ctx context.Context, after string, limit int) (ids []ID, next string, err error) {
	limit = min(max(limit, 1), maxPage)
	from := ""
	if after != "" {
		from = after + "!"
	}
	q := table.Query{Filter: table.Between(rejectedPartition, from, "~"), Limit: limit}
	listed, err := readAll(ctx, d.table, "list rejected documents", q, func(raw []byte) (ID, error) {
		id, _, err := decodeID(raw)
		return id, err
	})
	if err != nil {
		return nil, "", err
	}
	if len(listed) == limit {
		next = listed[limit-1].RejectedKey()
	}
	valid := make([]bool, len(listed))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i := range listed {
		group.Go(func() error {
			found, _, _, err := d.readID(ctx, listed[i].ID)
			switch {
			case fault.CodeOf(err) == fault.NotFound:
			case err != nil:
				return err
			default:
				valid[i] = found.State == job.Rejected && found.At.Equal(listed[i].At)
			}
			if !valid[i] {
				return d.unlistRejection(ctx, &listed[i])
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, "", err
	}
	var rejected []ID
	for i := range listed {
		if valid[i] {
			rejected = append(rejected, listed[i])
		}
	}
	return rejected, next, nil
}
