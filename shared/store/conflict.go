package store

import (
	"context"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// NoteConflict notes at the id of a job that another document came under it and was rejected.
// An id that stands for no job stays as it is.
func (d *IDs) NoteConflict(ctx context.Context, id string, at time.Time) error {
	id = normalize(id)
	for range idRounds {
		found, nonce, etag, err := d.readID(ctx, id)
		if fault.CodeOf(err) == fault.NotFound || err == nil && found.State == job.Rejected {
			return nil
		}
		if err != nil {
			return err
		}
		found.ConflictAt = at
		err = d.table.Replace(ctx, "note a conflict of ids", encodeID(&found, nonce), etag)
		switch fault.CodeOf(err) {
		case fault.Conflict, fault.NotFound: // another caller was first: read again
		default:
			return err
		}
	}
	return errBusy(id)
}
