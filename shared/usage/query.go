package usage

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
)

// Order is how the lines of a report are sorted: by their key, or by one of their amounts, the
// largest first.
type Order string

const (
	OrderKey         Order = "key"
	OrderCost        Order = "cost"
	OrderWaste       Order = "waste"
	OrderJobs        Order = "jobs"
	OrderSeconds     Order = "seconds"
	OrderNodeSeconds Order = "nodeSeconds"
)

// Orders lists them.
var Orders = []Order{OrderKey, OrderCost, OrderWaste, OrderJobs, OrderSeconds, OrderNodeSeconds}

// Filter leaves rows out of a report; "" is any.
type Filter struct {
	Pool   string
	Team   string
	User   string
	Labels map[string]string // an attempt has all of them
}

// OfJobs reports whether a filter asks for something that only jobs have. Nodes belong to no
// team, user or label, so they are in no such report, and it has no waste.
func (f *Filter) OfJobs() bool { return f.Team != "" || f.User != "" || len(f.Labels) > 0 }

func (f *Filter) takes(e *Entry) bool {
	if f.Pool != "" && e.Pool != f.Pool || e.Kind == KindNode && f.OfJobs() ||
		f.Team != "" && e.Team != f.Team || f.User != "" && e.User != f.User {
		return false
	}
	for name, value := range f.Labels {
		if have, ok := e.Labels[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// NeedsRows reports whether a report has to read the rows of the ledger: sums do not have what
// it is grouped or filtered by.
func (q *Query) NeedsRows() bool {
	return len(q.Filter.Labels) > 0 && (len(q.Filter.Labels) > 1 || q.By.sumLabel() != "")
}

// NeedsLabels reports whether it needs the labels of jobs.
func (q *Query) NeedsLabels() bool {
	_, byLabel := q.By.label()
	return byLabel || len(q.Filter.Labels) > 0
}

// NeedsLabelSums reports whether it needs sums with labels; those with sweeps are among them.
func (q *Query) NeedsLabelSums() bool { return q.By.sumLabel() != "" || len(q.Filter.Labels) > 0 }

// ParseInstant reads a time of the past: how long ago (7d, 12h), now, today or yesterday, a
// day (2026-01-31), or a time (RFC 3339). Days begin at midnight in the zone of now,
// and the answer is of that zone.
func ParseInstant(text string, now time.Time) (time.Time, error) {
	year, month, day := now.Date()
	today := time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return now, nil
	case "today":
		return today, nil
	case "yesterday":
		return today.AddDate(0, 0, -1), nil
	}
	if ago, err := job.ParseDuration(text); err == nil {
		return now.Add(-time.Duration(ago)), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t.In(now.Location()), nil
		}
	}
	return time.Time{}, fmt.Errorf(
		"%.50q; it takes how long ago (7d, 12h), today, yesterday, a day such as 2026-01-31, or a time such as 2026-01-31T18:00:00Z", text)
}

// Query is what a report is asked for: what ended in From <= t < To, and what still runs when
// the report is made if that is in this time, or at its end.
type Query struct {
	By       Grouping
	Order    Order // "" = OrderKey
	From, To time.Time
	AsOf     time.Time // what ran then counts up to here, also if it has ended since; zero = when the report is made
	Filter   Filter

	Lines int       // at most, as they are sorted; 0 = all
	After *Position // only lines after this one; nil = all
}
