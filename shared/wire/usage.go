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

// SumsRebuilt says how far that came.
type SumsRebuilt struct {
	Days int        `json:"days"`         // so many were built
	Rows int        `json:"rows"`         // of the ledger in them
	To   *time.Time `json:"to,omitempty"` // what to go on with; nil = all were built
}
