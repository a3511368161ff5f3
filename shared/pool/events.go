package pool

import (
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// JobEnd says how the job with this id has ended: the answer to Effects.LookUp.
type JobEnd struct {
	ID        string
	State     job.State
	Forgotten bool // nobody knows any more how it has ended; State is ""
}

func (JobEnd) event() {}

// Event is something that happens to a pool. Every kind may come twice or late.
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
	By     string // of a session: EndUser or EndAdmin; "" = EndUser
}

// Open makes a session. If the pool has a live session of its owner, it makes none: the
// caller finds that one by its owner. Twice with one Order makes one session.
type Open struct {
	Order   string
	ID      string
	Spec    job.Spec // User is the name of the account. The pool fills in Resources, and no timeout and no retry
	Session Session  // Owner and UID
	At      time.Time
}

// Extend keeps a session until a time: nothing ends it for idleness before, and a warning for
// idleness is withdrawn. Nobody keeps a session beyond its greatest age or the schedule: the row
// says until when it is kept. It does nothing to a session that is being ended.
type Extend struct {
	Order string
	Until time.Time
}

// Enter has the node of a running attempt open its door for somebody who comes into the attempt, or
// a node for an operator who comes to the node as a whole.
// Nothing is noted but the node's place at the relay: who has not come in asks again.
type Enter struct {
	Order string        // "" = the node as a whole
	N     int64         // of the attempt's assignment, or of its rank's
	VMID  string        // of the node, where Order is ""
	For   time.Duration // how long the door stays open for somebody
}

// Desktop asks for a new password of a session's desktop, sealed to a key of its owner's. The
// same key again asks again only if the node has not answered yet.
type Desktop struct {
	Order  string
	SealTo string // public key, see package seal
}

// Hold keeps a job that waits from starting, and a sweep from beginning more members,
// until it is released. It does nothing to a job on a node.
type Hold struct{ Order string }

// Release lets a job or a sweep go on that was held by a Hold, a job start again that is
// held because its attempts were lost, and a sweep go on that was stopped.
type Release struct{ Order string }

// SetPriority gives a job, and the members of a sweep, another place in line.
type SetPriority struct {
	Order    string
	Priority job.Priority
}

// Resume has the pool buy nodes again, although the nodes before did not come up, or
// their agents lacked what is needed.
type Resume struct{}

// CancelAll asks to end all jobs of a team, a user, or a user within a team.
type CancelAll struct{ Team, User, Reason string }

// Reported is a report of an agent, with the time its message was enqueued.
type Reported struct {
	Report protocol.Report
	At     time.Time
}

// Tick asks the pool to look at the clock. At is the enqueued time of the message that
// brought it; zero: no message did. Silence is only measured between enqueued times.
type Tick struct{ At time.Time }

// Loaded says that a process drives the pool for the first time, or does not know
// whether its last effects were performed: they are performed again.
type Loaded struct{}

// Listed is a complete list of a scale set's instances.
type Listed struct {
	At        time.Time // when Azure was asked for it, by the clock of the process; zero = now
	Set       string    // "" = the first
	Exists    bool
	Capacity  int
	Model     string   // a hash of the model that the set was written with last; "" = not known
	Wanted    string   // a hash of the model that this deployment would write now; "" = not known
	Tariffs   []Tariff // what an instance costs now, and then what it will cost as far as that is known; nil = nobody could look
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
	Outdated     bool // it was made with an earlier model than the set has now
}

// Answered is the outcome of an effect on the scale set.
type Answered struct {
	Set    string        // "" = the first
	Kind   string        // OpGrow, OpShrink, OpDrop, OpModel; OpRemove
	Nodes  []string      // VMIDs, for "remove"
	Target int           // the capacity that was asked for; 0 = that of the operation in flight
	Of     string        // the token of the operation that was looked at; "" = of the one in flight
	Token  string        // accepted, and to be polled; "" = finished
	After  time.Duration // when to poll, or to try again
	Err    *fault.Error  // nil = accepted or finished
}

// OpRemove is the Kind of the answer to a Remove effect.
const OpRemove = "remove"

// Fenced says whether the session of a silent node could be taken.
type Fenced struct {
	VMID  string
	Taken bool // the session is ours now: the agent is gone or will stop
}

// Budgets says where the budgets stand that concern the pool: all of them, in place of those that
// it knew. Only a board with a higher number than the one it has is taken.
type Budgets struct{ budget.Board }

// Recorded says that facts have been copied into the ledger: those of single Logs, and all
// those of whole pages.
type Recorded struct {
	Seqs  []int64 // by Log.Seq
	Pages []int64 // by Log.Page
}

func (Apply) event()       {}
func (Delete) event()      {}
func (Submit) event()      {}
func (Cancel) event()      {}
func (Open) event()        {}
func (Extend) event()      {}
func (Enter) event()       {}
func (Desktop) event()     {}
func (Release) event()     {}
func (Hold) event()        {}
func (SetPriority) event() {}
func (Resume) event()      {}
func (CancelAll) event()   {}
func (Reported) event()    {}
func (Tick) event()        {}
func (Loaded) event()      {}
func (Listed) event()      {}
func (Answered) event()    {}
func (Fenced) event()      {}
func (Recorded) event()    {}
func (Budgets) event()     {}

// Verb is what somebody asks of a node. It may come twice, and the second time it
// changes nothing.
type Verb string

const (
	VerbRelease Verb = "release" // take work again; its blames are forgotten
	VerbDrain   Verb = "drain"   // take no more work, and leave when what runs has ended
	VerbDelete  Verb = "delete"  // leave now; what runs goes back in line
)

// NodeRequest is what an operator asks of one node.
type NodeRequest struct {
	VMID string
	Verb Verb
}

func (NodeRequest) event() {}
