package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// rejectedPartition of the table of ids lists the rejected ones, newest first,
// so that nobody has to search all ids for them. It is an index only: a row of
// it counts when the id's own row says the same.
const rejectedPartition = "rejected"

// rejectedKey sorts the newest first.
func rejectedKey(id *ID) string {
	return fmt.Sprintf("%019d!%s", math.MaxInt64-id.At.Truncate(tick).UnixNano(), idKey(id.ID))
}

// Reject notes that a document was refused, and why. An id that stands for a
// job already stays as it is.
func (s *Store) Reject(ctx context.Context, id ID) error {
	if id.At.IsZero() {
		return fault.New(fault.Internal, "", "a rejection needs its time")
	}
	id.ID, id.State = normal(id.ID), job.Rejected
	id.Pool, id.Order, id.Hash = cut(id.Pool, maxID), cut(id.Order, maxID), cut(id.Hash, maxID)
	for range idRounds {
		found, _, etag, err := s.readID(ctx, id.ID)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			err = s.call(ctx, "note a rejected document", func(ctx context.Context) error {
				_, err := s.ids.AddEntity(ctx, encodeID(&id, ""), nil)
				return err
			})
		case err != nil:
			return err
		case found.State != job.Rejected:
			return nil
		default:
			err = s.call(ctx, "note a rejected document", func(ctx context.Context) error {
				_, err := s.ids.UpdateEntity(ctx, encodeID(&id, ""), &aztables.UpdateEntityOptions{IfMatch: &etag, UpdateMode: aztables.UpdateModeReplace})
				return err
			})
			if err == nil && rejectedKey(&found) != rejectedKey(&id) {
				err = s.forgetRejection(ctx, &found)
			}
		}
		switch fault.CodeOf(err) {
		case "":
			// The row first, the index behind it: whoever rejects in vain is
			// asked again, and then the index is written.
			return s.indexRejection(ctx, &id)
		case fault.Conflict, fault.NotFound: // somebody else was quicker: look again
		default:
			return err
		}
	}
	return fault.New(fault.Throttled, "id", "the id %.128q is changed by others again and again; try again", id.ID)
}

func (s *Store) indexRejection(ctx context.Context, id *ID) error {
	e := newEntity(rejectedPartition, rejectedKey(id))
	e.idProperties(id)
	entity := e.end()
	return s.call(ctx, "list a rejected document", func(ctx context.Context) error {
		_, err := s.ids.UpsertEntity(ctx, entity, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
		return err
	})
}

func (s *Store) forgetRejection(ctx context.Context, id *ID) error {
	always := azcore.ETagAny
	err := s.call(ctx, "unlist a rejected document", func(ctx context.Context) error {
		_, err := s.ids.DeleteEntity(ctx, rejectedPartition, rejectedKey(id), &aztables.DeleteEntityOptions{IfMatch: &always})
		return err
	})
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// forgetRejections takes the rejected documents that were replaced off the
// list. What it does not get to, Rejected finds out.
func (s *Store) forgetRejections(ctx context.Context, claims []claim) error {
	for i := range claims {
		if claims[i].replaces != "" {
			_ = s.forgetRejection(ctx, &claims[i].rejected)
		}
	}
	return nil
}

// Rejected lists rejected documents, newest first, at most limit of them.
func (s *Store) Rejected(ctx context.Context, limit int) ([]ID, error) {
	limit = min(max(limit, 1), maxPage)
	var listed []ID
	q := query{filter: between(rejectedPartition, "", "~"), limit: limit}
	_, err := s.scan(ctx, "list rejected documents", s.ids, q, func(raw []byte) error {
		id, _, err := decodeID(raw)
		listed = append(listed, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	valid := make([]bool, len(listed))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i := range listed {
		group.Go(func() error {
			found, _, _, err := s.readID(ctx, listed[i].ID)
			switch {
			case fault.CodeOf(err) == fault.NotFound:
			case err != nil:
				return err
			default:
				valid[i] = found.State == job.Rejected && found.At.Equal(listed[i].At)
			}
			if !valid[i] {
				return s.forgetRejection(ctx, &listed[i])
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var rejected []ID
	for i := range listed {
		if valid[i] {
			rejected = append(rejected, listed[i])
		}
	}
	return rejected, nil
}

// tick is what the table keeps of a time.
const tick = 100 * time.Nanosecond
