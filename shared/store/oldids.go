package store

import (
	"context"
	"strings"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// Ids are compared without letter case, as the folders of jobs are on the share, which
// is Azure Files. So rows of ids have their keys in small letters; the row itself has
// the id as it was written. Earlier versions compared ids with letter case, so that
// their rows of ids with capitals have capitals in their keys too.

// foldCase is an id as ids are compared. Only the letters that an id may have are
// folded: a refused document may have any id, and two of those need not be the same.
func foldCase(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, id)
}

// moveOldRow looks for the row that an earlier version has written for an id with
// capitals, copies it to the key where it belongs, and returns it. NotFound: there is
// none, or the id has no capitals.
func (d *IDs) moveOldRow(ctx context.Context, id string) (found ID, nonce string, etag table.ETag, err error) {
	none := fault.New(fault.NotFound, "id", "there is no job with the id %.128q", id)
	if foldCase(id) == id {
		return ID{}, "", "", none
	}
	const what = "read an id"
	raw, _, err := d.table.Get(ctx, what, hashPartition(id), escapeKey(id))
	if fault.CodeOf(err) == fault.NotFound {
		return ID{}, "", "", none
	}
	if err != nil {
		return ID{}, "", "", err
	}
	if found, nonce, err = decodeID(raw); err != nil {
		return ID{}, "", "", err
	}
	err = d.table.Insert(ctx, "copy an id to its key without capitals", encodeID(&found, nonce))
	if err != nil && fault.CodeOf(err) != fault.Conflict { // somebody else has copied it
		return ID{}, "", "", err
	}
	raw, etag, err = d.table.Get(ctx, what, idPartition(id), idKey(id))
	if err != nil {
		return ID{}, "", "", err
	}
	found, nonce, err = decodeID(raw)
	return found, nonce, etag, err
}

// moveOldRows moves the old rows of ids that are about to be registered. It costs a
// read for each id that has capitals.
func (d *IDs) moveOldRows(ctx context.Context, ids []ID) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i := range ids {
		if id := ids[i].ID; foldCase(id) != id {
			group.Go(func() error {
				if _, _, _, err := d.moveOldRow(ctx, id); fault.CodeOf(err) != fault.NotFound {
					return err
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// deleteOldRow deletes the row that an earlier version has written for an id with
// capitals. Do so before the row that took its place goes: otherwise the old row would
// be found again, as an id without a job.
func (d *IDs) deleteOldRow(ctx context.Context, id string) error {
	if foldCase(id) == id {
		return nil
	}
	return d.deleteRow(ctx, "forget an id of an earlier version", hashPartition(id), escapeKey(id), table.Any)
}
