package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// ID is what an id of a job stands for. A row of it is inserted before the job
// itself is.
type ID struct {
	ID    string
	Pool  string
	Order string    // of the job, a ULID
	Hash  string    // of the document: another one under the same id is a conflict
	Via   string    // how it came, ByQueue or ByHTTP
	State job.State // "" = a job whose rows tell; job.Rejected = a document that was refused; else how the job has ended, see tomb.go

	// Of a rejected document, and the reason of a job that has ended.
	Reason string
	Field  string

	At        time.Time
	ClaimedAt time.Time // when it was last registered again by the same document
	End       End
}

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
func idKey(id string) string { return keyOf(fold(id)) }

// keyOf makes a key of an id. What may not stand in a key is written as !
// and two hexadecimal digits, as a rejected document may have any id at all.
func keyOf(id string) string {
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

// normal is an id as its row holds it: text that comes back as it was written.
func normal(id string) string { return cut(strings.ToValidUTF8(id, "\uFFFD"), maxID) }

// idPartition spreads ids over sixteen partitions: a batch of 1,000 ids is
// sixteen transactions, and no partition gets hot.
func idPartition(id string) string { return partitionOf(fold(id)) }

func partitionOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:1])[:1]
}

func encodeID(id *ID, nonce string) []byte {
	e := newEntity(idPartition(id.ID), idKey(id.ID))
	e.idProperties(id)
	e.text("Nonce", nonce)
	return e.end()
}

func (e *entity) idProperties(id *ID) {
	e.text("ID", id.ID)
	e.text("Pool", id.Pool)
	e.text("Order", id.Order)
	e.text("Hash", id.Hash)
	e.text("Via", id.Via)
	e.text("State", string(id.State))
	e.sentence("Reason", id.Reason)
	e.sentence("Field", id.Field)
	e.time("At", id.At)
	e.time("ClaimedAt", id.ClaimedAt)
	e.endProperties(id.End)
}

func decodeID(raw []byte) (id ID, nonce string, err error) {
	var row struct {
		ID, Pool, Order, Hash, Via, State, Reason, Field, Nonce string
		At, ClaimedAt                                           time.Time
		endRow
	}
	err = decode(raw, &row)
	return ID{
		ID: row.ID, Pool: row.Pool, Order: row.Order, Hash: row.Hash, Via: row.Via,
		State: job.State(row.State), Reason: row.Reason, Field: row.Field, At: row.At, ClaimedAt: when(row.ClaimedAt),
		End: row.end(),
	}, row.Nonce, err
}

// ID reads what an id stands for. NotFound when it has never been used.
func (s *Store) ID(ctx context.Context, id string) (ID, error) {
	found, _, _, err := s.readID(ctx, normal(id))
	return found, err
}

// Find reads what an id stands for, also that of a sweep's member, which is not
// registered by itself. NotFound when it has never been used, or is forgotten.
// Whether a member has come into being, its rows tell, and when they are not there
// its State.
func (s *Store) Find(ctx context.Context, id string) (ID, error) {
	found, err := s.ID(ctx, id)
	if fault.CodeOf(err) != fault.NotFound {
		return found, err
	}
	of, index, ok := job.MemberOf(id)
	if !ok {
		return ID{}, err
	}
	sweep, notSweep := s.ID(ctx, of)
	if notSweep != nil || sweep.State == job.Rejected {
		return ID{}, err
	}
	id = sweep.ID + id[len(of):] // as the sweep was spelled first
	if !sweep.HasEnded() {
		j, gone := s.Job(ctx, sweep.Pool, sweep.Order)
		if fault.CodeOf(gone) == fault.NotFound {
			sweep, gone = s.ID(ctx, of) // its tombstone was there before its row went
			if gone == nil && !sweep.HasEnded() {
				return ID{}, err // it is on its way
			}
		} else if gone == nil && j.Spec.Sweep != nil {
			ends := sweep.End.ends
			sweep.End = endOf(j)
			sweep.End.ends, sweep.End.Members = ends, j.Spec.Sweep.Members()
			if j.State.Final() {
				sweep.State, sweep.Reason = j.State, j.Reason
			}
		}
		if gone != nil {
			return ID{}, err
		}
	}
	if index >= sweep.End.Members {
		return ID{}, err
	}
	return sweep.member(id, index), nil
}

func (s *Store) readID(ctx context.Context, id string) (found ID, nonce string, etag azcore.ETag, err error) {
	if id == "" {
		return ID{}, "", "", fault.New(fault.Invalid, "id", "an id must not be empty")
	}
	raw, etag, err := s.get(ctx, "read an id", s.ids, idPartition(id), idKey(id))
	if fault.CodeOf(err) == fault.NotFound {
		return s.adopt(ctx, id)
	}
	if err != nil {
		return ID{}, "", "", err
	}
	found, nonce, err = decodeID(raw)
	return found, nonce, etag, err
}

// Register takes ids for jobs. For each, in the same order, it returns what
// stands in the table now, and whether this call put it there. An id that is
// taken stays as it is; one that says rejected is replaced. When an id is
// twice in one call, the first one counts; letter case does not matter, and the id
// that is returned is spelled as it was first. Any number of calls may race: each
// id is fresh in exactly one of them.
func (s *Store) Register(ctx context.Context, ids []ID) ([]ID, []bool, error) {
	return s.RegisterAs(ctx, rand.Text(), ids)
}

// RegisterAs is Register in the name of a claim, a text that nobody else uses. Who
// registered an id last, with the same document, holds it, and may give it back with
// Release when its job is not taken in after all.
func (s *Store) RegisterAs(ctx context.Context, nonce string, ids []ID) ([]ID, []bool, error) {
	ids = slices.Clone(ids)
	now, fresh := make([]ID, len(ids)), make([]bool, len(ids))
	first := make(map[string]int, len(ids))
	partitions := map[string][]int{}
	for i := range ids {
		id := normal(ids[i].ID)
		if ids[i].ID = id; id == "" {
			return nil, nil, fault.New(fault.Invalid, "id", "an id must not be empty")
		}
		if _, twice := first[fold(id)]; !twice {
			first[fold(id)] = i
			partitions[idPartition(id)] = append(partitions[idPartition(id)], i)
		}
	}
	// The nonce also tells this call's rows, should a reply get lost.
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	if err := s.adoptAll(ctx, ids); err != nil {
		return nil, nil, err
	}
	for _, members := range partitions {
		for len(members) > 0 {
			part := members[:min(len(members), MaxRows)]
			members = members[len(part):]
			group.Go(func() error { return s.register(grouped, nonce, ids, part, now, fresh) })
		}
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i := range ids {
		now[i] = now[first[fold(ids[i].ID)]]
	}
	return now, fresh, nil
}

// claim is an id that is still to be taken, and the rejected row it replaces.
type claim struct {
	index    int
	replaces azcore.ETag
	rejected ID
}

// register takes the ids of one partition: all in one transaction, and when
// some are taken already, those that are left.
func (s *Store) register(ctx context.Context, nonce string, ids []ID, members []int, now []ID, fresh []bool) error {
	claims := make([]claim, len(members))
	for i, m := range members {
		claims[i].index = m
	}
	for range idRounds {
		err := s.take(ctx, nonce, ids, claims)
		if err == nil {
			for _, c := range claims {
				now[c.index], fresh[c.index] = stored(ids[c.index]), true
			}
			return s.forgetRejections(ctx, claims)
		}
		if code := fault.CodeOf(err); code == fault.Invalid {
			return err
		}
		if claims, err = s.open(ctx, nonce, ids, claims, now, fresh); err != nil || len(claims) == 0 {
			return err
		}
	}
	return fault.New(fault.Throttled, "", "ids were taken by others again and again; try again")
}

// take writes the rows of all claims, or none.
func (s *Store) take(ctx context.Context, nonce string, ids []ID, claims []claim) error {
	actions := make([]aztables.TransactionAction, len(claims))
	for i := range claims {
		c := &claims[i]
		row := stored(ids[c.index])
		actions[i] = aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: encodeID(&row, nonce)}
		if c.replaces != "" {
			actions[i].ActionType, actions[i].IfMatch = aztables.TransactionTypeUpdateReplace, &c.replaces
		}
	}
	return s.call(ctx, "register ids", func(ctx context.Context) error {
		_, err := s.submit(ctx, s.ids, actions)
		return err
	})
}

// open reads the rows of all claims, settles those that are taken and returns
// the others.
func (s *Store) open(ctx context.Context, nonce string, ids []ID, claims []claim, now []ID, fresh []bool) ([]claim, error) {
	left := make([]*claim, len(claims))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(idWorkers)
	for i, c := range claims {
		group.Go(func() error {
			found, writer, etag, err := s.readID(ctx, ids[c.index].ID)
			switch {
			case fault.CodeOf(err) == fault.NotFound:
				left[i] = &claim{index: c.index}
			case err != nil:
				return err
			case found.State == job.Rejected:
				left[i] = &claim{index: c.index, replaces: etag, rejected: found}
			case writer != nonce && found.State == "" && found.Hash == ids[c.index].Hash:
				if now[c.index], err = s.claim(ctx, nonce, found, ids[c.index].At, etag); fault.CodeOf(err) == fault.Conflict {
					left[i] = &claim{index: c.index} // it was given back, has ended, or was claimed by somebody else: look again
					return nil
				}
				return err
			default:
				now[c.index], fresh[c.index] = found, writer == nonce
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var rest []claim
	for _, c := range left {
		if c != nil {
			rest = append(rest, *c)
		}
	}
	return rest, nil
}

// stored is an ID as it is read again.
func stored(id ID) ID {
	id.State, id.Reason, id.Field, id.ClaimedAt, id.End = "", "", "", time.Time{}, End{Members: id.End.Members}
	id.At = id.At.UTC().Truncate(tick)
	return id
}
