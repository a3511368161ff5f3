package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// Audit is the table of the audit trail: a row for each request that changes something. A
// partition has a day; partitions and rows have mirrored keys, so that the newest is read
// first. A row is inserted once; only its end is added to it.
type Audit struct{ table *table.Table }

// AuditRow is one request.
type AuditRow struct {
	At              time.Time
	ID, Login, User string // of the person; "" = a program with the key
	From            string
	Method, Target  string
	Made            string // path of what was made
	Status          int    // of the answer; 0 = not noted yet
}

// AuditKey names a row.
type AuditKey struct{ Partition, Row string }

// lastDay is later than any day, in days since 1970, so that mirrored days have five digits.
const lastDay = 99_999

// auditPartition is the partition of a time's day.
func auditPartition(at time.Time) string {
	const day = 24 * 60 * 60
	return fmt.Sprintf("%05d", lastDay-min(max(at.Unix()/day, 0), lastDay))
}

// auditRow is the part of a row's key that is the time.
func auditRow(at time.Time) string {
	return fmt.Sprintf("%019d", math.MaxInt64-at.Truncate(table.Tick).UnixNano())
}

// AddAudit writes a request before it is carried out.
func (a *Audit) AddAudit(ctx context.Context, r AuditRow) (AuditKey, error) {
	key := AuditKey{auditPartition(r.At), auditRow(r.At) + "!" + rand.Text()[:10]}
	e := table.NewRow(key.Partition, key.Row)
	e.Time("At", r.At)
	e.Text("ID", r.ID)
	e.Sentence("Login", r.Login)
	e.Text("User", r.User)
	e.Sentence("From", r.From)
	e.Sentence("Method", r.Method)
	e.Sentence("Target", r.Target)
	err := a.table.Insert(ctx, "write the audit trail", e.JSON())
	if fault.CodeOf(err) == fault.Conflict {
		err = nil // the key is this call's own: the first try was written, and its answer lost
	}
	return key, err
}

// EndAudit adds how a request ended.
func (a *Audit) EndAudit(ctx context.Context, key AuditKey, status int, made string) error {
	e := table.NewRow(key.Partition, key.Row)
	e.Int("Status", status)
	e.Sentence("Made", made)
	return a.table.Merge(ctx, "write the end of a request to the audit trail", e.JSON(), table.Any)
}

func decodeAudit(raw []byte) (r AuditRow, key AuditKey, err error) {
	var row struct {
		PartitionKey, RowKey string
		AuditRow
	}
	err = table.Decode(raw, &row)
	return row.AuditRow, AuditKey{row.PartitionKey, row.RowKey}, err
}

// String is the key as a list continues behind it.
func (k AuditKey) String() string { return k.Partition + "." + k.Row }

// ParseAuditKey reads what String writes; false = it is none.
func ParseAuditKey(text string) (AuditKey, bool) {
	partition, row, ok := strings.Cut(text, ".")
	ok = ok && len(partition) == 5 && len(row) > 19 && len(row) < 64 && strings.Trim(partition, "0123456789") == ""
	return AuditKey{partition, row}, ok
}

// AuditTrail reads requests, the newest first, from since on and before until, and calls
// each with them until it returns false. after is where to go on; the zero key = at the
// beginning.
func (a *Audit) AuditTrail(ctx context.Context, since, until time.Time, after AuditKey, each func(AuditRow, AuditKey) bool) error {
	read := func(filter string) error {
		_, err := a.table.Scan(ctx, "read the audit trail", table.Query{Filter: filter}, func(raw []byte) error {
			r, key, err := decodeAudit(raw)
			if err == nil && !r.At.Before(since) && r.At.Before(until) && !each(r, key) {
				err = errEnough
			}
			return err
		})
		return err
	}
	first, last := auditPartition(until), auditPartition(since)
	var err error
	if after.Row != "" && after.Partition >= first {
		err = read(fmt.Sprintf("PartitionKey eq '%s' and RowKey gt '%s'", table.Quote(after.Partition), table.Quote(after.Row)))
		first = after.Partition + "~" // behind that day
	}
	if err == nil {
		err = read(fmt.Sprintf("PartitionKey ge '%s' and PartitionKey le '%s'", table.Quote(first), last))
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends the reading of a trail.
var errEnough = errors.New("enough of the trail is read")

// DropAudit deletes requests of before a time, limit of them at most, and returns how many.
func (a *Audit) DropAudit(ctx context.Context, before time.Time, limit int) (int, error) {
	const what = "delete the old of the audit trail"
	var due []table.Operation
	partition := ""
	// The day of that time itself goes when it is over.
	q := table.Query{Filter: fmt.Sprintf("PartitionKey gt '%s'", auditPartition(before)), Fields: "PartitionKey,RowKey", Limit: limit}
	_, err := a.table.Scan(ctx, what, q, func(raw []byte) error {
		_, key, err := decodeAudit(raw)
		if err != nil {
			return err
		}
		if partition == "" {
			partition = key.Partition
		}
		if key.Partition == partition { // a transaction has one
			due = append(due, table.Operation{Kind: table.Delete, Row: table.KeysOnly(key.Partition, key.Row), Match: table.Any})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, batch := range table.Batches(due) {
		if err := a.table.Transact(ctx, what, batch); err != nil && fault.CodeOf(err) != fault.NotFound {
			return 0, err
		}
	}
	return len(due), nil
}
