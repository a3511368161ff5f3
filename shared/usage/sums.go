package usage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Sums are what the ledger's rows of one pool that ended on one UTC day add up to, by what
// reports are grouped and filtered by: a row for each team, user, size and price instead of
// one for each attempt. They are exact: a report from sums is that from the rows.
type Sums struct {
	Rows  int       // rows that were added
	First time.Time // the earliest end among them
	Last  time.Time // the latest end

	// NoLabels: there are no sums with labels, since those of a label would be too many.
	NoLabels bool

	labeled int    // sums with a label
	list    []*sum // in the order in which they came, which stays
	byKey   map[sumKey]int
	uses    JobUses // of the rows of attempts; not in the JSON of the sums
}

// sumKey is what rows have in common that are added up to one sum.
type sumKey struct {
	Node     bool   `json:"n,omitempty"` // intervals of nodes, not attempts
	Team     string `json:"t,omitempty"`
	User     string `json:"u,omitempty"`
	Size     string `json:"z,omitempty"`
	Spot     bool   `json:"s,omitempty"`
	Price    string `json:"p,omitempty"`
	Currency string `json:"c,omitempty"`
	Of       int64  `json:"o,omitempty"` // what the node has of that of which the rows hold a part; 0: their share is not known

	// Label and Value are a label that the jobs have, or sweepLabel and the id of their sweep.
	// Rows are in one sum without a label, and in one more for each of their labels.
	Label string `json:"ln,omitempty"`
	Value string `json:"lv,omitempty"`
}

// sweepLabel stands for the sweep of members: no label has such a name.
const sweepLabel = "\tsweep"

// maxLabelSums bounds the sums with a label of one pool and day. If there are more, as with a
// label that is different for each job, there are none.
const maxLabelSums = 1_000

// sum is a line of Sums.
type sum struct {
	sumKey
	Rows    int        `json:"r"`
	Seconds Ticks      `json:"l"`           // length of the entries
	Shares  Ticks      `json:"h,omitempty"` // of whole nodes
	Held    textNumber `json:"x"`           // part that was held, times ticks
	Single  int        `json:"j,omitempty"` // rows that are the only ones of their job
	phases

	// Repeated names the jobs of the other rows, once for each row. Reports count different
	// jobs, and other rows of these may be in other sums.
	Repeated []JobMark `json:"-"`
}

// phases are how intervals of nodes were spent beside work. An earlier release leaves them out of the
// sums that it writes; Phased is then less than the number of rows.
type phases struct {
	Phased   int   `json:"np,omitempty"` // rows of nodes that are in the others
	Boot     Ticks `json:"nb,omitempty"`
	Idle     Ticks `json:"ni,omitempty"`
	Draining Ticks `json:"nd,omitempty"`
}

// phasesOf are those of one row of a node.
func phasesOf(row *Row) phases {
	return phases{Phased: 1, Boot: ticksOf(row.Boot), Idle: ticksOf(row.Idle), Draining: ticksOf(row.Draining)}
}

// add adds others, or takes them out with sign -1.
func (p *phases) add(o phases, sign int) {
	p.Phased += sign * o.Phased
	p.Boot += Ticks(sign) * o.Boot
	p.Idle += Ticks(sign) * o.Idle
	p.Draining += Ticks(sign) * o.Draining
}

// JobMark stands for a job where jobs are counted: a hash of its id.
type JobMark uint64

func markJob(id string) JobMark {
	h := sha256.Sum256([]byte(id))
	return JobMark(binary.BigEndian.Uint64(h[:8]))
}

// isOnlyOfJob reports whether the ledger has no other row of the entry's job: its first
// attempt, on one node, has succeeded, which ends a job.
func (e *Entry) isOnlyOfJob() bool {
	_, number, _ := strings.Cut(e.Key, "!")
	return number == "1" && e.State == "succeeded"
}

// Add adds an entry that has ended.
func (s *Sums) Add(e *Entry) {
	row := NewUncostedRow(*e)
	held, of, _ := e.share()
	key := sumKey{Node: e.Kind == KindNode, Size: e.Size, Spot: e.Spot, Price: e.Price, Currency: e.Currency, Of: of}
	if !key.Node {
		key.Team, key.User = e.Team, e.User
	}
	s.sum(key).add(&row, held)
	if !key.Node {
		use := jobUse{job: e.Job, sum: s.byKey[key], only: row.isOnlyOfJob(), length: ticksOf(row.Seconds), held: held}
		if !s.NoLabels {
			use.labels = s.addLabels(e, key, &row, held)
		}
		s.uses = append(s.uses, use)
	}
	s.widen(1, row.To, row.To)
	s.boundLabels()
}

// addLabels adds a row to the sums of its labels and its sweep, and returns the places of the labels'.
func (s *Sums) addLabels(e *Entry, key sumKey, row *Row, held int64) (places []int) {
	for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
		if key.Label, key.Value = name, e.Labels[name]; name != "" && name != sweepLabel {
			s.sum(key).add(row, held)
			places = append(places, s.byKey[key])
		}
	}
	if sweep := e.sweep(); sweep != "" {
		key.Label, key.Value = sweepLabel, sweep
		s.sum(key).add(row, held)
	}
	return places
}

// add adds a row that holds a part of its node.
func (g *sum) add(row *Row, held int64) {
	length := ticksOf(row.Seconds)
	g.Rows++
	g.Seconds += length
	g.Shares += ticksOf(row.NodeSeconds)
	g.Held.add(held, length)
	switch {
	case g.Node:
		g.phases.add(phasesOf(row), 1)
	case row.isOnlyOfJob():
		g.Single++
	default:
		g.Repeated = append(g.Repeated, markJob(row.Job))
	}
}

// merge adds another sum.
func (g *sum) merge(o *sum) {
	g.Rows += o.Rows
	g.Seconds += o.Seconds
	g.Shares += o.Shares
	g.Held.Add(&g.Held.Int, &o.Held.Int)
	g.Single += o.Single
	g.phases.add(o.phases, 1)
	g.Repeated = append(g.Repeated, o.Repeated...)
}

// remove takes another sum out that was added.
func (g *sum) remove(o *sum) {
	g.Rows -= o.Rows
	g.Seconds -= o.Seconds
	g.Shares -= o.Shares
	g.Held.Sub(&g.Held.Int, &o.Held.Int)
	g.Single -= o.Single
	g.phases.add(o.phases, -1)
	if len(o.Repeated) == 0 {
		return
	}
	gone := map[JobMark]int{}
	for _, job := range o.Repeated {
		gone[job]++
	}
	g.Repeated = slices.DeleteFunc(slices.Clone(g.Repeated), func(job JobMark) bool {
		gone[job]--
		return gone[job] >= 0
	})
}

// boundLabels drops the sums with labels if there are too many. What they hold is in the other
// sums, too. Their places stay, with nothing in them.
func (s *Sums) boundLabels() {
	s.NoLabels = s.NoLabels || s.labeled > maxLabelSums
	if !s.NoLabels || s.labeled == 0 {
		return
	}
	for _, g := range s.list {
		if g.Label != "" {
			*g = sum{sumKey: sumKey{Label: droppedLabel}}
		}
	}
	s.index()
}

// droppedLabel stands where a sum was: no label has such a name.
const droppedLabel = " "

// partsFor are the sums that a report of a query is made of, each row in one of them. The query
// must not need the rows.
func (s *Sums) partsFor(q *Query) (parts []*sum) {
	var rest map[sumKey]*sum // what does not have the label that the report is by
	label := q.By.sumLabel()
	byLabel := label != ""
	if byLabel {
		rest = map[sumKey]*sum{}
	}
	for _, g := range s.list {
		switch {
		case len(q.Filter.Labels) > 0:
			if value, ok := q.Filter.Labels[g.Label]; !ok || value != g.Value {
				continue
			}
		case g.Label != "" && (!byLabel || g.Label != label):
			continue
		case g.Label == "" && byLabel && !g.Node:
			g = g.clone()
			rest[g.sumKey] = g
		}
		parts = append(parts, g)
	}
	if !byLabel {
		return parts
	}
	for _, g := range s.list {
		if g.Label == label {
			key := g.sumKey
			key.Label, key.Value = "", ""
			if of := rest[key]; of != nil {
				of.remove(g)
			}
		}
	}
	return parts
}

func (g *sum) clone() *sum {
	c := &sum{sumKey: g.sumKey}
	c.merge(g)
	return c
}

// Remove takes an entry out again that was added. First and Last stay.
func (s *Sums) Remove(e *Entry) {
	var one Sums
	one.Add(e)
	for _, o := range one.list {
		if o.Label == "" || !s.NoLabels {
			s.sum(o.sumKey).remove(o)
		}
	}
	s.removeUses(&one)
	s.Rows--
}

func (s *Sums) sum(key sumKey) *sum {
	i, ok := s.byKey[key]
	if !ok {
		if s.byKey == nil {
			s.byKey = map[sumKey]int{}
		}
		i = len(s.list)
		s.byKey[key], s.list = i, append(s.list, &sum{sumKey: key})
		if key.Label != "" {
			s.labeled++
		}
	}
	return s.list[i]
}

func (s *Sums) widen(rows int, first, last time.Time) {
	if s.Rows == 0 || first.Before(s.First) {
		s.First = first
	}
	if s.Rows == 0 || last.After(s.Last) {
		s.Last = last
	}
	s.Rows += rows
}

// Merge adds other sums of the same pool and day. The places of the sums that are there stay.
func (s *Sums) Merge(other *Sums) {
	if other.Rows == 0 {
		return
	}
	s.NoLabels = s.NoLabels || other.NoLabels
	for _, o := range other.list {
		if o.Label == "" || !s.NoLabels {
			s.sum(o.sumKey).merge(o)
		}
	}
	s.uses = append(s.uses, s.translate(other)...)
	s.widen(other.Rows, other.First, other.Last)
	s.boundLabels()
}

// Repeated names, for each sum by its place, the jobs that are not in the JSON of the sums.
type Repeated map[int]marks

// marks are JobMarks, as text in base64.
type marks []JobMark

// Len is how many there are.
func (r Repeated) Len() (n int) {
	for _, m := range r {
		n += len(m)
	}
	return n
}

// TakeRepeated removes the jobs from the sums and returns them.
func (s *Sums) TakeRepeated() Repeated {
	all := Repeated{}
	for i, g := range s.list {
		if len(g.Repeated) > 0 {
			all[i], g.Repeated = g.Repeated, nil
		}
	}
	return all
}

// PutRepeated puts jobs back. False: they are not of these sums.
func (s *Sums) PutRepeated(all Repeated) bool {
	for i, jobs := range all {
		if i < 0 || i >= len(s.list) {
			return false
		}
		s.list[i].Repeated = append(s.list[i].Repeated, jobs...)
	}
	return true
}

// Split splits them into parts of at most n jobs each.
func (r Repeated) Split(n int) (parts []Repeated) {
	part, room := Repeated{}, n
	for i, jobs := range r {
		for len(jobs) > 0 {
			some := jobs[:min(len(jobs), room)]
			part[i], jobs, room = append(part[i], some...), jobs[len(some):], room-len(some)
			if room == 0 {
				parts, part, room = append(parts, part), Repeated{}, n
			}
		}
	}
	if len(part) > 0 {
		parts = append(parts, part)
	}
	return parts
}

// MarshalJSON writes the sums without the jobs in Repeated, and without what they have in
// all.
func (s *Sums) MarshalJSON() ([]byte, error) { return json.Marshal(s.list) }

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Sums) UnmarshalJSON(data []byte) error {
	s.list, s.byKey = nil, map[sumKey]int{}
	if err := json.Unmarshal(data, &s.list); err != nil {
		return err
	}
	for i, g := range s.list {
		if g == nil {
			return fmt.Errorf("sum %d is missing", i)
		}
	}
	s.index()
	return nil
}

// index finds the places of the sums.
func (s *Sums) index() {
	s.byKey, s.labeled = map[sumKey]int{}, 0
	for i, g := range s.list {
		s.byKey[g.sumKey] = i
		if g.Label != "" && g.Label != droppedLabel {
			s.labeled++
		}
	}
}

const markBytes = 8

// MarshalText writes the marks.
func (m marks) MarshalText() ([]byte, error) {
	raw := make([]byte, 0, len(m)*markBytes)
	for _, mark := range m {
		raw = binary.BigEndian.AppendUint64(raw, uint64(mark))
	}
	return base64.RawStdEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText reads what MarshalText writes.
func (m *marks) UnmarshalText(text []byte) error {
	raw, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return err
	}
	if len(raw)%markBytes != 0 {
		return fmt.Errorf("%d bytes of marks", len(raw))
	}
	*m = nil
	for ; len(raw) > 0; raw = raw[markBytes:] {
		*m = append(*m, JobMark(binary.BigEndian.Uint64(raw)))
	}
	return nil
}

// textNumber is a whole number of any size, as text.
type textNumber struct{ big.Int }

// add adds part times length.
func (n *textNumber) add(part int64, length Ticks) {
	n.Add(&n.Int, new(big.Int).Mul(big.NewInt(part), big.NewInt(int64(length))))
}

// MarshalJSON writes a text of digits.
func (n textNumber) MarshalJSON() ([]byte, error) { return quote(n.String()), nil }

// UnmarshalJSON reads what MarshalJSON writes.
func (n *textNumber) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	if _, ok := n.SetString(text, 10); !ok {
		return fmt.Errorf("%.40q is not a whole number", text)
	}
	return nil
}
