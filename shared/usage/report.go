package usage

import (
	"cmp"
	"slices"
	"time"
)

// Report is the answer to a Query.
type Report struct {
	Groups []Group   // lines, as they are sorted
	Lines  int       // how many there are, also of those that the query leaves out
	More   *Position // after which line there are more; nil: there are none
	Totals []Group   // of all lines, one for each currency, and one for what has no price; without By and Key
	Open   Open
	From   time.Time // of the query, or its default
	To     time.Time
	AsOf   time.Time // of the query, or when it was made: what ran then counts up to here
}

// Open counts the intervals in a report that still run.
type Open struct {
	Attempts int `json:"attempts"`
	Nodes    int `json:"nodes"`
}

// Builder makes a report row by row. A row that is added twice counts twice.
type Builder struct {
	query Query
	lines *summary
	total *summary
	open  Open

	window window // lines of jobs that have one row; the others are in lines
	tables map[*Sums][]useTable
}

// NewBuilder begins a report.
func NewBuilder(q Query) (*Builder, error) {
	if err := CheckGrouping(q.By); err != nil {
		return nil, err
	}
	b := &Builder{query: q, lines: newSummary(q.By), total: newSummary(byTotal), tables: map[*Sums][]useTable{}}
	if b.lines.whole.by == byTotal {
		b.total = b.lines.whole
	}
	b.window = window{order: cmp.Or(q.Order, OrderKey), size: q.Lines, after: q.After}
	b.lines.onlyJobs, b.total.onlyJobs = q.Filter.OfJobs(), q.Filter.OfJobs()
	return b, nil
}

// Add counts a row of what has ended.
func (b *Builder) Add(row *Row) {
	if row.To.Before(b.query.From) || !row.To.Before(b.query.To) {
		return
	}
	b.add(row, false)
}

// AddSums counts sums of a pool's rows that all ended on one day, or in one month (see Grouping.NeedsDays), and in the time of the query.
// The query must not need the rows; see NeedsRows. In a report by job, AddUses adds its jobs.
func (b *Builder) AddSums(pool string, day time.Time, s *Sums) {
	f := &b.query.Filter
	if f.Pool != "" && f.Pool != pool {
		return
	}
	for _, g := range s.partsFor(&b.query) {
		if g.Rows == 0 || g.Node && f.OfJobs() || f.Team != "" && g.Team != f.Team || f.User != "" && g.User != f.User {
			continue
		}
		if b.query.By == ByJob && !g.Node { // lines of jobs are made from their uses
			b.lines.noteShare(place{}, &g.sumKey)
			b.total.addSum(pool, day, g)
			continue
		}
		b.lines.addSum(pool, day, g)
		if b.total != b.lines.whole {
			b.total.addSum(pool, day, g)
		}
	}
}

// AddOpen counts an interval that still runs up to now, which is its To.
func (b *Builder) AddOpen(e Entry) {
	if e.To.Before(b.query.From) || e.To.After(b.query.To) {
		return
	}
	row := NewRow(e)
	b.add(&row, true)
}

func (b *Builder) add(row *Row, open bool) {
	if !b.query.Filter.takes(&row.Entry) {
		return
	}
	b.lines.add(row, open)
	if b.total != b.lines.whole {
		b.total.add(row, open)
	}
	switch {
	case !open:
	case row.Kind == KindNode:
		b.open.Nodes++
	default:
		b.open.Attempts++
	}
}

// Report is the report so far.
func (b *Builder) Report(now time.Time) Report {
	w := b.window
	w.lines = slices.Clone(w.lines)
	for p, l := range b.lines.lines {
		if !l.isEmpty() {
			w.offerGroup(b.lines.group(p, l))
		}
	}
	r := Report{Totals: b.total.groups(), Open: b.open, From: b.query.From, To: b.query.To, AsOf: now}
	w.cut()
	r.Groups = make([]Group, len(w.lines))
	for i := range w.lines {
		r.Groups[i] = b.groupOf(&w.lines[i])
	}
	r.Lines = w.all
	if w.more {
		r.More = &w.lines[len(w.lines)-1].Position
	}
	return r
}
