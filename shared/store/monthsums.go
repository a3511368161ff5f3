package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// A month that is over has a row with the sum of its days' rows, so that a report of a year reads some rows and not
// hundreds. It names the days that it was made of, each with the time of its last write, which the table service
// sets with every write. It holds as long as these are the days that are there; else the days are read. So nobody
// has to keep it, a copy that is cut off or done twice does no harm, and an earlier release may write days.

const (
	monthPrefix = "month!"
	monthLayout = "2006-01"
	monthsKey   = "months" // in the partition of the state: to which day months were looked for
)

// writeTimes are the times of the last writes of the rows of days, by day.
type writeTimes map[string]string

// MonthSums reads the sums of a pool like DaySums, but those of a whole month at once where they are kept and takes
// allows it.
func (s *Sums) MonthSums(ctx context.Context, name string, first, last time.Time, takes func(*DaySums) bool) ([]*DaySums, error) {
	months, err := s.keptMonths(ctx, name, first, last)
	if err != nil {
		return nil, err
	}
	if len(months) == 0 {
		return s.DaySums(ctx, name, first, last)
	}
	written, err := s.writeTimes(ctx, name, first, last)
	if err != nil {
		return nil, err
	}
	var all []*DaySums
	next := dayOf(first) // the first day that is not read yet
	for _, m := range months {
		if m.Day.Before(next) || !takes(m.DaySums) || !m.isOf(written) {
			continue
		}
		if next.Before(m.Day) {
			days, err := s.DaySums(ctx, name, next, m.Day.AddDate(0, 0, -1))
			if err != nil {
				return nil, err
			}
			all = append(all, days...)
		}
		all, next = append(all, m.DaySums), m.Day.AddDate(0, 1, 0)
	}
	if next.After(last) {
		return all, nil
	}
	days, err := s.DaySums(ctx, name, next, last)
	return append(all, days...), err
}

// keptMonth is the row of a month.
type keptMonth struct {
	*DaySums
	version string     // of its rows with jobs, too
	days    writeTimes // that it was made of
	read    int        // rows with jobs
}

// isOf reports whether a month was made of the days that are there.
func (m *keptMonth) isOf(written writeTimes) bool {
	days := 0
	for day, at := range written {
		if strings.HasPrefix(day, m.Day.Format(monthLayout)) {
			if days++; m.days[day] != at {
				return false
			}
		}
	}
	return days == len(m.days)
}

// Covers reports whether sums are of the time in which a day lies.
func (d *DaySums) Covers(day time.Time) bool {
	if d.Month {
		return d.Day.Format(monthLayout) == day.UTC().Format(monthLayout)
	}
	return d.Day.Equal(dayOf(day))
}

// keptMonths reads the rows of months, in their order. One whose rows do not belong together is left out: it is just
// being written.
func (s *Sums) keptMonths(ctx context.Context, name string, first, last time.Time) (months []*keptMonth, err error) {
	q := table.Query{Filter: table.Between(name, monthKey(first), monthKey(last)+`"`), Bare: true}
	_, err = s.table.Scan(ctx, "read the sums of months of pool "+name, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		if err != nil {
			return err
		}
		if strings.Count(key, "!") == 1 {
			m, err := decodeMonth(raw)
			if err == nil {
				months = append(months, m)
			}
			return err
		}
		n, err := strconv.Atoi(key[strings.LastIndexByte(key, '!')+1:])
		if err != nil || len(months) == 0 {
			return err
		}
		m := months[len(months)-1]
		if n >= m.segments || !strings.HasPrefix(key, monthKey(m.Day)+"!") {
			return nil // what is left of an earlier copy
		}
		jobs, version, err := decodeMonthJobs(raw)
		if err == nil && version == m.version && m.PutRepeated(jobs) {
			m.read++
		}
		return err
	})
	return slices.DeleteFunc(months, func(m *keptMonth) bool { return m.read != m.segments }), err
}

// writeTimes reads when the rows of a pool's days were written last.
func (s *Sums) writeTimes(ctx context.Context, name string, first, last time.Time) (writeTimes, error) {
	begin := time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC) // a month is made of all of its days
	q := table.Query{Filter: table.Between(name, dayKey(begin), dayKey(last.AddDate(0, 1, 0))), Fields: "RowKey,Timestamp", Bare: true}
	written := writeTimes{}
	_, err := s.table.Scan(ctx, "read which sums of pool "+name+" have changed", q, func(raw []byte) error {
		var row struct{ RowKey, Timestamp string }
		if err := table.Decode(raw, &row); err != nil {
			return err
		}
		if day := strings.TrimPrefix(row.RowKey, dayPrefix); !strings.Contains(day, "!") {
			written[day] = row.Timestamp
		}
		return nil
	})
	return written, err
}

// MonthsLookedFor is the day to which the months that are over have their rows; zero: none was looked for.
func (s *Sums) MonthsLookedFor(ctx context.Context) (time.Time, error) {
	raw, _, err := s.table.Get(ctx, "read which months have sums", statePartition, monthsKey)
	if fault.CodeOf(err) == fault.NotFound {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	var row struct{ Through time.Time }
	err = table.Decode(raw, &row)
	return row.Through, err
}

// SetMonthsLookedFor writes the day to which months were looked for. An older one of another process does no harm:
// they are looked for again.
func (s *Sums) SetMonthsLookedFor(ctx context.Context, day time.Time) error {
	row := table.NewRow(statePartition, monthsKey)
	row.Time("Through", day)
	return s.table.Put(ctx, "write which months have sums", row.JSON())
}

// KeepMonths writes the rows of a pool's months that ended before a time, where they are missing or their days have
// changed, and returns how many. It may be called at any time, cut off anywhere, and run twice at once.
func (s *Sums) KeepMonths(ctx context.Context, name string, before time.Time) (kept int, err error) {
	written, err := s.writeTimes(ctx, name, AllDays, before)
	if err != nil {
		return 0, err
	}
	months, err := s.keptMonths(ctx, name, AllDays, before)
	if err != nil {
		return 0, err
	}
	for _, begin := range monthsOf(written, before) {
		i := slices.IndexFunc(months, func(m *keptMonth) bool { return m.Day.Equal(begin) })
		if i >= 0 && months[i].isOf(written) {
			continue
		}
		done, err := s.keepMonth(ctx, name, begin)
		if err != nil {
			return kept, err
		}
		if done {
			kept++
		}
	}
	return kept, nil
}

// monthsOf are the begins of the months that have days and ended before a time.
func monthsOf(written writeTimes, before time.Time) (begins []time.Time) {
	seen := map[string]bool{}
	for day := range written {
		begin, err := time.Parse(monthLayout, day[:min(len(day), len(monthLayout))])
		if err == nil && !seen[begin.Format(monthLayout)] && !begin.AddDate(0, 1, 0).After(before) {
			seen[begin.Format(monthLayout)] = true
			begins = append(begins, begin)
		}
	}
	slices.SortFunc(begins, time.Time.Compare)
	return begins
}

// keepMonth writes the row of a month. False: its sums have no room in a row, or its days have changed meanwhile.
func (s *Sums) keepMonth(ctx context.Context, name string, begin time.Time) (bool, error) {
	end := begin.AddDate(0, 1, -1)
	before, err := s.writeTimes(ctx, name, begin, end)
	if err != nil {
		return false, err
	}
	days, err := s.DaySums(ctx, name, begin, end)
	if err != nil {
		return false, err
	}
	m := &keptMonth{DaySums: &DaySums{Day: begin, Month: true}, days: writeTimes{}}
	after, err := s.writeTimes(ctx, name, begin, end)
	if err != nil {
		return false, err
	}
	for _, day := range days {
		on := usage.Partition(day.Day)
		if m.days[on] = before[on]; before[on] == "" || before[on] != after[on] || day.Overflow {
			return false, nil
		}
		m.NoLabels = m.NoLabels || day.NoLabels
	}
	if !m.isOf(after) {
		return false, nil
	}
	operations, err := m.encode(name, days)
	if err != nil || len(operations) == 0 {
		return false, err
	}
	return true, s.table.Transact(ctx, "write the sums of a month of pool "+name, operations)
}

// encode adds days up and returns the rows to write; none if they are too large. Sums with labels are left out
// where they have no room.
func (m *keptMonth) encode(name string, days []*DaySums) ([]table.Operation, error) {
	sums := &usage.Sums{NoLabels: m.NoLabels}
	for _, day := range days {
		sums.Merge(&day.Sums)
	}
	m.Sums = *sums
	repeated := m.TakeRepeated()
	text, err := table.Compact(&m.Sums)
	if err != nil || repeated.Len() > maxRepeated {
		return nil, err
	}
	if len(text) > table.LongUnits {
		if m.NoLabels {
			return nil, nil
		}
		m.NoLabels = true
		return m.encode(name, days)
	}
	sources, err := table.Compact(m.days)
	if err != nil {
		return nil, err
	}
	parts := repeated.Split(mostRepeated)
	m.version = fmt.Sprintf("%x", sha256.Sum256([]byte(sources+text)))[:16]
	row := table.NewRow(name, monthKey(m.Day))
	row.Int("Rows", m.Rows)
	row.Time("First", m.First)
	row.Time("Last", m.Last)
	row.Int("Segments", len(parts))
	row.Bool("NoLabels", m.NoLabels)
	row.Text("Version", m.version)
	row.Long("Days", sources)
	row.Long("Sums", text)
	operations := []table.Operation{{Kind: table.Put, Row: row.JSON()}}
	for n, part := range parts {
		text, err := table.Compact(part)
		if err != nil {
			return nil, err
		}
		row := table.NewRow(name, fmt.Sprintf("%s!%04d", monthKey(m.Day), n))
		row.Text("Version", m.version)
		if !row.Long("Jobs", text) {
			return nil, nil
		}
		operations = append(operations, table.Operation{Kind: table.Put, Row: row.JSON()})
	}
	return operations, nil
}

func monthKey(on time.Time) string { return monthPrefix + on.UTC().Format(monthLayout) }

func decodeMonth(raw []byte) (*keptMonth, error) {
	var row struct {
		RowKey, Sums, Days, Version string
		Rows, Segments              table.Number
		First, Last                 time.Time
		NoLabels                    bool
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	m := &keptMonth{DaySums: &DaySums{Month: true, segments: int(row.Segments)}, version: row.Version}
	var err error
	if m.Day, err = time.Parse(monthLayout, strings.TrimPrefix(row.RowKey, monthPrefix)); err != nil {
		return nil, table.Damaged(raw, err)
	}
	for name, into := range map[string]struct {
		first string
		value any
	}{"Sums": {row.Sums, &m.Sums}, "Days": {row.Days, &m.days}} {
		text, err := table.LongText(raw, name, into.first)
		if err == nil {
			err = table.DecodeOptional(raw, "its "+strings.ToLower(name), text, into.value)
		}
		if err != nil {
			return nil, err
		}
	}
	m.Rows, m.First, m.Last, m.NoLabels = int(row.Rows), row.First, row.Last, row.NoLabels
	return m, nil
}

func decodeMonthJobs(raw []byte) (jobs usage.Repeated, version string, err error) {
	var row struct{ Jobs, Version string }
	if err := table.Decode(raw, &row); err != nil {
		return nil, "", err
	}
	text, err := table.LongText(raw, "Jobs", row.Jobs)
	if err == nil {
		err = table.DecodeOptional(raw, "its jobs", text, &jobs)
	}
	return jobs, row.Version, err
}
