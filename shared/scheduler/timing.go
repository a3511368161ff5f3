package scheduler

import (
	"time"
)

// Timing holds the times of a deployment.
type Timing struct {
	PollEvery      time.Duration // between listings while instances come or go
	BootDeadline   time.Duration // from the request for an instance to its agent's first report
	DeleteAgain    time.Duration // after which a deletion without effect is asked for again
	MissingFor     time.Duration // an instance must be missing from listings this long to count as deleted
	SilentAfter    time.Duration // without a report, before the node's session is tried
	ResendAfter    time.Duration // after which an assignment without an answer is sent again
	AssignedFor    time.Duration // after which an attempt that has not begun is asked back, and after as long again its node is given up
	AheadFor       time.Duration // after which a node is asked for an assignment back that waits there for its turn
	RememberGone   time.Duration // how long the row of a deleted VM stays, so that its late reports are recognized
	IntervalLength time.Duration // after which a node's ledger interval is closed
	RecordDelay    time.Duration // how long entries wait before the ledger is woken
	ShareHalfLife  time.Duration // after which what a team has used counts half
	NetworkAgain   time.Duration // after which a call to the network without an answer is made again
	NetworkSettled time.Duration // after which no call to the network that was decided before can be under way
	NetworkEvery   time.Duration // between looks at the network while something is open there
	RollWithin     time.Duration // after which the jobs of an outdated node go back in line; 0 = they never do
}

// DefaultTiming has the defaults of docs/settings.md.
var DefaultTiming = Timing{
	PollEvery:      10 * time.Second,
	BootDeadline:   30 * time.Minute,
	DeleteAgain:    2 * time.Minute,
	MissingFor:     10 * time.Second,
	SilentAfter:    3 * time.Minute,
	ResendAfter:    30 * time.Second,
	AssignedFor:    5 * time.Minute, // longer than an agent takes to say that it cannot start something
	AheadFor:       2 * time.Second,
	RememberGone:   time.Hour,
	IntervalLength: time.Hour,
	RecordDelay:    5 * time.Second,
	ShareHalfLife:  24 * time.Hour,
	NetworkAgain:   2 * time.Minute, // a call ends within one
	NetworkSettled: 5 * time.Minute,
	NetworkEvery:   15 * time.Minute,
}
