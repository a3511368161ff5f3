package usage

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Timeline collects what nodes did in a time, a letter for each part of it.
type Timeline struct {
	from  time.Time
	step  time.Duration
	count int
	nodes map[string]*TimelineNode // by pool and name
}

// TimelineNode is a node with its letters. A later VM of the same name is the same node.
type TimelineNode struct {
	Pool, Node string
	States     []byte // see Phases; a part has the letter that ranks first of those in it
}

// phaseRanks are the letters of which the first one in a part of the time stands for it.
const phaseRanks = "xdbwi-"

// NewTimeline begins a timeline of a number of parts, each step long.
func NewTimeline(from time.Time, step time.Duration, count int) *Timeline {
	return &Timeline{from: from, step: step, count: count, nodes: map[string]*TimelineNode{}}
}

// Add adds an interval of a node; the same interval twice changes nothing.
func (t *Timeline) Add(e *Entry) {
	end := t.from.Add(time.Duration(t.count) * t.step)
	if e.Kind != KindNode || !e.To.After(t.from) || !e.From.Before(end) {
		return
	}
	key := e.Pool + "!" + e.Node
	n := t.nodes[key]
	if n == nil {
		n = &TimelineNode{Pool: e.Pool, Node: e.Node, States: []byte(strings.Repeat(string(PhaseNone), t.count))}
		t.nodes[key] = n
	}
	begin := e.From
	for _, phase := range e.phasesOf() {
		until := e.From.Add(time.Duration(phase.End) * time.Second)
		t.mark(n.States, phase.Letter, begin, until)
		begin = until
	}
}

// mark notes a letter for the parts of the time from begin to end.
func (t *Timeline) mark(states []byte, letter byte, begin, end time.Time) {
	first := max(int(begin.Sub(t.from)/t.step), 0)
	last := min(int((end.Sub(t.from)-1)/t.step), t.count-1)
	rank := strings.IndexByte(phaseRanks, letter)
	if rank < 0 || !end.After(t.from) {
		return
	}
	for i := first; i <= last; i++ {
		if rank < strings.IndexByte(phaseRanks, states[i]) {
			states[i] = letter
		}
	}
}

// Nodes are the nodes that were there, by pool and name.
func (t *Timeline) Nodes() []*TimelineNode {
	all := make([]*TimelineNode, 0, len(t.nodes))
	for _, n := range t.nodes {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *TimelineNode) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Node, b.Node))
	})
	return all
}
