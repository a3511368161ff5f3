package scheduler

import (
	"time"
)

// Timing are the times and limits of a deployment.
type Timing struct {
	PollEvery      time.Duration // between listings while instances come or go
	BootDeadline   time.Duration // from the request for an instance to its agent's first report
	DeleteAgain    time.Duration // a deletion that shows no effect is asked for again
	MissingFor     time.Duration // an instance must be missing from listings this long to count as deleted
	SilentAfter    time.Duration // without a report, before the node's session is tried
	ResendAfter    time.Duration // an assignment without any sign is sent again
	AssignedFor    time.Duration // before an attempt that has not begun is asked back; as long again, before its node is given up
	RememberGone   time.Duration // a deleted VM's identity is kept this long, so that its late reports are known for what they are
	IntervalLength time.Duration // a node's ledger interval is closed after this
	RecordDelay    time.Duration // entries gather this long before the ledger is woken
	ShareHalfLife  time.Duration // after which what a team has used counts half
}

// DefaultRules are the defaults of docs/settings.md.
var DefaultTiming = Timing{
	PollEvery:      10 * time.Second,
	BootDeadline:   30 * time.Minute,
	DeleteAgain:    2 * time.Minute,
	MissingFor:     10 * time.Second,
	SilentAfter:    3 * time.Minute,
	ResendAfter:    30 * time.Second,
	AssignedFor:    5 * time.Minute, // longer than an agent takes to say that it cannot start something
	RememberGone:   time.Hour,
	IntervalLength: time.Hour,
	RecordDelay:    5 * time.Second,
	ShareHalfLife:  24 * time.Hour,
}
