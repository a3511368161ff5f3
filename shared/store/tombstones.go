package store

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// An id remembers how its job has ended for as long as the id is remembered. While
// the finished row of the job is there, that row says it. Before that row goes (with
// its pool, or because it is old), what matters of it is written into the row of the
// id, which is the job's tombstone from then on. So a job that ends costs no write to
// the ids, and many ends are written at once.

// End is what an id remembers of a job that has ended, beside State and Reason.
type End struct {
	ExitCode  int
	StartedAt time.Time // of the first attempt that started
	EndedAt   time.Time
	Name      string
	Team      string
	User      string
	Attempts  int // number of the last one
	Nodes     int // of a job on several

	// Of a sweep.
	Members, Succeeded, Failed, TimedOut, Cancelled int

	members string // how its members ended whose rows are gone, see ends.go
}

func endOf(j *pool.Job) End {
	e := End{
		ExitCode: j.ExitCode,
		EndedAt:  j.EndedAt,
		Name:     j.Spec.Name,
		Team:     j.Spec.Team,
		User:     j.Spec.User,
		Nodes:    j.Spec.Nodes,
	}
	for _, a := range j.Attempts {
		if e.Attempts = a.Number; e.StartedAt.IsZero() {
			e.StartedAt = a.StartedAt
		}
	}
	if p := j.Progress; j.Spec.Sweep != nil && p != nil {
		e.StartedAt = p.StartedAt
		e.Members = j.Spec.Sweep.Members()
		e.Succeeded, e.Failed, e.TimedOut, e.Cancelled = p.Succeeded, p.Failed, p.TimedOut, p.Cancelled
	}
	return e
}

// encodeTombstone writes what is to be merged into the row of the job's id.
func encodeTombstone(j *pool.Job) []byte {
	e := table.NewRow(idPartition(j.ID), idKey(j.ID))
	e.Text("State", string(j.State))
	e.Sentence("Reason", j.Reason)
	writeEnd(e, endOf(j))
	return e.JSON()
}

func writeEnd(e *table.Row, end End) {
	e.Int("ExitCode", end.ExitCode)
	e.Time("StartedAt", end.StartedAt)
	e.Time("EndedAt", end.EndedAt)
	e.Text("Name", end.Name)
	e.Text("Team", end.Team)
	e.Text("User", end.User)
	e.Int("Attempts", end.Attempts)
	e.Int("Nodes", end.Nodes)
	e.Int("Members", end.Members)
	e.Int("Succeeded", end.Succeeded)
	e.Int("Failed", end.Failed)
	e.Int("TimedOut", end.TimedOut)
	e.Int("Cancelled", end.Cancelled)
}

// endRow is the part of an id's row that writeEnd writes, and the ends of members.
type endRow struct {
	StartedAt, EndedAt                              time.Time
	Name, Team, User, Ends                          string
	ExitCode, Attempts, Nodes                       table.Number
	Members, Succeeded, Failed, TimedOut, Cancelled table.Number
}

func (r *endRow) end() End {
	return End{
		ExitCode:  int(r.ExitCode),
		StartedAt: table.TimeOf(r.StartedAt),
		EndedAt:   table.TimeOf(r.EndedAt),
		Name:      r.Name,
		Team:      r.Team,
		User:      r.User,
		Attempts:  int(r.Attempts),
		Nodes:     int(r.Nodes),
		Members:   int(r.Members),
		Succeeded: int(r.Succeeded),
		Failed:    int(r.Failed),
		TimedOut:  int(r.TimedOut),
		Cancelled: int(r.Cancelled),
	}
}

// writeEnds writes the ends of jobs, whose finished rows are about to go, into the
// rows of their ids. It may be repeated. An id that is no longer remembered stays
// forgotten, and one that stands for another job by now stays as it is.
func (d *IDs) writeEnds(ctx context.Context, jobs []*pool.Job) error {
	partitions := map[string][]*pool.Job{}
	members := map[string][]*pool.Job{} // by the order of their sweep
	for _, j := range jobs {
		if sweep, _, isMember := job.SweepOrder(j.Order); isMember {
			members[sweep] = append(members[sweep], j)
			continue
		}
		partitions[idPartition(j.ID)] = append(partitions[idPartition(j.ID)], j)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, part := range partitions {
		for chunk := range slices.Chunk(part, table.MaxRows) {
			group.Go(func() error { return d.writeTombstones(ctx, chunk) })
		}
	}
	for sweep, ended := range members {
		group.Go(func() error { return d.writeMemberEnds(ctx, sweep, ended) })
	}
	return group.Wait()
}

// writeTombstones merges ends into the rows of ids of one partition, all at once. It
// changes only the versions of rows that it has read, because an id that was given up
// may stand for another job at any time.
func (d *IDs) writeTombstones(ctx context.Context, jobs []*pool.Job) error {
	for range idRounds {
		ids := make([]string, len(jobs))
		for i, j := range jobs {
			ids[i] = j.ID
		}
		rows, err := d.readIDs(ctx, ids)
		if err != nil {
			return err
		}
		var operations []table.Operation
		for _, j := range jobs {
			if row, ok := rows[foldCase(j.ID)]; ok && row.id.Order == j.Order {
				operations = append(operations, table.Operation{Kind: table.Merge, Row: encodeTombstone(j), Match: row.etag})
			}
		}
		if len(operations) == 0 {
			return nil
		}
		err = d.table.Transact(ctx, "note how jobs have ended", operations)
		if code := fault.CodeOf(err); code != fault.Conflict && code != fault.NotFound {
			return err
		}
	}
	return errBusy(jobs[0].ID)
}

// idRow is the row of an id and its version.
type idRow struct {
	id   ID
	etag table.ETag
}

// readIDs reads the rows of ids of one partition, by their ids in small letters. Ids
// without a row are left out.
func (d *IDs) readIDs(ctx context.Context, ids []string) (map[string]idRow, error) {
	rows := make(map[string]idRow, len(ids))
	for chunk := range slices.Chunk(ids, keysPerQuery) {
		keys := make([]string, len(chunk))
		for i, id := range chunk {
			keys[i] = idKey(id)
		}
		q := table.Query{Filter: anyOf(idPartition(chunk[0]), keys)}
		_, err := d.table.Scan(ctx, "read ids", q, func(raw []byte) error {
			etag, err := table.DecodeETag(raw)
			if err != nil {
				return err
			}
			id, _, err := decodeID(raw)
			rows[foldCase(id.ID)] = idRow{id, etag}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, id := range ids {
		if _, ok := rows[foldCase(id)]; ok || foldCase(id) == id {
			continue
		}
		row, _, etag, err := d.moveOldRow(ctx, id)
		if fault.CodeOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		rows[foldCase(id)] = idRow{row, etag}
	}
	return rows, nil
}

// writeMemberEnds adds the ends of a sweep's members to the row of its id.
func (d *IDs) writeMemberEnds(ctx context.Context, order string, members []*pool.Job) error {
	id, _, ok := job.MemberOf(members[0].ID)
	if !ok {
		return nil // it has no id that anybody could ask for
	}
	for range idRounds {
		row, _, etag, err := d.readID(ctx, id)
		if fault.CodeOf(err) == fault.NotFound || err == nil && row.Order != order {
			return nil
		}
		if err != nil {
			return err
		}
		ends := parseEnds(row.End.members)
		for _, m := range members {
			_, index, _ := job.SweepOrder(m.Order)
			if more := index + 1 - len(ends); more > 0 {
				ends = append(ends, make([]memberEnd, more)...)
			}
			ends[index] = newMemberEnd(m.State, m.ExitCode, endOf(m).Attempts)
		}
		e := table.NewRow(idPartition(id), idKey(id))
		if !e.LongInPlaceOf("Ends", row.End.members, formatEnds(ends)) {
			return fault.New(fault.Internal, "id", "the ends of %d members of %.128q do not fit into its row", len(ends), id)
		}
		err = d.table.Merge(ctx, "note how members have ended", e.JSON(), etag)
		if code := fault.CodeOf(err); code != fault.Conflict && code != fault.NotFound {
			return err
		}
	}
	return errBusy(id)
}

// member makes the row of a sweep's member from the row of the sweep's id. State says
// how the member has ended, if its own rows are not there and cannot come any more.
func (id ID) member(of string, index int) ID {
	m := ID{
		ID:        of,
		Pool:      id.Pool,
		Order:     job.MemberOrder(id.Order, index),
		Hash:      id.Hash,
		Via:       id.Via,
		At:        id.At,
		ClaimedAt: id.ClaimedAt,
		End:       End{Team: id.End.Team, User: id.End.User, Name: id.End.Name, Nodes: id.End.Nodes},
	}
	cancelled := "it was cancelled"
	if id.State == job.Cancelled && id.Reason != "" {
		cancelled = id.Reason
	}
	ends := parseEnds(id.End.members)
	switch {
	case index < len(ends) && endStates[ends[index].state] != "":
		e := ends[index]
		m.State, m.End.ExitCode, m.End.Attempts = endStates[e.state], e.code, e.attempts
		if m.State == job.Cancelled {
			m.Reason = cancelled
		} else if m.State != job.Succeeded {
			m.Reason = "its own reason is no longer kept"
		}
	case id.State == job.Cancelled: // it never came into being
		m.State, m.End.ExitCode, m.Reason = job.Cancelled, job.ExitCancelled, cancelled
	case id.HasEnded():
		m.State, m.Reason = job.Failed, "member of a sweep that ended; its own result is no longer kept"
	}
	return m
}
