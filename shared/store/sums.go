package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// Sums is the table of sums: what the rows of the ledger add up to. A pool has a partition,
// with a row for each day, rows for the jobs that are in no sum by a number (see
// usage.Repeated), and a row that says which facts were added. Each transaction replaces that
// row under its version, so that a fact is added exactly once, however often it is copied. The
// partition stays when the pool goes. docs/usage.md says how sums and rows belong together.
type Sums struct{ table *table.Table }

const (
	addedKey = "added"
	// statePartition holds what is known of the sums of all pools. No pool has such a name.
	statePartition = "~"
	stateKey       = "state"
	dayPrefix      = "day!"

	// A transaction writes the last of the rows with a day's jobs again, until that has so
	// many of them. A row holds no more than mostRepeated.
	fewRepeated  = 2_000
	mostRepeated = 20_000
	// maxRepeated bounds the jobs of one day, so that one transaction replaces all of them.
	// A day with more has no sums: its reports read the rows.
	maxRepeated = 300_000
)

// SumsVersion is what a pool's sums are made of: one version of them.
type SumsVersion struct {
	etag  table.ETag
	added []string // the facts that were added, as far as their rows may still be there; see logName

	// HeldUntil: nothing is added before, because somebody builds sums again.
	HeldUntil time.Time
}

// Same reports whether both are the same version.
func (v SumsVersion) Same(other SumsVersion) bool { return v.etag == other.etag }

// Has reports whether the entries of a row of facts were added.
func (v SumsVersion) Has(log *pool.Log) bool { return slices.Contains(v.added, logName(log)) }

// logName names a row of facts: a pool that is deleted and made again begins to count its
// transactions from one.
func logName(log *pool.Log) string {
	h := sha256.New()
	for i := range log.Entries {
		e := &log.Entries[i]
		fmt.Fprintf(h, "%s %d\n", e.Identity(), e.To.UnixNano())
	}
	return fmt.Sprintf("%d.%x", log.Seq, h.Sum(nil)[:8])
}

// DaySums are the sums of one pool and day. Overflow: there is no room for them, and only the
// rows have them. Month: they are those of all days of a month, and Day is its first one.
type DaySums struct {
	Day      time.Time
	Month    bool
	Overflow bool
	usage.Sums

	segments int // rows with its jobs
	last     usage.Repeated
	uses     dayUses
}

// SumsVersion reads which version of a pool's sums is current. The zero version: there are none.
func (s *Sums) SumsVersion(ctx context.Context, name string) (SumsVersion, error) {
	raw, etag, err := s.table.Get(ctx, "read which facts of pool "+name+" are in its sums", name, addedKey)
	if fault.CodeOf(err) == fault.NotFound {
		return SumsVersion{}, nil
	}
	if err != nil {
		return SumsVersion{}, err
	}
	var row struct {
		Added     string
		HeldUntil time.Time
	}
	if err := table.Decode(raw, &row); err != nil {
		return SumsVersion{}, err
	}
	v := SumsVersion{etag: etag, HeldUntil: row.HeldUntil}
	return v, table.DecodeOptional(raw, "the facts that were added", row.Added, &v.added)
}

// HoldSums has nobody add to the sums of a pool before a time, or until they are written by
// the holder of the version that it returns. Conflict: v is no longer current.
func (s *Sums) HoldSums(ctx context.Context, name string, v SumsVersion, until time.Time) (SumsVersion, error) {
	etag, err := s.submit(ctx, name, []table.Operation{encodeAdded(name, v, v.added, until)})
	return SumsVersion{etag: etag, added: v.added, HeldUntil: until}, err
}

// AddSums adds the entries of rows of facts to the sums of their pool. present are all rows of
// facts that were read after v was, and more those of them that are to be added. Conflict: v is
// no longer current, read it again. Invalid: that is too much for one transaction. An entry must
// be in the ledger before it is added. With noRoom the days concerned have no sums any more.
func (s *Sums) AddSums(ctx context.Context, name string, v SumsVersion, present, more []*pool.Log, noRoom bool) error {
	added := map[time.Time]*usage.Sums{}
	for _, log := range more {
		for i := range log.Entries {
			e := &log.Entries[i]
			on := dayOf(e.To)
			if added[on] == nil {
				added[on] = &usage.Sums{}
			}
			added[on].Add(e)
		}
	}
	var names []string
	for _, log := range present {
		if v.Has(log) || slices.Contains(more, log) {
			names = append(names, logName(log))
		}
	}
	operations := []table.Operation{encodeAdded(name, v, names, time.Time{})}
	for _, on := range slices.SortedFunc(maps.Keys(added), time.Time.Compare) {
		day, err := s.readDayToAdd(ctx, name, on)
		if err != nil {
			return err
		}
		day.Overflow = day.Overflow || noRoom
		day.merge(added[on])
		uses, err := day.addUses(name)
		if err != nil {
			return err
		}
		rows, err := day.encodeRows(name)
		if err != nil {
			return err
		}
		operations = append(operations, rows...)
		if !day.Overflow {
			operations = append(operations, uses...)
		}
	}
	_, err := s.submit(ctx, name, operations)
	return err
}

// ReplaceSums writes the sums of a day in the place of those that are there.
func (s *Sums) ReplaceSums(ctx context.Context, name string, v SumsVersion, on time.Time, sums *usage.Sums) error {
	old, err := s.readDayToAdd(ctx, name, on)
	if err != nil {
		return err
	}
	day := DaySums{Day: on}
	day.merge(sums)
	if err := s.writeUses(ctx, name, &day); err != nil {
		return err
	}
	operations := []table.Operation{encodeAdded(name, v, v.added, time.Time{})}
	more, err := day.encodeRows(name)
	if err != nil {
		return err
	}
	operations = append(operations, more...)
	// Rows that do not fit into the transaction stay: readers pass over them.
	for n := day.segments; n < old.segments && len(operations) < table.MaxRows; n++ {
		operations = append(operations, table.Operation{Kind: table.Delete, Row: table.KeysOnly(name, segmentKey(on, n)), Match: table.Any})
	}
	if sums.Rows == 0 && old.Rows > 0 {
		operations[1] = table.Operation{Kind: table.Delete, Row: table.KeysOnly(name, dayKey(on)), Match: table.Any}
	} else if sums.Rows == 0 {
		operations = operations[:1]
	}
	if _, err = s.submit(ctx, name, operations); err != nil {
		return err
	}
	return s.dropOldUses(ctx, name, &day, old)
}

// submit writes a transaction whose first operation is that on the row of added facts. It is sent
// once: if it is not known whether it was written, the version says so.
func (s *Sums) submit(ctx context.Context, name string, operations []table.Operation) (table.ETag, error) {
	what := "write the sums of pool " + name
	etag, err := s.table.Submit(ctx, operations)
	var refused *table.Refusal
	if errors.As(err, &refused) && refused.LostRace() {
		return "", wrap(fault.Conflict, err, "%s: others have written them", what)
	}
	if err != nil {
		return "", table.Fault(what, err)
	}
	return etag, nil
}

func encodeAdded(name string, v SumsVersion, added []string, heldUntil time.Time) table.Operation {
	text, _ := json.Marshal(added) // texts can always be written
	row := table.NewRow(name, addedKey)
	row.Text("Added", string(text))
	row.Time("HeldUntil", heldUntil)
	if v.etag == "" {
		return table.Operation{Kind: table.Insert, Row: row.JSON()}
	}
	return table.Operation{Kind: table.Replace, Row: row.JSON(), Match: v.etag}
}

// encodeRows returns what is to be written of a day to which sums were added, but for its uses.
func (d *DaySums) encodeRows(name string) ([]table.Operation, error) {
	repeated := d.TakeRepeated()
	if d.Overflow = d.Overflow || repeated.Len() > maxRepeated; d.Overflow { // only the times and the number of rows are kept
		d.segments, d.uses = 0, dayUses{}
		return []table.Operation{d.encode(name, "")}, nil
	}
	var operations []table.Operation
	if n := repeated.Len(); n > 0 {
		parts, first := repeated.Split(mostRepeated), d.segments
		if d.last.Len() > 0 && d.last.Len()+n <= fewRepeated {
			first--
			for i, jobs := range d.last {
				repeated[i] = append(jobs, repeated[i]...)
			}
			parts = []usage.Repeated{repeated}
		}
		d.segments = first + len(parts)
		for i, part := range parts {
			row, ok, err := encodeSegment(name, segmentKey(d.Day, first+i), part)
			if err != nil {
				return nil, err
			}
			d.Overflow = d.Overflow || !ok
			operations = append(operations, table.Operation{Kind: table.Put, Row: row})
		}
	}
	text, err := table.Compact(&d.Sums)
	if err != nil {
		return nil, err
	}
	d.Overflow = d.Overflow || len(text) > table.LongUnits || d.segments > maxRepeated/fewRepeated || len(operations) > table.MaxRows/2
	if d.Overflow {
		operations, text, d.segments, d.uses = nil, "", 0, dayUses{}
	}
	return slices.Insert(operations, 0, d.encode(name, text)), nil
}

func (d *DaySums) encode(name, text string) table.Operation {
	row := table.NewRow(name, dayKey(d.Day))
	row.Int("Rows", d.Rows)
	row.Time("First", d.First)
	row.Time("Last", d.Last)
	row.Int("Segments", d.segments)
	row.Bool("Overflow", d.Overflow)
	row.Bool("NoLabels", d.NoLabels)
	row.Long("Sums", text)
	d.uses.encode(row)
	return table.Operation{Kind: table.Put, Row: row.JSON()}
}

func encodeSegment(name, key string, jobs usage.Repeated) (raw []byte, fits bool, err error) {
	text, err := table.Compact(jobs)
	if err != nil {
		return nil, false, err
	}
	row := table.NewRow(name, key)
	fits = row.Long("Jobs", text)
	return row.JSON(), fits, nil
}

func dayKey(on time.Time) string { return dayPrefix + usage.Partition(on) }

func segmentKey(on time.Time, n int) string { return fmt.Sprintf("%s!%04d", dayKey(on), n) }

// readDayToAdd reads the sums of a day and the last of the rows with its jobs.
func (s *Sums) readDayToAdd(ctx context.Context, name string, on time.Time) (*DaySums, error) {
	what := "read the sums of pool " + name
	raw, _, err := s.table.Get(ctx, what, name, dayKey(on))
	if fault.CodeOf(err) == fault.NotFound {
		return &DaySums{Day: on}, nil
	}
	if err != nil {
		return nil, err
	}
	day, err := decodeDay(raw)
	if err != nil || day.segments == 0 {
		return day, err
	}
	if raw, _, err = s.table.Get(ctx, what, name, segmentKey(on, day.segments-1)); err != nil {
		return nil, err
	}
	day.last, err = decodeSegment(raw)
	return day, err
}

// DaySums reads the sums of a pool for the days from first to last, both included.
func (s *Sums) DaySums(ctx context.Context, name string, first, last time.Time) (days []*DaySums, err error) {
	q := table.Query{Filter: table.Between(name, dayKey(first), dayKey(last)+`"`), Bare: true}
	_, err = s.table.Scan(ctx, "read the sums of pool "+name, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		if strings.Count(key, "!") == 1 {
			day, err := decodeDay(raw)
			days = append(days, day)
			return err
		}
		n, err := strconv.Atoi(key[strings.LastIndexByte(key, '!')+1:])
		if err != nil || len(days) == 0 || n >= days[len(days)-1].segments {
			return err // what is left of a day that had no room
		}
		jobs, err := decodeSegment(raw)
		if err == nil && !days[len(days)-1].PutRepeated(jobs) {
			err = table.Damaged(raw, errors.New("it is of other sums"))
		}
		return err
	})
	return days, err
}

func decodeDay(raw []byte) (*DaySums, error) {
	var row struct {
		RowKey, Sums   string
		Rows, Segments table.Number
		First, Last    time.Time
		NoLabels       bool
		Overflow       bool
		usesRow
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	d := &DaySums{Overflow: row.Overflow, segments: int(row.Segments), uses: row.dayUses()}
	var err error
	if d.Day, err = time.Parse(time.DateOnly, strings.TrimPrefix(row.RowKey, dayPrefix)); err != nil {
		return nil, table.Damaged(raw, err)
	}
	text, err := table.LongText(raw, "Sums", row.Sums)
	if err == nil {
		err = table.DecodeOptional(raw, "its sums", text, &d.Sums)
	}
	d.Rows, d.First, d.Last, d.NoLabels = int(row.Rows), row.First, row.Last, row.NoLabels
	return d, err
}

func decodeSegment(raw []byte) (jobs usage.Repeated, err error) {
	var row struct{ Jobs string }
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	text, err := table.LongText(raw, "Jobs", row.Jobs)
	if err == nil {
		err = table.DecodeOptional(raw, "its jobs", text, &jobs)
	}
	return jobs, err
}

// SummedPools lists the names of the pools that have sums, also of those that are gone.
func (s *Sums) SummedPools(ctx context.Context) ([]string, error) {
	return partitions(ctx, s.table, "list the pools that have sums", statePartition)
}

// partitions lists the partitions of a table before end, by reading one row of each.
func partitions(ctx context.Context, t *table.Table, what, end string) (all []string, err error) {
	for last := ""; ; last = all[len(all)-1] {
		q := table.Query{
			Filter: fmt.Sprintf("PartitionKey gt '%s' and PartitionKey lt '%s'", table.Quote(last), table.Quote(end)),
			Fields: "PartitionKey",
			Limit:  1,
		}
		n := len(all)
		_, err := t.Scan(ctx, what, q, func(raw []byte) error {
			var row struct{ PartitionKey string }
			err := table.Decode(raw, &row)
			all = append(all, row.PartitionKey)
			return err
		})
		if err != nil || len(all) == n {
			return all, err
		}
	}
}

// SumsState says for which days the sums of all pools are whole: for WholeFrom and all later
// ones. Before they may lack rows that a release wrote which knew no sums.
type SumsState struct {
	Began     time.Time // when the first sum was written; zero: none was
	WholeFrom time.Time // a day; zero: all are whole
	CheckedTo time.Time // the days before were compared with the ledger; zero: none was
	UsesFrom  time.Time // the days from this one on have uses of jobs; zero: a release wrote the state that knew none
}

// AllDays is before the first day of any ledger.
var AllDays = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// IsWhole reports whether the sums of a day have all of its rows.
func (s *SumsState) IsWhole(day time.Time) bool { return !s.Began.IsZero() && !day.Before(s.WholeFrom) }

// SumsState reads the state of the sums.
func (s *Sums) SumsState(ctx context.Context) (SumsState, error) {
	raw, _, err := s.table.Get(ctx, "read the state of the sums", statePartition, stateKey)
	if fault.CodeOf(err) == fault.NotFound {
		return SumsState{}, nil
	}
	if err != nil {
		return SumsState{}, err
	}
	var state SumsState
	err = table.Decode(raw, &state)
	return state, err
}

// BeginSums writes the first state. Another one that is there stays.
func (s *Sums) BeginSums(ctx context.Context, state SumsState) error {
	err := s.table.Insert(ctx, "begin the sums", encodeState(state))
	if fault.CodeOf(err) == fault.Conflict {
		return nil
	}
	return err
}

// SetSumsState writes that more days are whole, or were compared. An older state, of another
// process that does the same, does no harm: its days are whole, too, and some are compared again.
func (s *Sums) SetSumsState(ctx context.Context, state SumsState) error {
	return s.table.Put(ctx, "write the state of the sums", encodeState(state))
}

func encodeState(state SumsState) []byte {
	row := table.NewRow(statePartition, stateKey)
	row.Time("Began", state.Began)
	row.Time("WholeFrom", state.WholeFrom)
	row.Time("CheckedTo", state.CheckedTo)
	row.Time("UsesFrom", state.UsesFrom)
	return row.JSON()
}
