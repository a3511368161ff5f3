package usage

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Report is the answer to a Query.
type Report struct {
	Groups []Group
	Totals []Group // of all lines, one for each currency, and one for what has no price; without By and Key
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
}

// NewBuilder begins a report.
func NewBuilder(q Query) (*Builder, error) {
	if err := CheckGrouping(q.By); err != nil {
		return nil, err
	}
	b := &Builder{query: q, lines: newSummary(q.By), total: newSummary(byTotal)}
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

// AddSums counts sums of a pool's rows that all ended on one day, and in the time of the query.
// The query must not need the rows; see NeedsRows.
func (b *Builder) AddSums(pool string, day time.Time, s *Sums) {
	f := &b.query.Filter
	if f.Pool != "" && f.Pool != pool {
		return
	}
	for _, g := range s.partsFor(&b.query) {
		if g.Rows == 0 || g.Node && f.OfJobs() || f.Team != "" && g.Team != f.Team || f.User != "" && g.User != f.User {
			continue
		}
		b.lines.addSum(pool, day, g)
		b.total.addSum(pool, day, g)
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
	b.total.add(row, open)
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
	r := Report{Groups: b.lines.groups(), Totals: b.total.groups(), Open: b.open, From: b.query.From, To: b.query.To, AsOf: now}
	sortGroups(r.Groups, b.query.Order)
	return r
}

// sortGroups sorts lines, which are sorted by their keys. Amounts of another currency, and those
// that are not known, stay apart: neither can be compared.
func sortGroups(groups []Group, order Order) {
	if order == "" || order == OrderKey {
		return
	}
	type sorted struct {
		Group
		amount float64 // for the order alone
		known  bool
	}
	lines := make([]sorted, len(groups))
	for i, g := range groups {
		lines[i].Group = g
		lines[i].amount, lines[i].known = amountOf(&g, order)
	}
	ofMoney := order == OrderCost || order == OrderWaste
	slices.SortStableFunc(lines, func(a, b sorted) int {
		switch {
		case a.known != b.known:
			return cmp.Compare(rank(b.known), rank(a.known))
		case ofMoney && a.Currency != b.Currency:
			return cmp.Compare(a.Currency, b.Currency)
		}
		return cmp.Compare(b.amount, a.amount)
	})
	for i := range lines {
		groups[i] = lines[i].Group
	}
}

func rank(known bool) int {
	if known {
		return 1
	}
	return 0
}

func amountOf(g *Group, order Order) (amount float64, known bool) {
	text := g.Cost
	switch order {
	case OrderJobs:
		return float64(g.Jobs), true
	case OrderSeconds:
		return float64(g.Seconds), true
	case OrderNodeSeconds:
		return float64(g.NodeSeconds), true
	case OrderWaste:
		text = g.Waste
	case OrderCost, OrderKey:
	}
	amount, err := strconv.ParseFloat(text, 64)
	return amount, err == nil
}
