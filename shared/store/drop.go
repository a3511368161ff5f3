package store

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// DropDone forgets the finished jobs of a pool that were submitted before a
// point in time, and returns how many it forgot. Their ids stay taken, so that
// a late copy of their message does not run them again.
func (s *Store) DropDone(ctx context.Context, name string, before time.Time) (int, error) {
	if err := checkPool(name); err != nil {
		return 0, err
	}
	var oldest ulid.ULID
	if err := oldest.SetTime(ulid.Timestamp(before)); err != nil {
		return 0, wrap(fault.Invalid, err, "%s is not a time jobs could have been submitted at", before)
	}
	return s.sweep(ctx, name, pool.DoneKey(oldest.String())+"!", pool.DoneTo, s.deleteRows) // behind that key
}

// DeletePool removes what is left of a pool: every row, the head last. It
// refuses with Conflict while the pool is not marked as Deleting, while rows of
// facts wait to be recorded, and when somebody else changes the pool meanwhile.
// It may be repeated; a pool that is gone is fine.
func (s *Store) DeletePool(ctx context.Context, name string) error {
	if err := checkPool(name); err != nil {
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
	if _, err := s.sweep(ctx, name, "", "~", guarded); err != nil {
		return err
	}
	err = s.call(ctx, "delete pool "+name, func(ctx context.Context) error {
		_, err := s.pools.DeleteEntity(ctx, name, pool.HeadKey, &aztables.DeleteEntityOptions{IfMatch: &version.etag})
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
