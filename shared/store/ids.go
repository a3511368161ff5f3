package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// IDs is the table of ids: what the id of each job stands for, from before the job
// is taken in until long after its rows are gone. It also lists the rejected
// documents, and the jobs of which something is to be removed later.
type IDs struct {
	table *table.Table
	pools *Pools // their rows say how a job has ended, until the id does
}

// ID is what an id of a job stands for. Its row is written before the rows of the job.
type ID struct {
	ID    string
	Pool  string
	Order string // of the job, a ULID
	Hash  string // of the document: another one under the same id is a conflict
	Via   string // how it came, ByQueue or ByHTTP
	// State is "" while the job has rows, which have its state; job.Rejected: the
	// document was refused; otherwise how the job has ended, see tombstones.go.
	State job.State

	// Of a rejected document, and the reason of a job that has ended.
	Reason string
	Field  string

	At        time.Time
	ClaimedAt time.Time // when it was last registered again by the same document

	// ConflictAt is when another document last came to the queue under this id, and was
	// rejected; zero = none did.
	ConflictAt time.Time
	End        End
}

// HasEnded reports whether the id stands for a job whose end it remembers itself.
func (id *ID) HasEnded() bool { return id.State.Final() && id.State != job.Rejected }

// How a job came: whether its message comes again when it was not taken in.
const (
	ByQueue = "queue"
	ByHTTP  = "http"
)

const (
	// idWorkers bounds how many requests about ids one call has under way.
	idWorkers = 8
	// idRounds is how often a call reads what others wrote and tries again.
	idRounds = 5
	// maxID bounds what is kept of an id that no job can have.
	maxID = 512
	// maxIDKey is the longest id that is its own key: an id has up to 100
	// characters, a foreign MessageId up to 128, and each may take three.
	maxIDKey = 400
)

// idKey is the row key of an id, which has no capitals.
func idKey(id string) string { return escapeKey(foldCase(id)) }

// escapeKey makes a key of an id. It writes what may not stand in a key as ! and
// two hexadecimal digits, because a rejected document may have any id at all.
func escapeKey(id string) string {
	var b strings.Builder
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "!%02X", c)
		}
	}
	if b.Len() <= maxIDKey {
		return b.String()
	}
	sum := sha256.Sum256([]byte(id))
	return "!!" + hex.EncodeToString(sum[:])
}

// normalize is an id as its row has it: valid UTF-8, at most maxID long.
func normalize(id string) string { return table.Cut(strings.ToValidUTF8(id, "\uFFFD"), maxID) }

// idPartition spreads ids over sixteen partitions: a batch of 1,000 ids is
// sixteen transactions, and no partition gets hot.
func idPartition(id string) string { return hashPartition(foldCase(id)) }

func hashPartition(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:1])[:1]
}

func encodeID(id *ID, nonce string) []byte {
	e := table.NewRow(idPartition(id.ID), idKey(id.ID))
	writeID(e, id)
	e.Text("Nonce", nonce)
	return e.JSON()
}

func writeID(e *table.Row, id *ID) {
	e.Text("ID", id.ID)
	e.Text("Pool", id.Pool)
	e.Text("Order", id.Order)
	e.Text("Hash", id.Hash)
	e.Text("Via", id.Via)
	e.Text("State", string(id.State))
	e.Sentence("Reason", id.Reason)
	e.Sentence("Field", id.Field)
	e.Time("At", id.At)
	e.Time("ClaimedAt", id.ClaimedAt)
	e.Time("ConflictAt", id.ConflictAt)
	writeEnd(e, id.End)
}

func decodeID(raw []byte) (id ID, nonce string, err error) {
	var row struct {
		ID, Pool, Order, Hash, Via, State, Reason, Field, Nonce string
		At, ClaimedAt, ConflictAt                               time.Time
		endRow
	}
	if err := table.Decode(raw, &row); err != nil {
		return ID{}, "", err
	}
	id = ID{
		ID:         row.ID,
		Pool:       row.Pool,
		Order:      row.Order,
		Hash:       row.Hash,
		Via:        row.Via,
		State:      job.State(row.State),
		Reason:     row.Reason,
		Field:      row.Field,
		At:         row.At,
		ClaimedAt:  table.TimeOf(row.ClaimedAt),
		ConflictAt: table.TimeOf(row.ConflictAt),
		End:        row.end(),
	}
	id.End.members, err = table.LongText(raw, "Ends", row.Ends)
	return id, row.Nonce, err
}

// ID reads what an id stands for. NotFound: it has never been used, or is
// forgotten.
func (d *IDs) ID(ctx context.Context, id string) (ID, error) {
	found, _, _, err := d.readID(ctx, normalize(id))
	return found, err
}

// Find reads what an id stands for, also that of a sweep's member, which is not
// registered itself. NotFound: it has never been used, or is forgotten. The rows of
// a member say whether it exists; if they are not there, its State does.
func (d *IDs) Find(ctx context.Context, id string) (ID, error) {
	found, err := d.ID(ctx, id)
	if fault.CodeOf(err) != fault.NotFound {
		return found, err
	}
	of, index, ok := job.MemberOf(id)
	if !ok {
		return ID{}, err
	}
	sweep, notSweep := d.ID(ctx, of)
	if notSweep != nil || sweep.State == job.Rejected {
		return ID{}, err
	}
	id = sweep.ID + id[len(of):] // as the sweep was spelled first
	if !sweep.HasEnded() {
		j, missing := d.pools.Job(ctx, sweep.Pool, sweep.Order)
		if fault.CodeOf(missing) == fault.NotFound {
			sweep, missing = d.ID(ctx, of) // its tombstone was there before its row went
			if missing == nil && !sweep.HasEnded() {
				return ID{}, err // it is on its way
			}
		} else if missing == nil && j.Spec.Sweep != nil {
			members := sweep.End.members
			sweep.End = endOf(j)
			sweep.End.members, sweep.End.Members = members, j.Spec.Sweep.Members()
			if j.State.Final() {
				sweep.State, sweep.Reason = j.State, j.Reason
			}
		}
		if missing != nil {
			return ID{}, err
		}
	}
	if index >= sweep.End.Members {
		return ID{}, err
	}
	return sweep.member(id, index), nil
}

// readID reads the row of an id, the nonce of its writer and its ETag. It also finds
// the rows of earlier versions.
func (d *IDs) readID(ctx context.Context, id string) (found ID, nonce string, etag table.ETag, err error) {
	if id == "" {
		return ID{}, "", "", fault.New(fault.Invalid, "id", "an id must not be empty")
	}
	raw, etag, err := d.table.Get(ctx, "read an id", idPartition(id), idKey(id))
	if fault.CodeOf(err) == fault.NotFound {
		return d.moveOldRow(ctx, id)
	}
	if err != nil {
		return ID{}, "", "", err
	}
	found, nonce, err = decodeID(raw)
	return found, nonce, etag, err
}

// deleteRow deletes a row of the table of ids. A row that is gone or was changed is
// no error.
func (d *IDs) deleteRow(ctx context.Context, what, partition, row string, match table.ETag) error {
	err := d.table.Delete(ctx, what, partition, row, match)
	if code := fault.CodeOf(err); code == fault.NotFound || code == fault.Conflict {
		return nil
	}
	return err
}

// errBusy is the error after idRounds in which somebody else was first.
func errBusy(id string) error {
	return fault.New(fault.Throttled, "id", "the id %.128q is changed by others again and again; try again", id)
}
