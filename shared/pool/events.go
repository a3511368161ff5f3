package pool

import (
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// JobEnd says how a job has ended, by its id.
type JobEnd struct {
	ID    string
	State job.State
}

func (JobEnd) event() {}

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

// What people say about one node. Each word may come twice, and changes nothing
// where it is no news.

// Verb is what somebody asks of a node.
type Verb string

const (
	VerbRelease Verb = "release" // take work again, nothing stands against it
	VerbDrain   Verb = "drain"   // take no more work, and leave when what runs has ended
	VerbDelete  Verb = "delete"  // leave now; what runs goes back in line
)

// NodeRequest is a word of an operator about a node.
type NodeRequest struct {
	VMID string
	Verb Verb
}

func (NodeRequest) event() {}
