package usage

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Position is the place of a line among the sorted lines of a report: what they are sorted by.
type Position struct {
	Known    bool    `json:"k,omitempty"` // the amount by which lines are sorted is known
	Amount   float64 `json:"a,omitempty"` // for the order alone
	Currency string  `json:"c,omitempty"`
	Key      string  `json:"i,omitempty"`
	Unpriced bool    `json:"u,omitempty"`
	Length   Ticks   `json:"l,omitempty"`
}

// window collects lines one by one, in any order, and keeps those that come first. So the
// first lines of millions take little memory.
type window struct {
	order Order
	size  int       // lines to keep; 0 = all
	after *Position // lines up to this one are left out

	lines []candidate
	bound *Position // lines after it are left out, since there are enough before
	all   int       // lines that were seen
	more  bool      // some were left out that come after those that are kept
}

// candidate is a line: the use of a job with one row, or a group.
type candidate struct {
	Position
	use   *useTable
	held  int64
	group *Group
}

// takes counts a line and reports whether it may be one of those to keep.
func (w *window) takes(p *Position) bool {
	w.all++
	if w.after != nil && w.compare(p, w.after) <= 0 {
		return false
	}
	if w.bound != nil && w.compare(p, w.bound) > 0 {
		w.more = true
		return false
	}
	return true
}

// keep keeps a line that the window takes.
func (w *window) keep(c candidate) {
	w.lines = append(w.lines, c)
	if w.size > 0 && len(w.lines) >= 2*w.size {
		w.cut()
	}
}

func (w *window) offerGroup(g Group) {
	p := positionOf(&g, w.order)
	if w.takes(&p) {
		w.keep(candidate{Position: p, group: &g})
	}
}

// cut sorts the lines, and leaves out those that are too many.
func (w *window) cut() {
	slices.SortFunc(w.lines, func(a, b candidate) int { return w.compare(&a.Position, &b.Position) })
	if w.size > 0 && len(w.lines) > w.size {
		clear(w.lines[w.size:])
		w.lines = w.lines[:w.size]
		w.more = true
	}
	if w.size > 0 && len(w.lines) == w.size {
		bound := w.lines[w.size-1].Position
		w.bound = &bound
	}
}

// compare sorts lines. Amounts of another currency, and those that are not known, stay apart:
// neither can be compared. Equal ones are sorted by key, and below a key by currency, with the
// unknown prices last.
func (w *window) compare(a, b *Position) int {
	if w.order != OrderKey {
		switch {
		case a.Known != b.Known:
			return cmp.Compare(rank(b.Known), rank(a.Known))
		case w.order.ofMoney() && a.Currency != b.Currency:
			return strings.Compare(a.Currency, b.Currency)
		case a.Amount != b.Amount:
			return cmp.Compare(b.Amount, a.Amount)
		}
	}
	switch {
	case a.Key != b.Key:
		return strings.Compare(a.Key, b.Key)
	case a.Unpriced != b.Unpriced:
		return cmp.Compare(rank(a.Unpriced), rank(b.Unpriced))
	case a.Currency != b.Currency:
		return strings.Compare(a.Currency, b.Currency)
	}
	return cmp.Compare(a.Length, b.Length)
}

func rank(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (o Order) ofMoney() bool { return o == OrderCost || o == OrderWaste }

// positionOf is the place of a line.
func positionOf(g *Group, order Order) Position {
	p := Position{Currency: g.Currency, Key: g.Key, Unpriced: g.Cost == UnknownPrice, Length: g.Seconds}
	text := g.Cost
	switch order {
	case OrderKey:
		return p
	case OrderJobs:
		p.Known, p.Amount = true, float64(g.Jobs)
		return p
	case OrderSeconds:
		p.Known, p.Amount = true, float64(g.Seconds)
		return p
	case OrderNodeSeconds:
		p.Known, p.Amount = true, float64(g.NodeSeconds)
		return p
	case OrderWaste:
		text = g.Waste
	case OrderCost:
	}
	amount, err := strconv.ParseFloat(text, 64)
	p.Known, p.Amount = err == nil, amount
	return p
}

// useTable is what the uses of one sum have in common in a report.
type useTable struct {
	sum    *sum
	takes  bool // the report takes them, but for labels
	label  bool // has the label that the report takes alone
	priced bool
	rate   float64 // units of a report for each tick, times the part that was held
}

// tableOf prepares the uses of sums.
func (b *Builder) tableOf(s *Sums) []useTable {
	if table := b.tables[s]; table != nil {
		return table
	}
	f := &b.query.Filter
	table := make([]useTable, len(s.list))
	for i, g := range s.list {
		t := useTable{sum: g, takes: g.Label == "" && (f.Team == "" || g.Team == f.Team) && (f.User == "" || g.User == f.User)}
		if value, ok := f.Labels[g.Label]; ok {
			t.label = value == g.Value
		}
		if price, ok := ParsePrice(g.Price); ok && g.Of > 0 {
			t.priced = true
			t.rate, _ = price.Float64()
			t.rate *= reportUnits / float64(g.Of) / float64(ticksPerHour)
		}
		table[i] = t
	}
	b.tables[s] = table
	return table
}

// AddUses adds jobs to a report by job, whose sums are added, too.
func (b *Builder) AddUses(pool string, s *Sums, uses JobUses) {
	f := &b.query.Filter
	if f.Pool != "" && f.Pool != pool {
		return
	}
	table := b.tableOf(s)
	hasLabel := func(place int) bool { return table[place].label }
	for i := range uses {
		u := &uses[i]
		t := &table[u.sum]
		if !t.takes || len(f.Labels) > 0 && !slices.ContainsFunc(u.labels, hasLabel) {
			continue
		}
		if !u.only {
			l := b.lines.line(u.job, t.priced, t.sum.Currency)
			l.addUse(t.sum, u.length, u.held)
			l.repeat(markJob(u.job))
			continue
		}
		p := t.position(u, b.window.order)
		if b.window.takes(&p) {
			p.Key = strings.Clone(p.Key) // the text of all uses may go
			b.window.keep(candidate{Position: p, use: t, held: u.held})
		}
	}
}

// position is the place of a line with one use.
func (t *useTable) position(u *jobUse, order Order) Position {
	p := Position{Key: u.job, Unpriced: !t.priced, Length: u.length}
	if t.priced {
		p.Currency = t.sum.Currency
	}
	switch order {
	case OrderKey, OrderWaste: // a line of a job has no waste
	case OrderJobs:
		p.Known, p.Amount = true, 1
	case OrderSeconds:
		p.Known, p.Amount = true, float64(u.length)
	case OrderNodeSeconds:
		p.Known, p.Amount = true, float64(t.sum.shareOf(u.length, u.held))
	case OrderCost:
		if p.Known = t.priced; p.Known {
			p.Amount = t.cost(u) / reportUnits
		}
	}
	return p
}

// reportUnits is how many of the smallest units of a report are one of its currency.
const reportUnits = 1e6

// cost is the cost of a use as reports have it, in whole units. Numbers with a point are
// enough, unless they are about as near to the unit above as to that below.
func (t *useTable) cost(u *jobUse) float64 {
	const near = 1e-13 // some hundred times the error of three multiplications
	units := t.rate * float64(u.held) * float64(u.length)
	rounded := math.Round(units)
	if math.Abs(math.Abs(units-rounded)-0.5) > near*(1+units) {
		return rounded
	}
	l := line{used: bill{}}
	l.addUse(t.sum, u.length, u.held)
	exact, _ := new(big.Rat).SetString(l.used.sum().FloatString(reportDecimals))
	amount, _ := exact.Float64()
	return math.Round(amount * reportUnits)
}

// groupOf is the line of a candidate.
func (b *Builder) groupOf(c *candidate) Group {
	if c.group != nil {
		return *c.group
	}
	l := line{singles: 1, used: bill{}}
	l.addUse(c.use.sum, c.Length, c.held)
	return b.lines.group(part{key: c.Key, unpriced: c.Unpriced, currency: c.Currency}, &l)
}

// addUse adds a row of an attempt that is in a sum.
func (l *line) addUse(g *sum, length Ticks, held int64) {
	l.add(&g.sumKey, length, g.shareOf(length, held))
	l.billFor(&g.sumKey).add(tariff{g.Price, g.Of}, held, length)
}

// shareOf is the node time of a row of a sum.
func (g *sum) shareOf(length Ticks, held int64) Ticks {
	if g.Of == 0 {
		return 0
	}
	return ticksOf(portion(time.Duration(length)*Tick, held, g.Of))
}
