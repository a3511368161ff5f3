package wire

import (
	"time"

	"dsvmpools/shared/usage"
)

// UsageGroup is one line of a usage report. It stands in JSON with its key
// under the name of what the report is grouped by.
type UsageGroup = usage.Group

// UsageReport is a page of a report: some of its lines, and what is said of all of them.
type UsageReport struct {
	Items    []UsageGroup `json:"items"`
	Totals   []UsageGroup `json:"totals"` // of all lines, on whatever page; see usage.Report
	Lines    int          `json:"lines"`  // how many there are in all
	Open     usage.Open   `json:"open"`   // intervals in it that still run
	From     time.Time    `json:"from"`   // the time that it is about
	To       time.Time    `json:"to"`     // itself not included
	AsOf     time.Time    `json:"asOf"`   // what still runs counts up to here
	Continue string       `json:"continue,omitempty"`
}

// JobCost is what a job has cost.
type JobCost struct {
	Cost    *Cost     `json:"cost"`              // of all attempts until now; null: none has started, or their use is not kept
	PerHour *Cost     `json:"perHour,omitempty"` // while it runs; missing = it does not
	AtMost  *Cost     `json:"atMost,omitempty"`  // in all, if what runs takes its whole timeout; missing = it has none
	AsOf    time.Time `json:"asOf"`
}

// unknownPrice stands where no price is known.
const unknownPrice = usage.UnknownPrice

// SumsQuery says which days' sums are built again; zero times are no bounds.
type SumsQuery struct {
	From time.Time
	To   time.Time // itself not included
}

// SumsChecked is what a comparison of sums with the rows of the ledger has found.
type SumsChecked struct {
	Days        int              `json:"days"` // so many were compared
	Rows        int              `json:"rows"` // of the ledger in them
	Differences []SumsDifference `json:"differences"`
	To          *time.Time       `json:"to,omitempty"` // what to go on with; nil = all were compared
}

// SumsDifference is a pool and day whose sums are not those of its rows, in one currency. Numbers are of the rows, and of the
// sums; amounts are exact fractions.
type SumsDifference struct {
	Pool     string         `json:"pool"`
	Day      string         `json:"day"`
	Currency string         `json:"currency"` // "" = what has no known price
	Rows     [2]int         `json:"rows"`
	Seconds  [2]usage.Ticks `json:"seconds"`     // of attempts
	Nodes    [2]usage.Ticks `json:"nodeSeconds"` // of nodes
	Cost     [2]string      `json:"cost"`        // of the attempts: a whole number or a fraction such as 1/3
	Paid     [2]string      `json:"paid"`        // for the nodes
}

// NewSumsDifference is the shape of a difference.
func NewSumsDifference(pool string, day time.Time, rows, sums *usage.Amounts) SumsDifference {
	return SumsDifference{
		Pool:     pool,
		Day:      usage.Partition(day),
		Currency: rows.Currency,
		Rows:     [2]int{rows.Rows, sums.Rows},
		Seconds:  [2]usage.Ticks{rows.Seconds, sums.Seconds},
		Nodes:    [2]usage.Ticks{rows.Nodes, sums.Nodes},
		Cost:     [2]string{rows.Cost.RatString(), sums.Cost.RatString()},
		Paid:     [2]string{rows.Paid.RatString(), sums.Paid.RatString()},
	}
}

// SumsRebuilt says how far that came.
type SumsRebuilt struct {
	Days int        `json:"days"`         // so many were built
	Rows int        `json:"rows"`         // of the ledger in them
	To   *time.Time `json:"to,omitempty"` // what to go on with; nil = all were built
}
