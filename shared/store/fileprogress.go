package store

import (
	"context"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// If files of jobs are kept for a shorter time than their finished rows, these rows say
// whose files are due. A row for each pool says how far the removal has come, so that not
// all rows are read each time. It works in passes: each pass reads the rows that became
// old enough since the pass before, and the rows of jobs that had not ended then.

// fileProgress is how far removing the files of a pool's finished jobs has come.
type fileProgress struct {
	Low  string // the files of all jobs with a lower order are removed
	Top  string // the pass under way covers the orders below this one; "" = none is under way
	At   string // key from which the pass continues
	Next string // what Low becomes after the pass, as far as is known
}

// fileProgressKey is in the partition of expiries.
func fileProgressKey(name string) string { return "shelf!" + name }

func encodeFileProgress(name string, at fileProgress) []byte {
	e := table.NewRow(expirePartition, fileProgressKey(name))
	e.Text("Low", at.Low)
	e.Text("Top", at.Top)
	e.Text("At", at.At)
	e.Text("Next", at.Next)
	return e.JSON()
}

func decodeFileProgress(raw []byte) (fileProgress, error) {
	var at fileProgress
	err := table.Decode(raw, &at)
	return at, err
}

// FilesDue lists finished jobs of a pool that ended before a time, whose files are to
// be removed, of the next limit rows. After they are removed, call passed to note it;
// until then the same jobs are listed again. rest reports whether there is more to read
// now.
func (r *Retention) FilesDue(ctx context.Context, name string, before time.Time, limit int) (
	due []ArchivedJob, passed func(context.Context) error, rest bool, err error,
) {
	if err := job.CheckPool("pool", name); err != nil {
		return nil, nil, false, err
	}
	at, err := r.readFileProgress(ctx, name)
	if err != nil {
		return nil, nil, false, err
	}
	if at.Top == "" {
		if at, err = r.beginPass(ctx, name, before, at.Low); err != nil {
			return nil, nil, false, err
		}
	}
	to := pool.DoneTo
	if at.Low != "" {
		to = pool.DoneKey(at.Low) + "/" // after it and its members
	}
	rows := 0
	q := table.Query{Filter: table.Between(name, at.At, to), Fields: "PartitionKey,RowKey,Order,ID,EndedAt", Limit: limit}
	_, err = r.pools.table.Scan(ctx, "look for old files of pool "+name, q, func(raw []byte) error {
		var row struct {
			RowKey, Order, ID string
			EndedAt           time.Time
		}
		if err := table.Decode(raw, &row); err != nil {
			return err
		}
		rows, at.At = rows+1, row.RowKey+"!"
		if row.EndedAt.Before(before) {
			due = append(due, ArchivedJob{row.Order, row.ID})
		} else {
			at.Next = min(at.Next, orderOfSweep(row.Order))
		}
		return nil
	})
	if err != nil {
		return nil, nil, false, err
	}
	if rest = rows == limit; !rest {
		at = fileProgress{Low: at.Next}
	}
	passed = func(ctx context.Context) error {
		return r.ids.table.Put(ctx, "note how far removing files has come", encodeFileProgress(name, at))
	}
	return due, passed, rest, nil
}

// beginPass begins a pass over the jobs that may have ended before a time. It reads the
// live jobs first: the pass may miss one that ends while it goes on.
func (r *Retention) beginPass(ctx context.Context, name string, before time.Time, low string) (fileProgress, error) {
	top, err := orderAt(before)
	if err != nil {
		return fileProgress{}, err
	}
	next := top
	live, err := r.oldestLive(ctx, name)
	if err == nil && live != "" {
		next = min(next, live)
	}
	return fileProgress{Low: low, Top: top, At: pool.DoneKey(top) + "!", Next: next}, err
}

// orderOfSweep is the order of a job, or of the sweep if the job is a member of one.
func orderOfSweep(order string) string {
	if sweep, _, ok := job.SweepOrder(order); ok {
		return sweep
	}
	return order
}

// oldestLive is the order of a pool's oldest live job; "" = it has none.
func (r *Retention) oldestLive(ctx context.Context, name string) (string, error) {
	q := table.Query{Filter: table.Between(name, pool.JobKey(""), "job\""), Fields: "PartitionKey,RowKey", Limit: 1}
	keys, err := readAll(ctx, r.pools.table, "look for the oldest job of pool "+name, q, table.DecodeKey)
	if err != nil || len(keys) == 0 {
		return "", err
	}
	return orderOfSweep(pool.LeastOrder(keys[0])), nil
}

func (r *Retention) readFileProgress(ctx context.Context, name string) (fileProgress, error) {
	raw, _, err := r.ids.table.Get(ctx, "read how far removing files has come", expirePartition, fileProgressKey(name))
	if fault.CodeOf(err) == fault.NotFound {
		return fileProgress{}, nil
	}
	if err != nil {
		return fileProgress{}, err
	}
	return decodeFileProgress(raw)
}
