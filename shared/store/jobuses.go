package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// A report by job is made of the uses of jobs, which are beside the sums of their day: the last
// ones in the row of the day itself, which every transaction replaces anyway, and the others in
// rows with some thousand each, which are never changed. Building the sums again writes a new set
// of these rows, and the transaction that replaces the sums names the set. So who has read the row of
// a day reads its uses at any time after, or finds that they have gone.

const (
	usesPrefix = "uses!"
	// fewUses is how many uses are in the row of the day itself: some 3 KB.
	fewUses = 128
	// usesInRow is how many are in one row. Of 20 to 25 bytes each, they fill most of a long text.
	usesInRow = 7_000
	// maxBuiltUses bounds the uses that are in memory when the sums of a day are built again, to
	// some 50 MB. Reports by job read the rows of a day with more.
	maxBuiltUses = 500_000
	// oldUses is when a set that nobody names was left by somebody who was killed.
	oldUses = time.Hour
)

// dayUses are where the uses of the jobs of a day are.
type dayUses struct {
	rows int    // of the ledger
	set  string // names the rows with uses; "" = the first
	full int    // how many such rows there are
	tail string // the last uses

	more usage.JobUses // that were added and are not in a text yet
	none bool          // there are none
}

// usesRow is what the row of a day says of its uses. A release that knows none of this leaves all of it out.
type usesRow struct {
	UseRows, UseFull table.Number
	UseSet, UseTail  string
}

func (r *usesRow) dayUses() dayUses {
	return dayUses{rows: int(r.UseRows), set: r.UseSet, full: int(r.UseFull), tail: r.UseTail}
}

func (u *dayUses) encode(row *table.Row) {
	row.Int("UseRows", u.rows)
	row.Int("UseFull", u.full)
	row.Text("UseSet", u.set)
	row.Text("UseTail", u.tail)
}

// HasUses reports whether there are the uses of all jobs of the day.
func (d *DaySums) HasUses() bool { return !d.Overflow && d.uses.rows == d.Attempts() }

// LacksUses reports whether they can be had by building the sums again.
func (d *DaySums) LacksUses() bool {
	return !d.Overflow && !d.HasUses() && d.Attempts() <= maxBuiltUses
}

// merge adds sums to those of the day. If there are no uses of earlier rows, a release has added to the
// sums that knows none: then there are none until the sums are built again.
func (d *DaySums) merge(more *usage.Sums) {
	if d.uses.rows != d.Attempts() {
		d.uses = dayUses{none: true}
	}
	d.Merge(more)
	if d.uses.more = d.TakeUses(); d.uses.none {
		d.uses.more = nil
	}
	d.uses.rows += len(d.uses.more)
}

// addUses puts the uses that were added to those of the day, and returns the rows to write beside that
// of the day.
func (d *DaySums) addUses(name string) ([]table.Operation, error) {
	u := &d.uses
	uses := u.more
	if len(uses) == 0 {
		return nil, nil
	}
	if u.tail != "" {
		var last usage.JobUses
		if err := last.UnmarshalText([]byte(u.tail)); err != nil {
			return nil, wrap(fault.Internal, err, "the last uses of jobs of pool %s on %s cannot be read", name, usage.Partition(d.Day))
		}
		uses, u.tail = append(last, uses...), ""
	}
	if len(uses) <= fewUses {
		text, err := uses.MarshalText()
		if err != nil {
			return nil, err
		}
		if len(text) <= table.ChunkUnits {
			u.tail = string(text)
			return nil, nil
		}
	}
	return u.fill(name, d.Day, uses)
}

// fill puts uses into more rows.
func (u *dayUses) fill(name string, on time.Time, uses usage.JobUses) (operations []table.Operation, err error) {
	texts, err := uses.Split(usesInRow, table.LongUnits)
	if err != nil {
		return nil, wrap(fault.Invalid, err, "the uses of jobs cannot be written")
	}
	for _, text := range texts {
		row := table.NewRow(name, usesKey(on, u.set, u.full))
		row.Long("Uses", text)
		operations = append(operations, table.Operation{Kind: table.Put, Row: row.JSON()})
		u.full++
	}
	return operations, nil
}

func usesKey(on time.Time, set string, n int) string {
	return fmt.Sprintf("%s%s!%s!%06d", usesPrefix, usage.Partition(on), set, n)
}

// writeUses writes the uses of a day that is built again, in a set of their own, before a transaction
// names it.
func (s *Sums) writeUses(ctx context.Context, name string, d *DaySums) error {
	if len(d.uses.more) > maxBuiltUses {
		d.uses = dayUses{}
	}
	d.uses.set = ulid.Make().String()
	operations, err := d.addUses(name)
	for _, batch := range table.Batches(operations) {
		if err == nil {
			err = s.table.Transact(ctx, "write the uses of jobs of pool "+name, batch)
		}
	}
	return err
}

// dropOldUses deletes the uses that were replaced, and those that nobody names.
func (s *Sums) dropOldUses(ctx context.Context, name string, d, old *DaySums) error {
	what := "delete uses of jobs of pool " + name
	prefix := usesPrefix + usage.Partition(d.Day) + "!"
	var operations []table.Operation
	q := table.Query{Filter: table.Between(name, prefix, prefix+"~"), Fields: "PartitionKey,RowKey", Bare: true}
	_, err := s.table.Scan(ctx, what, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		set, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "!")
		made, err := ulid.Parse(set)
		isOld := set == old.uses.set || err != nil || time.Since(ulid.Time(made.Time())) > oldUses
		if set != d.uses.set && isOld {
			operations = append(operations, table.Operation{Kind: table.Delete, Row: table.KeysOnly(name, key), Match: table.Any})
		}
		return nil
	})
	for _, batch := range table.Batches(operations) {
		if err == nil {
			err = s.table.Transact(ctx, what, batch)
		}
	}
	return err
}

// JobUses reads the uses of a day that DaySums has read, and hands them to fn part by part. Conflict: they
// are gone, since the sums of the day were built again meanwhile.
func (s *Sums) JobUses(ctx context.Context, name string, d *DaySums, fn func(usage.JobUses) error) error {
	rows, day := 0, usage.Partition(d.Day)
	add := func(text []byte) error {
		var uses usage.JobUses
		err := uses.UnmarshalText(text)
		if err == nil && !uses.FitIn(&d.Sums) {
			err = errors.New("they are of other sums")
		}
		if err != nil {
			return wrap(fault.Internal, err, "the uses of jobs of pool %s on %s cannot be read; run `dsvm usage rebuild`", name, day)
		}
		rows += len(uses)
		return fn(uses)
	}
	if d.uses.tail != "" {
		if err := add([]byte(d.uses.tail)); err != nil {
			return err
		}
	}
	if d.uses.full > 0 {
		q := table.Query{Filter: table.Between(name, usesKey(d.Day, d.uses.set, 0), usesKey(d.Day, d.uses.set, d.uses.full)), Bare: true}
		_, err := s.table.Scan(ctx, "read the uses of jobs of pool "+name, q, func(raw []byte) error {
			text, err := table.PlainText(raw, "Uses")
			if err != nil {
				return err
			}
			return add(text)
		})
		if err != nil {
			return err
		}
	}
	if rows != d.uses.rows {
		return wrap(fault.Conflict, errors.New("some are gone"), "the uses of jobs of pool %s on %s were built again", name, day)
	}
	return nil
}
