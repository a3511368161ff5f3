package store

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Where files of jobs are kept for a shorter time than their finished rows, the rows
// say whose files are due. So that they are not all read each time, a row for each
// pool says how far that has come. It goes by passes: each looks at the rows that
// became old enough since the one before, and at those which had not ended then.

// shelf is how far the looking for files of a pool's finished jobs has come.
type shelf struct {
	Low  string // files of all jobs with a lower order are gone
	Top  string // of the pass under way: below this order; "" = none is under way
	At   string // key from which the pass goes on
	Next string // what Low becomes after the pass, as far as is known
}

func shelfKey(name string) string { return "shelf!" + name }

// FilesDue lists finished jobs of a pool that ended before a time, whose files are to
// go, of the next limit rows. When they are gone, passed notes it; until then the
// same jobs are listed again. rest reports whether there is more to look at now.
func (s *Store) FilesDue(ctx context.Context, name string, before time.Time, limit int) (due []ArchivedJob, passed func(context.Context) error, rest bool, err error) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, nil, false, err
	}
	at, err := s.shelf(ctx, name)
	if err != nil {
		return nil, nil, false, err
	}
	if at.Top == "" {
		if at.Top, err = orderAt(before); err != nil {
			return nil, nil, false, err
		}
		// The live ones first: one that ends during the pass may be missed by it.
		live, err := s.oldestLive(ctx, name)
		if err != nil {
			return nil, nil, false, err
		}
		if at.At, at.Next = pool.DoneKey(at.Top)+"!", at.Top; live != "" {
			at.Next = min(at.Next, live)
		}
	}
	to := pool.DoneTo
	if at.Low != "" {
		to = pool.DoneKey(at.Low) + "/" // behind it and its members
	}
	rows := 0
	q := query{filter: between(name, at.At, to), fields: "PartitionKey,RowKey,Order,ID,EndedAt", limit: limit}
	_, err = s.scan(ctx, "look for old files of pool "+name, s.pools, q, func(raw []byte) error {
		var row struct {
			RowKey, Order, ID string
			EndedAt           time.Time
		}
		if err := decode(raw, &row); err != nil {
			return err
		}
		rows, at.At = rows+1, row.RowKey+"!"
		if row.EndedAt.Before(before) {
			due = append(due, ArchivedJob{row.Order, row.ID})
		} else {
			at.Next = min(at.Next, alone(row.Order))
		}
		return nil
	})
	if err != nil {
		return nil, nil, false, err
	}
	if rest = rows == limit; !rest {
		at = shelf{Low: at.Next}
	}
	return due, func(ctx context.Context) error { return s.putShelf(ctx, name, at) }, rest, nil
}

// alone is the order of a job, and for a sweep's member that of the sweep.
func alone(order string) string {
	if sweep, _, ok := job.SweepOrder(order); ok {
		return sweep
	}
	return order
}

// oldestLive is the order of a pool's oldest live job; "" = it has none.
func (s *Store) oldestLive(ctx context.Context, name string) (string, error) {
	order := ""
	q := query{filter: between(name, pool.JobKey(""), "job\""), fields: "PartitionKey,RowKey", limit: 1}
	_, err := s.scan(ctx, "look for the oldest job of pool "+name, s.pools, q, func(raw []byte) error {
		var row struct{ RowKey string }
		err := decode(raw, &row)
		order = alone(strings.TrimPrefix(row.RowKey, pool.JobKey("")))
		return err
	})
	return order, err
}

func (s *Store) shelf(ctx context.Context, name string) (shelf, error) {
	raw, _, err := s.get(ctx, "read how far files have gone", s.ids, expirePartition, shelfKey(name))
	if fault.CodeOf(err) == fault.NotFound {
		return shelf{}, nil
	}
	if err != nil {
		return shelf{}, err
	}
	return decodeShelf(raw)
}

func decodeShelf(raw []byte) (shelf, error) {
	var at shelf
	err := decode(raw, &at)
	return at, err
}

func (s *Store) putShelf(ctx context.Context, name string, at shelf) error {
	entity := encodeShelf(name, at)
	return s.call(ctx, "note how far files have gone", func(ctx context.Context) error {
		_, err := s.ids.UpsertEntity(ctx, entity, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
		return err
	})
}

func encodeShelf(name string, at shelf) []byte {
	e := newEntity(expirePartition, shelfKey(name))
	e.text("Low", at.Low)
	e.text("Top", at.Top)
	e.text("At", at.At)
	e.text("Next", at.Next)
	return e.end()
}
