package pool

import (
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// Event is something that a pool hears of. Every kind may come twice or late.
type Event interface{ event() }

// Apply creates the pool or changes its spec.
type Apply struct{ Spec Spec }

// Delete takes the pool down for good: its jobs are cancelled, its nodes
// deleted, then its scale set and its rows.
type Delete struct{}

// Submit brings a job that is registered under Order and not finished.
type Submit struct {
	Order string
	ID    string
	Spec  job.Spec
	At    time.Time // when it was accepted
}

// Cancel asks to end a job.
type Cancel struct {
	Order  string
	Reason string
}

// Release lets a job go on that is held since nodes were lost under it.
type Release struct{ Order string }

// Resume has the pool buy nodes again although those before did not come up.
type Resume struct{}

// CancelAll asks to end all jobs of a team, a user, or a user within a team.
type CancelAll struct{ Team, User, Reason string }

// Reported is a report of an agent, with the time its message was enqueued.
type Reported struct {
	Report protocol.Report
	At     time.Time
}

// Tick is a look at the clock. At is the enqueued time of the message that
// brought it, zero when no message did: silence is only measured between
// enqueued times.
type Tick struct{ At time.Time }

// Loaded says that a process has taken the pool up for the first time: what it
// may have left undone before it was killed is done again.
type Loaded struct{}

// Listed is a complete list of a scale set's instances.
type Listed struct {
	Set       string // "" = the first
	Exists    bool
	Capacity  int
	Instances []Instance
}

// Instance is what Azure says of a VM.
type Instance struct {
	VMID         string // lower case
	ID           string
	Name         string
	Provisioning string // Creating, Updating, Succeeded, Failed, Deleting
	Power        string // running, starting, ...; "" = none yet
	Error        string
}

// Answered is the outcome of an effect on the scale set.
type Answered struct {
	Set    string        // "" = the first
	Kind   string        // OpGrow, OpSettle, OpDrop; "remove"
	Nodes  []string      // VMIDs, for "remove"
	Target int           // the capacity that was asked for; 0 = that of the operation in flight
	Of     string        // the token of the operation that was looked at; "" = of the one in flight
	Token  string        // accepted, and to be polled; "" = finished
	After  time.Duration // when to poll, or to try again
	Err    *fault.Error  // nil = accepted or finished
}

// OpRemove is the Kind of the answer to a Remove effect.
const OpRemove = "remove"

// Fenced is the outcome of trying to take a silent node's session.
type Fenced struct {
	VMID  string
	Taken bool // the session is ours now: the agent is gone or will stop
}

// Recorded says that ledger rows up to and including these have been copied.
type Recorded struct{ Seqs []int64 }

func (Apply) event()     {}
func (Delete) event()    {}
func (Submit) event()    {}
func (Cancel) event()    {}
func (Release) event()   {}
func (Resume) event()    {}
func (CancelAll) event() {}
func (Reported) event()  {}
func (Tick) event()      {}
func (Loaded) event()    {}
func (Listed) event()    {}
func (Answered) event()  {}
func (Fenced) event()    {}
func (Recorded) event()  {}

// Effects is what is to be done once the rows are committed. Doing any of it
// twice is harmless, and all of it can be derived from the rows again.
type Effects struct {
	Work     map[string][]protocol.WorkItem // to nodes, by VMID
	Sets     map[string]*SetCalls           // calls to scale sets, by Set.Name
	Remove   []*Node                        // delete these instances by name
	List     bool                           // look at the scale sets that are used
	Ask      []string                       // find out what became of these jobs, by id
	Fence    []string                       // VMIDs whose session is to be taken
	DropRows bool                           // nothing is left: delete the rows
	WakeAt   time.Time                      // schedule a tick; zero = none
	RecordAt time.Time                      // schedule the ledger; zero = none
}

// SetCalls is what is wanted of one scale set.
type SetCalls struct {
	Set      Set
	Grow     int    // capacity to ask for; 0 = nothing
	Settle   bool   // write the capacity down to what is listed
	Poll     string // token of the operation to look at
	PollKind string // its kind
	Drop     bool   // delete it
}

// Refusal is a job that was registered and cannot be taken.
type Refusal struct {
	Order, ID string
	Err       *fault.Error
}

// Rules are the times and limits of a deployment.
type Rules struct {
	PollEvery      time.Duration // between listings while instances come or go
	BootDeadline   time.Duration // from the request for an instance to its agent's first report
	DeleteAgain    time.Duration // a deletion that shows no effect is asked for again
	MissingFor     time.Duration // an instance must be missing from listings this long to count as deleted
	SilentAfter    time.Duration // without a report, before the node's session is tried
	ResendAfter    time.Duration // an assignment without any sign is sent again
	AssignedFor    time.Duration // an attempt that has not begun is asked back from a node that reports, and a node that does not answer is given up after as long again
	RememberGone   time.Duration // a deleted VM's identity is kept this long, so that its late reports are known for what they are
	IntervalLength time.Duration // a node's ledger interval is closed after this
	RecordDelay    time.Duration // entries gather this long before the ledger is woken
	ShareHalfLife  time.Duration // after which what a team has used counts half
}

// DefaultRules are the defaults of docs/settings.md.
var DefaultRules = Rules{
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
