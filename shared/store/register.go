package store

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// An id is registered before its job is taken in. So it can be left without a job:
// its pool refuses the job, or the process ends in between. Only the holder of the id
// may give it back. If several bring the same document at once (a message comes
// twice), the last one to register holds it, and every registration changes the row:
// so nobody gives an id back under which another one is taking the job in.

// Register takes ids for jobs. For each, in the same order, it returns what
// stands in the table now, and whether this call put it there. An id that is
// taken stays as it is; one that says rejected is replaced. When an id is
// twice in one call, the first one counts; letter case does not matter, and the id
// that is returned is spelled as it was first. Any number of calls may race: each
// id is fresh in exactly one of them.
func (d *IDs) Register(ctx context.Context, ids []ID) ([]ID, []bool, error) {
	return d.RegisterAs(ctx, rand.Text(), ids)
}

// RegisterAs is Register for a holder, a text that nobody else uses. The last one to
// register an id with the same document holds it, and may give it back with Release
// when its job is not taken in after all.
func (d *IDs) RegisterAs(ctx context.Context, holder string, ids []ID) ([]ID, []bool, error) {
	ids = slices.Clone(ids)
	r := registration{
		table: d, holder: holder, ids: ids,
		now: make([]ID, len(ids)), fresh: make([]bool, len(ids)),
	}
	first := make(map[string]int, len(ids))
	partitions := map[string][]int{}
	for i := range ids {
		id := normalize(ids[i].ID)
		if ids[i].ID = id; id == "" {
			return nil, nil, fault.New(fault.Invalid, "id", "an id must not be empty")
		}
		if _, twice := first[foldCase(id)]; !twice {
			first[foldCase(id)] = i
			partitions[idPartition(id)] = append(partitions[idPartition(id)], i)
		}
	}
	if err := d.moveOldRows(ctx, ids); err != nil {
		return nil, nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, indexes := range partitions {
		for part := range slices.Chunk(indexes, table.MaxRows) {
			group.Go(func() error { return r.registerPart(ctx, part) })
		}
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i := range ids {
		r.now[i] = r.now[first[foldCase(ids[i].ID)]]
	}
	return r.now, r.fresh, nil
}

// registration is one call of RegisterAs.
type registration struct {
	table  *IDs
	holder string // also the nonce of this call's rows, to recognize them after a lost reply
	ids    []ID
	now    []ID   // result: by the index in ids
	fresh  []bool // result: by the index in ids
}

// claim is an id that is still to be taken, and the rejected row it replaces.
type claim struct {
	index    int
	replaces table.ETag
	rejected ID
}

// registerPart takes ids of one partition: all in one transaction, and when some are
// taken already, those that are left.
func (r *registration) registerPart(ctx context.Context, indexes []int) error {
	claims := make([]claim, len(indexes))
	for i, index := range indexes {
		claims[i].index = index
	}
	for range idRounds {
		err := r.insert(ctx, claims)
		if err == nil {
			for _, c := range claims {
				r.now[c.index], r.fresh[c.index] = rowOfNew(r.ids[c.index]), true
			}
			r.unlistReplaced(ctx, claims)
			return nil
		}
		if fault.CodeOf(err) == fault.Invalid {
			return err
		}
		if claims, err = r.findOpen(ctx, claims); err != nil || len(claims) == 0 {
			return err
		}
	}
	return fault.New(fault.Throttled, "", "ids were taken by others again and again; try again")
}

// insert writes the rows of all claims, or none.
func (r *registration) insert(ctx context.Context, claims []claim) error {
	operations := make([]table.Operation, len(claims))
	for i, c := range claims {
		row := rowOfNew(r.ids[c.index])
		operations[i] = table.Operation{Kind: table.Insert, Row: encodeID(&row, r.holder)}
		if c.replaces != "" {
			operations[i].Kind, operations[i].Match = table.Replace, c.replaces
		}
	}
	return r.table.table.Transact(ctx, "register ids", operations)
}

// rowOfNew is the ID that is read after its registration.
func rowOfNew(id ID) ID {
	id.State, id.Reason, id.Field, id.ClaimedAt, id.End = "", "", "", time.Time{}, End{Members: id.End.Members}
	id.ConflictAt = time.Time{}
	id.At = id.At.UTC().Truncate(table.Tick)
	return id
}

// unlistReplaced removes the rejected documents that were replaced from their list.
// If that fails, Rejected removes them.
func (r *registration) unlistReplaced(ctx context.Context, claims []claim) {
	for i := range claims {
		if claims[i].replaces != "" {
			_ = r.table.unlistRejection(ctx, &claims[i].rejected)
		}
	}
}

// findOpen reads the rows of all claims. It writes the results of those that are
// taken, and returns the others.
func (r *registration) findOpen(ctx context.Context, claims []claim) ([]claim, error) {
	open := make([]*claim, len(claims))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i, c := range claims {
		group.Go(func() (err error) {
			open[i], err = r.readClaim(ctx, c.index)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var rest []claim
	for _, c := range open {
		if c != nil {
			rest = append(rest, *c)
		}
	}
	return rest, nil
}

// readClaim reads the row of one id, and returns the claim if the id is still to be
// taken.
func (r *registration) readClaim(ctx context.Context, index int) (*claim, error) {
	found, nonce, etag, err := r.table.readID(ctx, r.ids[index].ID)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return &claim{index: index}, nil
	case err != nil:
		return nil, err
	case found.State == job.Rejected:
		return &claim{index: index, replaces: etag, rejected: found}, nil
	case nonce != r.holder && found.State == "" && found.Hash == r.ids[index].Hash:
		r.now[index], err = r.table.setHolder(ctx, r.holder, found, r.ids[index].At, etag)
		if fault.CodeOf(err) == fault.Conflict {
			// It was given back, has ended, or has another holder: look again.
			return &claim{index: index}, nil
		}
		return nil, err
	}
	r.now[index], r.fresh[index] = found, nonce == r.holder
	return nil, nil
}

// setHolder makes somebody the holder of a registered id. Conflict: the row has
// changed.
func (d *IDs) setHolder(ctx context.Context, holder string, id ID, at time.Time, etag table.ETag) (ID, error) {
	id.ClaimedAt = at.UTC().Truncate(table.Tick)
	e := table.NewRow(idPartition(id.ID), idKey(id.ID))
	e.Text("Holder", holder)
	e.Time("ClaimedAt", id.ClaimedAt)
	err := d.table.Merge(ctx, "register an id again", e.JSON(), etag)
	if fault.CodeOf(err) == fault.NotFound {
		err = wrap(fault.Conflict, err, "the id %.128q was given back", id.ID)
	}
	return id, err
}

// Release gives an id back that was registered for a holder and whose job is not
// taken in: the id stands for nothing then. It changes nothing when somebody else has
// registered it since then.
func (d *IDs) Release(ctx context.Context, holder, id string) error {
	id = normalize(id)
	for range idRounds {
		raw, etag, err := d.table.Get(ctx, "read an id", idPartition(id), idKey(id))
		if fault.CodeOf(err) == fault.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		var row struct{ Nonce, Holder, State string }
		if err := table.Decode(raw, &row); err != nil {
			return err
		}
		if row.Holder == "" {
			row.Holder = row.Nonce
		}
		if row.Holder != holder || row.State != "" {
			return nil
		}
		err = d.table.Delete(ctx, "give an id back", idPartition(id), idKey(id), etag)
		switch fault.CodeOf(err) {
		case fault.NotFound: // the reply to an earlier try was lost
			return nil
		case fault.Conflict: // read again
		default:
			return err
		}
	}
	return errBusy(id)
}

// RejectLost turns an id that was registered, and whose job was never taken in, into a
// rejection with a reason: a sender that has the document may send it again. id is the
// row as it was read; when it has changed since, it stays. RejectLost returns the row
// as it is then. NotFound: it is not there any more.
func (d *IDs) RejectLost(ctx context.Context, id ID, reason string, at time.Time) (ID, error) {
	now, _, etag, err := d.readID(ctx, id.ID)
	if err != nil || now.State != "" || now.Order != id.Order || !now.ClaimedAt.Equal(id.ClaimedAt) {
		return now, err
	}
	rejected := now
	rejected.State, rejected.Reason, rejected.At, rejected.ClaimedAt = job.Rejected, reason, at.UTC().Truncate(table.Tick), time.Time{}
	err = d.table.Replace(ctx, "give up an id", encodeID(&rejected, ""), etag)
	switch fault.CodeOf(err) {
	case "":
		return rejected, d.listRejection(ctx, &rejected)
	case fault.Conflict, fault.NotFound:
		now, _, _, err = d.readID(ctx, id.ID)
	}
	return now, err
}
