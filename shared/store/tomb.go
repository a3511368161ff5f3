package store

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// A job keeps its end for as long as its id is remembered. While its finished row
// is there, that row tells. Before the row goes (with its pool, or since it is
// old), what matters of it is written into the row of the id, which is the job's
// tombstone from then on. So a job that ends costs no write to the ids, and ends
// are written many at once. The order is always: tombstones, the lists of what is to
// be forgotten later (see expire.go), then the finished rows; after a kill in between
// it begins again with the same rows, and writes the same once more.

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

	ends string // of its members whose rows are gone, see members.go
}

// HasEnded reports whether the id stands for a job whose end it remembers itself.
func (id *ID) HasEnded() bool { return id.State.Final() && id.State != job.Rejected }

func endOf(j *pool.Job) End {
	e := End{ExitCode: j.ExitCode, EndedAt: j.EndedAt, Name: j.Spec.Name, Team: j.Spec.Team, User: j.Spec.User, Nodes: j.Spec.Nodes}
	for _, a := range j.Attempts {
		if e.Attempts = a.Number; e.StartedAt.IsZero() {
			e.StartedAt = a.StartedAt
		}
	}
	if p := j.Progress; j.Spec.Sweep != nil && p != nil {
		e.StartedAt = p.StartedAt
		e.Members, e.Succeeded, e.Failed, e.TimedOut, e.Cancelled = j.Spec.Sweep.Members(), p.Succeeded, p.Failed, p.TimedOut, p.Cancelled
	}
	return e
}

// encodeTomb writes what is to be merged into the row of the job's id.
func encodeTomb(j *pool.Job) []byte {
	e := newEntity(idPartition(j.ID), idKey(j.ID))
	e.text("State", string(j.State))
	e.sentence("Reason", j.Reason)
	e.endProperties(endOf(j))
	return e.end()
}

func (e *entity) endProperties(end End) {
	e.int("ExitCode", end.ExitCode)
	e.time("StartedAt", end.StartedAt)
	e.time("EndedAt", end.EndedAt)
	e.text("Name", end.Name)
	e.text("Team", end.Team)
	e.text("User", end.User)
	e.int("Attempts", end.Attempts)
	e.int("Nodes", end.Nodes)
	e.int("Members", end.Members)
	e.int("Succeeded", end.Succeeded)
	e.int("Failed", end.Failed)
	e.int("TimedOut", end.TimedOut)
	e.int("Cancelled", end.Cancelled)
}

// endRow is the part of an id's row that encodeTomb writes.
type endRow struct {
	StartedAt, EndedAt                              time.Time
	Name, Team, User                                string
	ExitCode, Attempts, Nodes                       number
	Members, Succeeded, Failed, TimedOut, Cancelled number
	Ends, Ends1, Ends2, Ends3, Ends4, Ends5         string
	Ends6, Ends7                                    string
}

func (r *endRow) end() End {
	return End{ExitCode: int(r.ExitCode), StartedAt: when(r.StartedAt), EndedAt: when(r.EndedAt), Name: r.Name, Team: r.Team, User: r.User,
		Attempts: int(r.Attempts), Nodes: int(r.Nodes), Members: int(r.Members), Succeeded: int(r.Succeeded), Failed: int(r.Failed),
		TimedOut: int(r.TimedOut), Cancelled: int(r.Cancelled),
		ends: r.Ends + r.Ends1 + r.Ends2 + r.Ends3 + r.Ends4 + r.Ends5 + r.Ends6 + r.Ends7}
}

// bury writes the ends of jobs, whose finished rows are about to go, into the rows
// of their ids, and lists them for the time when more of them is to go. It may be
// repeated. An id that is not remembered any more stays forgotten.
func (s *Store) bury(ctx context.Context, name string, jobs []*pool.Job) error {
	others, err := s.withOtherID(ctx, jobs)
	if err != nil {
		return err
	}
	partitions := map[string][]*pool.Job{}
	members := map[string][]*pool.Job{} // by the order of their sweep
	for _, j := range jobs {
		if others[j] {
			continue
		}
		if sweep, _, isMember := job.SweepOrder(j.Order); isMember {
			members[sweep] = append(members[sweep], j)
			continue
		}
		partitions[idPartition(j.ID)] = append(partitions[idPartition(j.ID)], j)
	}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, part := range partitions {
		for chunk := range slices.Chunk(part, MaxRows) {
			group.Go(func() error { return s.writeTombs(grouped, chunk) })
		}
	}
	for sweep, ended := range members {
		group.Go(func() error { return s.buryMembers(grouped, sweep, ended) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.list(ctx, name, jobs)
}

// withOtherID finds the jobs whose id stands for another job, which must not be said to
// have ended as they did. An earlier version took ids that differ by letter case alone
// for different ones. So each id with capitals is read, which also brings a row of that
// version to the key where its tombstone belongs.
func (s *Store) withOtherID(ctx context.Context, jobs []*pool.Job) (map[*pool.Job]bool, error) {
	var mu sync.Mutex
	others := map[*pool.Job]bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for _, j := range jobs {
		if _, _, isMember := job.SweepOrder(j.Order); isMember || fold(j.ID) == j.ID {
			continue // the rows of members are those of their sweeps, see buryMembers
		}
		group.Go(func() error {
			row, _, _, err := s.readID(ctx, j.ID)
			if fault.CodeOf(err) == fault.NotFound {
				return nil
			}
			if err == nil && row.Order != j.Order {
				mu.Lock()
				defer mu.Unlock()
				others[j] = true
			}
			return err
		})
	}
	return others, group.Wait()
}

// writeTombs merges ends into the rows of ids of one partition: all at once, and
// when a row is not there any more, one by one.
func (s *Store) writeTombs(ctx context.Context, jobs []*pool.Job) error {
	always := azcore.ETagAny
	actions := make([]aztables.TransactionAction, len(jobs))
	for i, j := range jobs {
		actions[i] = aztables.TransactionAction{ActionType: aztables.TransactionTypeUpdateMerge, Entity: encodeTomb(j), IfMatch: &always}
	}
	const what = "note how jobs have ended"
	err := s.call(ctx, what, func(ctx context.Context) error {
		_, err := s.submit(ctx, s.ids, actions)
		return err
	})
	if fault.CodeOf(err) != fault.NotFound {
		return err
	}
	for _, a := range actions {
		err := s.call(ctx, what, func(ctx context.Context) error {
			_, err := s.ids.UpdateEntity(ctx, a.Entity, &aztables.UpdateEntityOptions{IfMatch: &always, UpdateMode: aztables.UpdateModeMerge})
			return err
		})
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
	}
	return nil
}

// buryMembers adds the ends of a sweep's members to the row of its id.
func (s *Store) buryMembers(ctx context.Context, order string, members []*pool.Job) error {
	id, _, ok := job.MemberOf(members[0].ID)
	if !ok {
		return nil // it has no id that anybody could ask for
	}
	for range idRounds {
		row, _, etag, err := s.readID(ctx, id)
		if fault.CodeOf(err) == fault.NotFound || err == nil && row.Order != order {
			return nil
		}
		if err != nil {
			return err
		}
		ends := parseEnds(row.End.ends)
		for _, m := range members {
			_, index, _ := job.SweepOrder(m.Order)
			if more := index + 1 - len(ends); more > 0 {
				ends = append(ends, make([]memberEnd, more)...)
			}
			ends[index] = newMemberEnd(m.State, m.ExitCode, endOf(m).Attempts)
		}
		e := newEntity(idPartition(id), idKey(id))
		e.full = true // a property that is not needed any more is emptied
		text, before := formatEnds(ends), row.End.ends
		for i := 0; i == 0 || text != "" || before != ""; i++ {
			chunk := cut(text, chunkUnits)
			text, before = text[len(chunk):], before[min(chunkUnits, len(before)):]
			e.text(chunkName("Ends", i), chunk)
		}
		err = s.call(ctx, "note how members have ended", func(ctx context.Context) error {
			_, err := s.ids.UpdateEntity(ctx, e.end(), &aztables.UpdateEntityOptions{IfMatch: &etag, UpdateMode: aztables.UpdateModeMerge})
			return err
		})
		if code := fault.CodeOf(err); code != fault.Conflict && code != fault.NotFound {
			return err
		}
	}
	return fault.New(fault.Throttled, "id", "the id %.128q is changed by others again and again; try again", id)
}

// member makes of the row of a sweep's id that of one of its members. State says
// how the member has ended, if its own rows are not there and cannot come any more.
func (id ID) member(of string, index int) ID {
	m := ID{ID: of, Pool: id.Pool, Order: job.MemberOrder(id.Order, index), Hash: id.Hash, Via: id.Via, At: id.At, ClaimedAt: id.ClaimedAt,
		End: End{Team: id.End.Team, User: id.End.User, Name: id.End.Name, Nodes: id.End.Nodes}}
	cancelled := "it was cancelled"
	if id.State == job.Cancelled && id.Reason != "" {
		cancelled = id.Reason
	}
	ends := parseEnds(id.End.ends)
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

// list writes down which jobs have been buried, for the time when their files and
// their ids are to go.
func (s *Store) list(ctx context.Context, name string, jobs []*pool.Job) error {
	files, ids := map[string][]ArchivedJob{}, map[string][]ArchivedJob{}
	latest := map[string]time.Time{}
	for _, j := range jobs {
		at := j.EndedAt.UTC()
		if at.Before(j.SubmittedAt) { // a node's clock is wrong
			at = j.SubmittedAt.UTC()
		}
		day := at.Format(time.DateOnly)
		b := ArchivedJob{Order: j.Order, ID: j.ID}
		if latest[day].Before(at) {
			latest[day] = at
		}
		if len(j.Attempts) > 0 {
			files[day] = append(files[day], b)
		}
		if _, _, isMember := job.SweepOrder(j.Order); !isMember {
			ids[day] = append(ids[day], b)
		}
	}
	for _, day := range slices.Sorted(maps.Keys(latest)) {
		for kind, all := range map[ExpiryKind][]ArchivedJob{ExpireFiles: files[day], ExpireIDs: ids[day]} {
			if err := s.writeExpiry(ctx, kind, name, latest[day], all); err != nil {
				return err
			}
		}
	}
	return nil
}
