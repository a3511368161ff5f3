package usage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// Grouping is what a report is grouped by.
type Grouping string

const (
	ByJob  Grouping = "job"
	ByPool Grouping = "pool"
	ByTeam Grouping = "team"
	ByUser Grouping = "user"
	ByDay  Grouping = "day" // the UTC day on which the entry ended
)

// Groupings lists them, in the order in which to name them.
var Groupings = []Grouping{ByJob, ByPool, ByTeam, ByUser, ByDay}

// Group is one line of a report: the rows of one key that are paid in one
// currency. What has no known price is a line of its own, whose cost is
// UnknownPrice; it is never part of a sum.
//
// Cost is what the attempts cost. Waste is what the nodes cost beyond that, so
// that over all lines of a currency cost and waste add up to what was paid. It is
// negative where the shares of attempts add up to more than a node; nothing is scaled.
// By job, team and user, nodes belong to nobody: their waste stands in the
// line with the empty key, and the other lines have none ("").
type Group struct {
	By          Grouping
	Key         string
	Jobs        int   // different jobs
	Seconds     Ticks // of the attempts
	NodeSeconds Ticks // of whole nodes; by job, team and user: of the attempts' shares, the rest in the line with the empty key
	Cost        string
	Waste       string // "" = not of this line, or no node is in the rows
	Currency    string // "" where the price is unknown
}

// line collects what one group is made of. Costs stay apart, by price and by what
// the node has, as plain numbers of ticks, so that millions of rows add up without
// ever larger fractions.
type line struct {
	jobs    map[string]struct{}
	seconds Ticks // of attempts
	shares  Ticks // node time the attempts used
	used    bill  // for the attempts
	nodes   Ticks // node time there was
	paid    bill  // for the nodes
	unclear bool  // an attempt on these nodes has no known share, so that the waste is unknown
}

// bill is a number of ticks, times the part that was held (cpus, GPUs or bytes), by
// what they cost.
type bill map[tariff]*big.Int

type tariff struct {
	price string
	of    int64 // what the node has of that
}

// part names a line. What has no known price has no currency either.
type part struct {
	key      string
	unpriced bool
	currency string
}

// Sum builds a report row by row, for ranges too long to hold in memory.
type Sum struct {
	by    Grouping
	lines map[part]*line
}

// NewSum starts a report.
func NewSum(by Grouping) (*Sum, error) {
	if !slices.Contains(Groupings, by) {
		return nil, fmt.Errorf("usage cannot be grouped by %q; choose one of %v", by, Groupings)
	}
	return &Sum{by: by, lines: map[part]*line{}}, nil
}

// Add counts one row.
func (s *Sum) Add(row *Row) {
	_, priced := ParsePrice(row.Price)
	held, of, shared := row.share()
	if row.Kind == KindNode {
		l := s.line(s.nodeKey(row), priced, row.Currency)
		l.nodes += ticksOf(row.Seconds)
		l.paid.add(tariff{row.Price, of}, held, ticksOf(row.Seconds))
		return
	}
	if priced && !shared {
		s.line(s.nodeKey(row), true, row.Currency).unclear = true
	}
	l := s.line(s.key(row), priced && shared, row.Currency)
	l.jobs[row.Job] = struct{}{}
	l.seconds += ticksOf(row.Seconds)
	if shared {
		l.shares += ticksOf(row.NodeSeconds)
		l.used.add(tariff{row.Price, of}, held, ticksOf(row.Seconds))
	}
}

func (s *Sum) line(key string, priced bool, currency string) *line {
	p := part{key: key, currency: currency}
	if !priced {
		p = part{key: key, unpriced: true}
	}
	l := s.lines[p]
	if l == nil {
		l = &line{jobs: map[string]struct{}{}, used: bill{}, paid: bill{}}
		s.lines[p] = l
	}
	return l
}

// key is the line an attempt belongs to.
func (s *Sum) key(row *Row) string {
	switch s.by {
	case ByJob:
		return row.Job
	case ByTeam:
		return row.Team
	case ByUser:
		return row.User
	default:
		return s.nodeKey(row)
	}
}

// nodeKey is the line a node's interval belongs to.
func (s *Sum) nodeKey(row *Row) string {
	switch s.by {
	case ByPool:
		return row.Pool
	case ByDay:
		return Partition(row.To)
	default:
		return ""
	}
}

// Groups is the report so far: lines sorted by key, and below a key by currency, with
// the unknown prices last.
func (s *Sum) Groups() []Group {
	parts := slices.SortedFunc(maps.Keys(s.lines), func(a, b part) int {
		unpriced := func(p part) int {
			if p.unpriced {
				return 1
			}
			return 0
		}
		return cmp.Or(strings.Compare(a.key, b.key), unpriced(a)-unpriced(b), strings.Compare(a.currency, b.currency))
	})
	groups := make([]Group, 0, len(parts))
	for _, p := range parts {
		l := s.lines[p]
		if len(l.jobs) == 0 && len(l.paid) == 0 {
			continue
		}
		groups = append(groups, s.group(p, l))
	}
	return groups
}

func (s *Sum) group(p part, l *line) Group {
	g := Group{
		By: s.by, Key: p.key, Jobs: len(l.jobs), Seconds: l.seconds, NodeSeconds: l.nodes,
		Cost: UnknownPrice, Currency: p.currency,
	}
	used := []bill{l.used}
	if !s.nodesHaveLines() {
		g.NodeSeconds = l.shares
		if p.key == "" && len(l.paid) > 0 {
			used = s.usedIn(p)
			g.NodeSeconds += l.nodes - s.sharesIn(p)
		}
	}
	if !p.unpriced {
		g.Cost = amount(l.used.sum(), reportDecimals)
	}
	switch {
	case len(l.paid) == 0:
	case p.unpriced || l.unclear:
		g.Waste = UnknownPrice
	default:
		waste := l.paid.sum()
		for _, b := range used {
			waste.Sub(waste, b.sum())
		}
		g.Waste = amount(waste, reportDecimals)
	}
	return g
}

// nodesHaveLines reports whether a node belongs to a line of its own key.
func (s *Sum) nodesHaveLines() bool { return s.by == ByPool || s.by == ByDay }

// usedIn has the bills of all attempts with the same currency as p.
func (s *Sum) usedIn(p part) []bill {
	var all []bill
	for q, l := range s.lines {
		if q.unpriced == p.unpriced && q.currency == p.currency {
			all = append(all, l.used)
		}
	}
	return all
}

// sharesIn is the node time of all attempts with the same currency as p.
func (s *Sum) sharesIn(p part) Ticks {
	var all Ticks
	for q, l := range s.lines {
		if q.unpriced == p.unpriced && q.currency == p.currency {
			all += l.shares
		}
	}
	return all
}

func (b bill) add(t tariff, held int64, length Ticks) {
	ticks := b[t]
	if ticks == nil {
		ticks = new(big.Int)
		b[t] = ticks
	}
	ticks.Add(ticks, new(big.Int).Mul(big.NewInt(held), big.NewInt(int64(length))))
}

// sum is the exact amount of a bill whose prices are known.
func (b bill) sum() *big.Rat {
	total := new(big.Rat)
	for t, ticks := range b {
		price, ok := ParsePrice(t.price)
		if !ok {
			continue
		}
		whole := new(big.Int).Mul(big.NewInt(t.of), big.NewInt(ticksPerHour))
		total.Add(total, price.Mul(price, new(big.Rat).SetFrac(ticks, whole)))
	}
	return total
}

// MarshalJSON writes a group with its key under the name of the grouping:
// {"team":"vision","jobs":3,"seconds":12.5,...}. Seconds are plain decimals.
func (g Group) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{%s:%s,"jobs":%d,"seconds":%s,"nodeSeconds":%s,"cost":%s,"waste":%s,"currency":%s}`,
		quote(string(g.By)), quote(g.Key), g.Jobs, g.Seconds, g.NodeSeconds,
		quote(g.Cost), quote(g.Waste), quote(g.Currency)), nil
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string can always be written
	return b
}

// UnmarshalJSON reads what MarshalJSON writes.
func (g *Group) UnmarshalJSON(data []byte) error {
	var wire struct {
		Job, Pool, Team, User, Day *string
		Jobs                       int
		Seconds, NodeSeconds       Ticks
		Cost, Waste, Currency      string
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	keys := map[Grouping]*string{ByJob: wire.Job, ByPool: wire.Pool, ByTeam: wire.Team, ByUser: wire.User, ByDay: wire.Day}
	*g = Group{
		Jobs:        wire.Jobs,
		Seconds:     wire.Seconds,
		NodeSeconds: wire.NodeSeconds,
		Cost:        wire.Cost,
		Waste:       wire.Waste,
		Currency:    wire.Currency,
	}
	for by, key := range keys {
		if key != nil {
			g.By, g.Key = by, *key
		}
	}
	return nil
}
