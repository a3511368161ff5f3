package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

const (
	// buryAtOnce is how many finished jobs are written into their ids together:
	// about sixty for each of the sixteen partitions.
	buryAtOnce = 1000
	// worthIt is from how many on it is done at once; fewer wait for more, for as
	// long as the caller's patience.
	worthIt = 500
)

// DropDone forgets finished jobs of a pool that ended before a point in time, at most
// buryAtOnce of them, and returns how many it forgot; their ids remember how they
// ended. When there are few, it waits until one of them has been due for as long as
// patience says. It may be killed at any point and repeated.
func (s *Store) DropDone(ctx context.Context, name string, before time.Time, patience time.Duration) (int, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return 0, err
	}
	jobs, err := s.endedBefore(ctx, name, before, "", pool.DoneTo, buryAtOnce)
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	due := len(jobs) >= worthIt
	for _, j := range jobs {
		due = due || !j.EndedAt.After(before.Add(-patience))
	}
	if !due {
		return 0, nil
	}
	return len(jobs), s.dropJobs(ctx, name, jobs, s.deleteRows)
}

// endedBefore reads finished jobs that ended before a time, of those in a range of
// keys; without a lower bound it begins with the first that can have. No job ends
// before it was submitted, so that newer keys need no look.
func (s *Store) endedBefore(ctx context.Context, name string, before time.Time, from, to string, limit int) ([]*pool.Job, error) {
	if from == "" {
		order, err := orderAt(before)
		if err != nil {
			return nil, err
		}
		from = pool.DoneKey(order) + "!" // behind that key
	}
	var jobs []*pool.Job
	q := query{filter: between(name, from, to) + fmt.Sprintf(" and EndedAt lt datetime'%s'", before.UTC().Format(timeLayout)), limit: limit}
	_, err := s.scan(ctx, "look for old jobs of pool "+name, s.pools, q, func(raw []byte) error {
		j, err := decodeJob(raw)
		jobs = append(jobs, j)
		return err
	})
	return jobs, err
}

// orderAt is below the order of every job that was submitted at a time or later, and
// above those of all before.
func orderAt(t time.Time) (string, error) {
	var u ulid.ULID
	if err := u.SetTime(ulid.Timestamp(t)); err != nil {
		return "", wrap(fault.Invalid, err, "%s is not a time jobs could have been submitted at", t)
	}
	return u.String(), nil
}

// dropJobs buries finished jobs, then has their rows deleted.
func (s *Store) dropJobs(ctx context.Context, name string, jobs []*pool.Job, del func(ctx context.Context, name string, keys []string) error) error {
	if err := s.bury(ctx, name, jobs); err != nil {
		return err
	}
	for chunk := range slices.Chunk(jobs, MaxRows-1) {
		keys := make([]string, len(chunk))
		for i, j := range chunk {
			keys[i] = pool.DoneKey(j.Order)
		}
		if err := del(ctx, name, keys); err != nil {
			return err
		}
	}
	return nil
}

// dropAllDone buries and deletes all finished jobs of a pool.
func (s *Store) dropAllDone(ctx context.Context, name string, del func(ctx context.Context, name string, keys []string) error) error {
	for {
		var jobs []*pool.Job
		q := query{filter: between(name, pool.DoneFrom, pool.DoneTo), limit: buryAtOnce}
		_, err := s.scan(ctx, "read finished jobs of pool "+name, s.pools, q, func(raw []byte) error {
			j, err := decodeJob(raw)
			jobs = append(jobs, j)
			return err
		})
		if err != nil || len(jobs) == 0 {
			return err
		}
		if err := s.dropJobs(ctx, name, jobs, del); err != nil {
			return err
		}
	}
}

// DeletePool removes what is left of a pool: every row, the head last. How its jobs
// have ended, their ids remember. It refuses with Conflict while the pool is not marked as Deleting, while rows of
// facts wait to be recorded, and when somebody else changes the pool meanwhile.
// It may be repeated; a pool that is gone is fine.
func (s *Store) DeletePool(ctx context.Context, name string) error {
	if err := job.CheckPool("pool", name); err != nil {
		return err
	}
	waiting, err := s.Logs(ctx, name, 1)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		return fault.New(fault.Conflict, "", "the use of pool %s is not recorded yet; record it, then delete the pool", name)
	}
	head, version, err := s.head(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		// Nobody can build upon a pool without a head: what is left are remains.
		if err := s.dropAllDone(ctx, name, s.deleteRows); err != nil {
			return err
		}
		_, err = s.sweep(ctx, name, "", "~", s.deleteRows)
	}
	if err != nil || version.IsZero() {
		return err
	}
	if !head.Deleting {
		return fault.New(fault.Conflict, "", "pool %s is not to be deleted", name)
	}

	// Every transaction goes over the head, so that a pool which is taken back
	// into use in this moment keeps its rows.
	guarded := func(ctx context.Context, name string, keys []string) error {
		changes := make([]pool.Change, 0, len(keys))
		for _, k := range keys {
			if k != pool.HeadKey {
				changes = append(changes, pool.Change{Key: k})
			}
		}
		if len(changes) == 0 {
			return nil
		}
		head.Seq, head.Nonce = head.Seq+1, rand.Text()
		next, err := s.commit(ctx, name, version, head, changes, false)
		version = next
		return err
	}
	if err := s.dropAllDone(ctx, name, guarded); err != nil {
		return err
	}
	if _, err := s.sweep(ctx, name, "", "~", guarded); err != nil {
		return err
	}
	err = s.call(ctx, "delete pool "+name, func(ctx context.Context) error {
		_, err := s.pools.DeleteEntity(ctx, name, pool.HeadKey, &aztables.DeleteEntityOptions{IfMatch: ifMatch(version)})
		return err
	})
	if fault.CodeOf(err) == fault.NotFound {
		return nil // an earlier try of this call, or somebody with the same aim
	}
	return err
}

// sweep hands the keys of a range to del, as many at a time as a transaction
// holds beside a head, and returns their number.
func (s *Store) sweep(ctx context.Context, name, from, to string, del func(ctx context.Context, name string, keys []string) error) (int, error) {
	var batch []string
	count := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := del(ctx, name, batch)
		count, batch = count+len(batch), batch[:0]
		return err
	}
	q := query{filter: between(name, from, to), fields: "PartitionKey,RowKey"}
	_, err := s.scan(ctx, "delete rows of pool "+name, s.pools, q, func(raw []byte) error {
		var row struct{ RowKey string }
		if err := decode(raw, &row); err != nil {
			return err
		}
		if batch = append(batch, row.RowKey); len(batch) < MaxRows-1 {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return count, err
}

// deleteRows deletes rows that nobody changes any more. When one of them is
// gone already, the rest are deleted one by one.
func (s *Store) deleteRows(ctx context.Context, name string, keys []string) error {
	always := azcore.ETagAny
	actions := make([]aztables.TransactionAction, len(keys))
	for i, k := range keys {
		actions[i] = aztables.TransactionAction{ActionType: aztables.TransactionTypeDelete, Entity: newEntity(name, k).end(), IfMatch: &always}
	}
	what := "delete rows of pool " + name
	err := s.call(ctx, what, func(ctx context.Context) error {
		_, err := s.submit(ctx, s.pools, actions)
		return err
	})
	if fault.CodeOf(err) != fault.NotFound {
		return err
	}
	var failures []error
	for _, k := range keys {
		err := s.call(ctx, what, func(ctx context.Context) error {
			_, err := s.pools.DeleteEntity(ctx, name, k, nil)
			return err
		})
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
