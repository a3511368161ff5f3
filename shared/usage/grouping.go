package usage

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Grouping is what a report is grouped by: one of Groupings, or label:NAME for the values of a
// label, or two of these with a comma between them, such as day,team. A label comes last, and
// nothing goes with jobs.
type Grouping string

const (
	ByJob   Grouping = "job"
	ByPool  Grouping = "pool"
	ByTeam  Grouping = "team"
	ByUser  Grouping = "user"
	ByDay   Grouping = "day"   // the UTC day on which the entry ended
	ByMonth Grouping = "month" // the month of this day
	ByYear  Grouping = "year"  // the year of this day
	BySize  Grouping = "size"  // of the VMs
	BySweep Grouping = "sweep" // of which the jobs are members
	byTotal Grouping = ""      // everything in one line
)

// Groupings lists them, in the order in which to name them.
var Groupings = []Grouping{ByJob, ByPool, ByTeam, ByUser, ByDay, ByMonth, ByYear, BySize, BySweep}

// labelPrefix stands before the name of a label, by whose values jobs are grouped.
const labelPrefix = "label:"

// ByLabel groups by the values of a label.
func ByLabel(name string) Grouping { return Grouping(labelPrefix + name) }

// keySeparator stands between the two parts of the key of a line. No name of a pool, team, user or
// size has it, and no time.
const keySeparator = "\x1f"

// Parts are what a report is grouped by, one after the other; none for a total.
func (g Grouping) Parts() []Grouping {
	first, second, two := strings.Cut(string(g), ",")
	switch {
	case g == byTotal:
		return nil
	case two && slices.Contains(Groupings, Grouping(first)):
		return []Grouping{Grouping(first), Grouping(second)}
	}
	return []Grouping{g}
}

// LabelName is the name of the label that a part of a grouping is of.
func (g Grouping) LabelName() (name string, ok bool) {
	if name, ok = strings.CutPrefix(string(g), labelPrefix); !ok {
		return "", false
	}
	return name, true
}

// label is the name of the label that a report is grouped by.
func (g Grouping) label() (name string, ok bool) {
	for _, part := range g.Parts() {
		if name, ok = part.LabelName(); ok {
			return name, true
		}
	}
	return "", false
}

// Property is the name under which JSON has this part of the key of a line: that of the
// grouping, and "label" for every label.
func (g Grouping) Property() string {
	if _, ok := g.LabelName(); ok {
		return "label"
	}
	return string(g)
}

// CheckGrouping says what is wrong with a grouping that somebody has written.
func CheckGrouping(g Grouping) error {
	parts := g.Parts()
	jobs, known := 0, len(parts) > 0
	for _, part := range parts {
		name, ok := part.LabelName()
		known = known && (ok && name != "" || slices.Contains(Groupings, part))
		if ok || part == BySweep {
			jobs++
		}
	}
	switch {
	case !known:
	case len(parts) == 1:
		return nil
	case slices.Contains(parts, ByJob):
		return fmt.Errorf("usage by job has no other key: %.50q; leave it out", string(g))
	case parts[0] == parts[1], jobs > 1:
		return fmt.Errorf("usage is not grouped by %.50q; take two keys that differ, one of which may be sweep or label:NAME", string(g))
	default:
		return nil
	}
	names := make([]string, len(Groupings))
	for i, known := range Groupings {
		names[i] = string(known)
	}
	return fmt.Errorf("usage is not grouped by %.50q; use one of %s, or label:NAME, or two of them such as day,team",
		string(g), strings.Join(names, ", "))
}

// ofNodes is the part of a grouping that nodes have, too.
func (g Grouping) ofNodes() Grouping {
	var parts []string
	for _, part := range g.Parts() {
		if part.hasNodes() {
			parts = append(parts, string(part))
		}
	}
	return Grouping(strings.Join(parts, ","))
}

// hasNodes reports whether nodes have such a key.
func (g Grouping) hasNodes() bool {
	return slices.Contains([]Grouping{ByPool, ByDay, ByMonth, ByYear, BySize}, g)
}

// nodesHaveLines reports whether a node belongs to a line of its own key.
func (g Grouping) nodesHaveLines() bool { return g != byTotal && g.ofNodes() == g }

// NeedsDays reports whether lines are of single days, or jobs: sums of months do not have them.
func (g Grouping) NeedsDays() bool {
	parts := g.Parts()
	return slices.Contains(parts, ByDay) || slices.Contains(parts, ByJob)
}

// sumLabel is the label of the sums that a report by labels or sweeps is made of; "" = of others.
func (g Grouping) sumLabel() string {
	for _, part := range g.Parts() {
		if part == BySweep {
			return sweepLabel
		}
	}
	name, _ := g.label()
	return name
}

// nodeKey is the part of the key that an interval of a node has; "" = it has none.
func (g Grouping) nodeKey(pool string, to time.Time, size string) string {
	switch g {
	case ByPool:
		return pool
	case ByDay:
		return Partition(to)
	case ByMonth:
		return to.UTC().Format("2006-01")
	case ByYear:
		return to.UTC().Format("2006")
	case BySize:
		return size
	default:
		return ""
	}
}
