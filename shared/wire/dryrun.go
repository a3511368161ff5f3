package wire

import (
	"fmt"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// DryRun says what would become of a job that is submitted now. A job that would be refused
// has a Problem instead.
type DryRun struct {
	Spec         job.Spec  `json:"spec"`  // with its defaults filled in; without an id, if the document has none
	State        job.State `json:"state"` // soon after it was submitted
	Reason       string    `json:"reason"`
	Unblocks     string    `json:"unblocks,omitempty"`     // what it would wait for
	Place        int       `json:"place,omitempty"`        // in line, from 1
	Waiting      int       `json:"waiting,omitempty"`      // jobs in line, with this one
	Exists       bool      `json:"exists,omitempty"`       // the same job is there already: nothing would happen
	Node         string    `json:"node,omitempty"`         // that it would begin on at once
	Size         string    `json:"size,omitempty"`         // of the node that it would run on
	Spot         bool      `json:"spot,omitempty"`         // that node would be Spot
	PricePerHour string    `json:"pricePerHour,omitempty"` // of what one attempt takes, with all nodes of a gang; "" = not known
	Currency     string    `json:"currency,omitempty"`
}

// NewDryRun is the answer about a job that would be new.
func NewDryRun(spec job.Spec, r scheduler.DryRunResult) DryRun {
	e := NewExplanation(spec.ID, spec.Pool, r.Explanation)
	return DryRun{Spec: spec, State: e.State, Reason: e.Reason, Unblocks: e.Unblocks, Place: e.Place, Waiting: e.Waiting,
		Node: r.Node, Size: r.Size, Spot: r.Spot, PricePerHour: r.PricePerHour, Currency: r.Currency}
}

// NewDryRunOfJob is the answer about a job that is there already.
func NewDryRunOfJob(spec job.Spec, j *pool.Job) DryRun {
	return DryRun{Spec: spec, State: j.State, Exists: true,
		Reason: fmt.Sprintf("the same job is there already, as %s: submitting it again changes nothing", j.State)}
}
