package store

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// An id is registered before its job is taken in, so it can be left without a job:
// its pool refuses the job, or the process ends in between. Only who holds the id
// may give it back. Of several that bring the same document at once (a message comes
// twice), the last one to register holds it, and every claim changes the row: so
// nobody gives an id back under which another one is taking the job in.

// claim makes the writer of nonce the holder of a registered id. Conflict: the row
// has changed.
func (s *Store) claim(ctx context.Context, nonce string, id ID, at time.Time, etag azcore.ETag) (ID, error) {
	id.ClaimedAt = at.UTC().Truncate(tick)
	e := newEntity(idPartition(id.ID), idKey(id.ID))
	e.text("Holder", nonce)
	e.time("ClaimedAt", id.ClaimedAt)
	entity := e.end()
	err := s.call(ctx, "register an id again", func(ctx context.Context) error {
		_, err := s.ids.UpdateEntity(ctx, entity, &aztables.UpdateEntityOptions{IfMatch: &etag, UpdateMode: aztables.UpdateModeMerge})
		return err
	})
	if fault.CodeOf(err) == fault.NotFound {
		err = wrap(fault.Conflict, err, "the id %.128q was given back", id.ID)
	}
	return id, err
}

// Release gives an id back that was registered under a claim and whose job is not
// taken in: the id stands for nothing then. It changes nothing when somebody else has
// registered it since then.
func (s *Store) Release(ctx context.Context, nonce, id string) error {
	id = normal(id)
	for range idRounds {
		raw, etag, err := s.get(ctx, "read an id", s.ids, idPartition(id), idKey(id))
		if fault.CodeOf(err) == fault.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		var row struct{ Nonce, Holder, State string }
		if err := decode(raw, &row); err != nil {
			return err
		}
		if row.Holder == "" {
			row.Holder = row.Nonce
		}
		if row.Holder != nonce || row.State != "" {
			return nil
		}
		err = s.call(ctx, "give an id back", func(ctx context.Context) error {
			_, err := s.ids.DeleteEntity(ctx, idPartition(id), idKey(id), &aztables.DeleteEntityOptions{IfMatch: &etag})
			return err
		})
		switch fault.CodeOf(err) {
		case fault.NotFound: // the reply to an earlier try was lost
			return nil
		case fault.Conflict: // read again
		default:
			return err
		}
	}
	return fault.New(fault.Throttled, "id", "the id %.128q is changed by others again and again; try again", id)
}

// RejectLost turns an id that was registered, and whose job was never taken in, into a
// rejection with a reason: whoever has the document may send it again. id is the row
// as it was read; when it has changed since, it stays. It returns the row as it is
// then; NotFound when it is not there any more.
func (s *Store) RejectLost(ctx context.Context, id ID, reason string, at time.Time) (ID, error) {
	now, _, etag, err := s.readID(ctx, id.ID)
	if err != nil || now.State != "" || now.Order != id.Order || !now.ClaimedAt.Equal(id.ClaimedAt) {
		return now, err
	}
	rejected := now
	rejected.State, rejected.Reason, rejected.At, rejected.ClaimedAt = job.Rejected, reason, at.UTC().Truncate(tick), time.Time{}
	err = s.call(ctx, "give up an id", func(ctx context.Context) error {
		_, err := s.ids.UpdateEntity(ctx, encodeID(&rejected, ""), &aztables.UpdateEntityOptions{IfMatch: &etag, UpdateMode: aztables.UpdateModeReplace})
		return err
	})
	switch fault.CodeOf(err) {
	case "":
		return rejected, s.indexRejection(ctx, &rejected)
	case fault.Conflict, fault.NotFound:
		now, _, _, err = s.readID(ctx, id.ID)
	}
	return now, err
}
