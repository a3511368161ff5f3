package usage

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Group is one line of a report: the rows of one key that are paid in one
// currency. What has no known price is a line of its own, whose cost is
// UnknownPrice; it is never part of a sum.
//
// Cost is what the attempts cost. Waste is what the nodes cost beyond that, so
// that over all lines of a currency cost and waste add up to what was paid. It is
// negative where the shares of attempts add up to more than a node; nothing is scaled.
// By job, team, user, sweep and label, nodes belong to nobody: their waste stands in the
// line with the empty key, and the other lines have none ("").
type Group struct {
	By          Grouping
	Key         string
	Jobs        int   // different jobs
	Seconds     Ticks // of the attempts
	NodeSeconds Ticks // of whole nodes; where nodes belong to nobody: of the attempts' shares, the rest in the line with the empty key
	Cost        string
	Waste       string // "" = not of this line, or no node is in the rows
	Currency    string // "" where the price is unknown
	Open        int    // intervals of attempts and nodes in it that still run, and count up to the time of the report

	// Boot, Idle and Draining are what the nodes cost in these times, of intervals that have ended; waste
	// is that and what stayed free beside jobs. "" = no such interval is in the rows, UnknownPrice = the
	// sums of an earlier release do not have it.
	Boot, Idle, Draining string
}

// line collects what one group is made of. Costs stay apart, by price and by what
// the node has, as plain numbers of ticks, so that millions of rows add up without
// ever larger fractions.
type line struct {
	singles int                  // jobs of which there is one row
	repeats map[JobMark]struct{} // other jobs
	seconds Ticks                // of attempts
	shares  Ticks                // node time the attempts used
	used    bill                 // for the attempts
	nodes   Ticks                // node time there was
	paid    bill                 // for the nodes
	unclear bool                 // an attempt on these nodes has no known share, so that the waste is unknown
	open    int                  // intervals that still run

	intervals, phased    int // of nodes, and those of them that are in the next three
	boot, idle, draining bill
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

// summary adds up rows one by one, for ranges too long to hold in memory.
type summary struct {
	by     Grouping
	keys   []Grouping // the parts of by
	lines  map[part]*line
	prices map[string]bool // texts that were read: whether they are prices

	onlyJobs bool     // no nodes are counted: node time is that of the attempts' shares
	whole    *summary // has all attempts, also those that are in no line here, by what nodes have of the key
}

func newSummary(by Grouping) *summary {
	s := &summary{by: by, keys: by.Parts(), lines: map[part]*line{}, prices: map[string]bool{}}
	if s.whole = s; by != by.ofNodes() {
		s.whole = newSummary(by.ofNodes())
	}
	return s
}

// isPrice reports whether a text is a price. A report has few of them and many rows.
func (s *summary) isPrice(text string) bool {
	priced, known := s.prices[text]
	if !known {
		_, priced = ParsePrice(text)
		s.prices[text] = priced
	}
	return priced
}

// add counts one row, also for the whole. open: what it is about still runs.
func (s *summary) add(row *Row, open bool) {
	if s.whole != s {
		s.whole.add(row, open)
	}
	held, of, _ := row.share()
	at := s.placeOf(row)
	key := sumKey{Node: row.Kind == KindNode, Price: row.Price, Currency: row.Currency, Of: of}
	l := s.lineFor(at, &key)
	if open {
		l.open++
	}
	l.add(&key, ticksOf(row.Seconds), ticksOf(row.NodeSeconds))
	l.billFor(&key).add(tariff{row.Price, of}, held, ticksOf(row.Seconds))
	switch {
	case key.Node:
		if !open {
			l.addPhases(row.Price, 1, phasesOf(row))
		}
	case !open && row.isOnlyOfJob():
		l.singles++
	default:
		l.repeat(markJob(row.Job))
	}
}

// addSum counts the rows of a sum, also for the whole.
func (s *summary) addSum(pool string, day time.Time, g *sum) {
	if s.whole != s {
		s.whole.addSum(pool, day, g)
	}
	l := s.lineFor(s.placeOfSum(pool, day, g), &g.sumKey)
	l.add(&g.sumKey, g.Seconds, g.Shares)
	l.billFor(&g.sumKey).addHeld(tariff{g.Price, g.Of}, &g.Held.Int)
	if g.Node {
		l.addPhases(g.Price, g.Rows, g.phases)
	}
	l.singles += g.Single
	for _, job := range g.Repeated {
		l.repeat(job)
	}
}

// place is the lines that an attempt and its node belong to.
type place struct{ own, nodes string }

// lineFor finds the line that rows count in.
func (s *summary) lineFor(at place, key *sumKey) *line {
	priced, shared := s.isPrice(key.Price), key.Of > 0
	if key.Node {
		return s.line(at.nodes, priced, key.Currency)
	}
	s.noteShare(at, key)
	return s.line(at.own, priced && shared, key.Currency)
}

// noteShare notes at the line of their nodes that the share of attempts is not known.
func (s *summary) noteShare(at place, key *sumKey) {
	if key.Of == 0 && s.isPrice(key.Price) {
		s.line(at.nodes, true, key.Currency).unclear = true
	}
}

// add counts lengths of time. Shares that are not known are zero.
func (l *line) add(key *sumKey, length, shares Ticks) {
	if key.Node {
		l.nodes += length
		return
	}
	l.seconds += length
	l.shares += shares
}

// addPhases counts how as many intervals of nodes were spent.
func (l *line) addPhases(price string, intervals int, p phases) {
	l.intervals += intervals
	l.phased += p.Phased
	l.boot.add(tariff{price, 1}, 1, p.Boot)
	l.idle.add(tariff{price, 1}, 1, p.Idle)
	l.draining.add(tariff{price, 1}, 1, p.Draining)
}

// phase is what the nodes of a line cost in one of their phases.
func (l *line) phase(b bill, unpriced bool) string {
	switch {
	case l.intervals == 0:
		return ""
	case unpriced || l.phased != l.intervals:
		return UnknownPrice
	}
	return amount(b.sum(), reportDecimals)
}

// billFor is the bill on which rows are. Attempts without a known share are on none that
// anybody reads.
func (l *line) billFor(key *sumKey) bill {
	switch {
	case key.Node:
		return l.paid
	case key.Of > 0:
		return l.used
	}
	return bill{}
}

// repeat counts a job of which there may be other rows.
func (l *line) repeat(job JobMark) {
	if l.repeats == nil {
		l.repeats = map[JobMark]struct{}{}
	}
	l.repeats[job] = struct{}{}
}

// jobs is how many different jobs the line has.
func (l *line) jobs() int { return l.singles + len(l.repeats) }

func (s *summary) line(key string, priced bool, currency string) *line {
	p := part{key: key, currency: currency}
	if !priced {
		p = part{key: key, unpriced: true}
	}
	l := s.lines[p]
	if l == nil {
		l = &line{used: bill{}, paid: bill{}, boot: bill{}, idle: bill{}, draining: bill{}}
		s.lines[p] = l
	}
	return l
}

// placeOf finds the lines of a row.
func (s *summary) placeOf(row *Row) place {
	return s.place(row.Pool, row.To, row.Size, func(by Grouping) string {
		switch by {
		case ByJob:
			return row.Job
		case ByTeam:
			return row.Team
		case ByUser:
			return row.User
		case BySweep:
			return row.sweep()
		default:
			name, _ := by.LabelName()
			return row.Labels[name]
		}
	})
}

// placeOfSum finds the lines of a sum. What has another label than that of the report, or none, has
// no value of it.
func (s *summary) placeOfSum(pool string, day time.Time, g *sum) place {
	return s.place(pool, day, g.Size, func(by Grouping) string {
		switch {
		case by == ByTeam:
			return g.Team
		case by == ByUser:
			return g.User
		case g.Label != "" && g.Label == by.sumLabel():
			return g.Value
		}
		return ""
	})
}

// place puts the parts of keys together: own has those that only attempts have.
func (s *summary) place(pool string, to time.Time, size string, own func(Grouping) string) (at place) {
	for i, by := range s.keys {
		nodes := by.nodeKey(pool, to, size)
		mine := nodes
		if !by.hasNodes() {
			mine = own(by)
		}
		if i > 0 {
			at.own, at.nodes = at.own+keySeparator, at.nodes+keySeparator
		}
		at.own, at.nodes = at.own+mine, at.nodes+nodes
	}
	return at
}

// groups is the report so far: lines sorted by key, and below a key by currency, with
// the unknown prices last.
func (s *summary) groups() []Group {
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
		if l := s.lines[p]; !l.isEmpty() {
			groups = append(groups, s.group(p, l))
		}
	}
	return groups
}

func (l *line) isEmpty() bool { return l.jobs() == 0 && len(l.paid) == 0 }

func (s *summary) group(p part, l *line) Group {
	g := Group{
		By: s.by, Key: p.key, Jobs: l.jobs(), Seconds: l.seconds, NodeSeconds: l.nodes,
		Cost: UnknownPrice, Currency: p.currency, Open: l.open,
		Boot: l.phase(l.boot, p.unpriced), Idle: l.phase(l.idle, p.unpriced), Draining: l.phase(l.draining, p.unpriced),
	}
	used := l.used
	if s.onlyJobs || !s.by.nodesHaveLines() {
		g.NodeSeconds = l.shares
		if len(l.paid) > 0 {
			all := s.attemptsOn(p)
			used = all.used
			g.NodeSeconds += l.nodes - all.shares
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
		g.Waste = amount(waste.Sub(waste, used.sum()), reportDecimals)
	}
	return g
}

// attemptsOn has all attempts, of whatever line, on the nodes of a line.
func (s *summary) attemptsOn(p part) *line {
	var keys []string
	values := strings.Split(p.key, keySeparator)
	for i, by := range s.keys {
		if by.hasNodes() {
			keys = append(keys, values[i])
		}
	}
	p.key = strings.Join(keys, keySeparator)
	if l := s.whole.lines[p]; l != nil {
		return l
	}
	return &line{}
}

func (b bill) add(t tariff, held int64, length Ticks) {
	b.addHeld(t, new(big.Int).Mul(big.NewInt(held), big.NewInt(int64(length))))
}

// addHeld adds a number of ticks, times the part that was held.
func (b bill) addHeld(t tariff, held *big.Int) {
	ticks := b[t]
	if ticks == nil {
		ticks = new(big.Int)
		b[t] = ticks
	}
	ticks.Add(ticks, held)
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

// Keys are the parts of the key, as many as the grouping has; one for a total.
func (g *Group) Keys() []string {
	return strings.SplitN(g.Key, keySeparator, max(len(g.By.Parts()), 1))
}

// MarshalJSON writes a group with its keys under the name of the grouping:
// {"team":"vision","jobs":3,"seconds":12.5,...}. Seconds are plain decimals. A total has
// no key.
func (g Group) MarshalJSON() ([]byte, error) {
	out := []byte("{")
	keys := g.Keys()
	for i, by := range g.By.Parts() {
		out = fmt.Appendf(out, "%s:%s,", quote(by.Property()), quote(keys[i]))
	}
	out = fmt.Appendf(out, `"jobs":%d,"seconds":%s,"nodeSeconds":%s,"cost":%s,"waste":%s,`,
		g.Jobs, g.Seconds, g.NodeSeconds, quote(g.Cost), quote(g.Waste))
	if g.Boot != "" {
		out = fmt.Appendf(out, `"boot":%s,"idle":%s,"draining":%s,`, quote(g.Boot), quote(g.Idle), quote(g.Draining))
	}
	return fmt.Appendf(out, `"currency":%s,"open":%d}`, quote(g.Currency), g.Open), nil
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string can always be written
	return b
}

// UnmarshalJSON reads what MarshalJSON writes. Of a label it has no name: By is "label".
func (g *Group) UnmarshalJSON(data []byte) error {
	var wire struct {
		Job, Pool, Team, User, Day, Month, Year, Size, Sweep, Label *string
		Jobs, Open                                                  int
		Seconds, NodeSeconds                                        Ticks
		Cost, Waste, Currency, Boot, Idle, Draining                 string
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	keys := map[Grouping]*string{ByJob: wire.Job, ByPool: wire.Pool, ByTeam: wire.Team, ByUser: wire.User, ByDay: wire.Day,
		ByMonth: wire.Month, ByYear: wire.Year, BySize: wire.Size, BySweep: wire.Sweep, "label": wire.Label}
	*g = Group{
		Jobs:        wire.Jobs,
		Seconds:     wire.Seconds,
		NodeSeconds: wire.NodeSeconds,
		Cost:        wire.Cost,
		Waste:       wire.Waste,
		Currency:    wire.Currency,
		Open:        wire.Open,
		Boot:        wire.Boot,
		Idle:        wire.Idle,
		Draining:    wire.Draining,
	}
	by, values := []string{}, []string{}
	for _, name := range propertiesOf(data) {
		if key := keys[Grouping(name)]; key != nil {
			by, values = append(by, name), append(values, *key)
		}
	}
	g.By, g.Key = Grouping(strings.Join(by, ",")), strings.Join(values, keySeparator)
	return nil
}

// propertiesOf lists the names of the properties of an object that can be read, in their order.
func propertiesOf(object []byte) (names []string) {
	d := json.NewDecoder(bytes.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil
	}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return names
		}
		text, _ := name.(string)
		names = append(names, text)
	}
	return names
}
