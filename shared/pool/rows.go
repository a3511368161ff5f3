package pool

import (
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/usage"
)

// Head is the pool's first row. Every transaction replaces it.
type Head struct {
	Seq   int64  // rises by one with every transaction
	Nonce string // of the writer of this version; shows a writer whether its own write won

	Spec     Spec
	Deleting bool // the pool is being deleted: no new work; the nodes leave, then the sets and rows go

	N         int64        // last number given to a work item
	Sets      []Set        // its scale sets: the rungs of its ladder, best first, then those of earlier specs
	DownSince time.Time    // the last downAt of the schedule at which the pool was taken down
	Down      bool         // the schedule keeps the pool down
	WakeAt    time.Time    // the earliest wake-up already asked for
	RecordAt  time.Time    // the wake-up of the ledger already asked for
	Shares    Shares       // what each team has used, halved with every half-life
	Budgets   budget.Board // where the budgets stand that concern it
	Opening   Opening      // how far the network is, for people who come in beside the relay

	// Counts for readers, who then need not load every row.
	Queued  int // jobs that wait, held ones included
	Running int // jobs assigned or running
	Wanted  int // nodes the pool wants to have

	Bundled bool // live jobs may share rows; see bundle.go. The driver sets it
}

// NeedsLook reports whether a pool has something alive, waiting or in flight, so that
// it would stand still after a lost message.
func (h Head) NeedsLook(nodes []*Node) bool {
	if h.Queued+h.Running > 0 || h.Spec.Nodes.Min > 0 || h.Deleting || h.Opening.Wanted != "" && !h.Opening.Sure {
		return true
	}
	for _, s := range h.Sets {
		if s.Capacity > 0 || s.Op.Kind != "" || len(s.Requests) > 0 {
			return true
		}
	}
	for _, n := range nodes {
		if n.State != NodeGone {
			return true
		}
	}
	return false
}

// Set is a scale set of the pool: it holds VMs of one size, Spot or regular.
type Set struct {
	Name         string    `json:"name"` // within the pool; see SetName
	Size         string    `json:"size"`
	Spot         bool      `json:"spot,omitempty"`
	Used         bool      `json:"used,omitempty"`        // the pool has asked for nodes: the set may exist
	Capacity     int       `json:"capacity,omitempty"`    // as last read or successfully asked for
	Listed       time.Time `json:"listed,omitzero"`       // when it was last listed with success
	Price        string    `json:"price,omitempty"`       // per hour of a node, as the last list said; "" = not known
	Currency     string    `json:"currency,omitempty"`    // of Price
	Tariffs      []Tariff  `json:"tariffs,omitempty"`     // what a node costs, by time, the oldest first: see tariff.go
	LookedAt     time.Time `json:"lookedAt,omitzero"`     // when somebody has looked for Tariffs
	Followed     time.Time `json:"followed,omitzero"`     // the begin of the tariff that its nodes have
	PendingSince time.Time `json:"pendingSince,omitzero"` // only in rows of earlier versions, without asks: since when some are not listed
	Requests     []Request `json:"asks,omitempty"`        // for instances that are not listed yet, the oldest first; see requests.go
	Op           Op        `json:"op,omitzero"`           // the capacity operation in flight
	Blocked      Block     `json:"blocked,omitzero"`      // why it cannot grow now
	UnbackedAt   time.Time `json:"maybeAt,omitzero"`      // since when it is Unbacked
	GrantedAt    time.Time `json:"grantedAt,omitzero"`    // when capacity was last accepted or granted: a list that lags does not lower it
	Unbacked     bool      `json:"hollow,omitempty"`      // its capacity counts instances that never come; see the glossary
	QuotaLimit   int       `json:"cut,omitempty"`         // how many more the quota allows, after a refusal; 0 = no limit
	WroteAt      time.Time `json:"wroteAt,omitzero"`      // when its capacity was last written
	FullAt       time.Time `json:"fullAt,omitzero"`       // when Azure allows the full number of writes again
	Breaker      Breaker   `json:"breaker,omitzero"`      // whether its nodes come up
	Model        Model     `json:"model,omitzero"`        // what its nodes are made of
	Bound        int       `json:"bound,omitempty"`       // the largest capacity that calls may have written; 0 = the last list is newer
	BoundAt      time.Time `json:"boundAt,omitzero"`      // when the last of these calls was made or answered
	Boots        []int64   `json:"boots,omitempty"`       // seconds that its last nodes took until their first report, the newest last
}

// Model is what is known of the model of a scale set, by hashes: two models are the same
// if their hashes are.
type Model struct {
	Has     string    `json:"has,omitempty"`     // the one that it was written with last; "" = not known
	Wanted  string    `json:"wanted,omitempty"`  // the one that the deployment would write now; "" = not known
	Tries   int       `json:"tries,omitempty"`   // requests in a row to write it
	RetryAt time.Time `json:"retryAt,omitzero"`  // when it may be asked to be written again
	Problem string    `json:"problem,omitempty"` // why it could not be written; "" = it could, or nobody has tried
	Fixed   bool      `json:"fixed,omitempty"`   // it cannot be changed: the set is deleted when it is empty, and made again
}

// IsOutdated reports whether the deployment would write another model.
func (m *Model) IsOutdated() bool { return m.Has != "" && m.Wanted != "" && m.Has != m.Wanted }

// Op is the one capacity operation that may be in flight for a scale set.
type Op struct {
	Kind    string    `json:"kind"` // "", OpGrow, OpShrink, OpDrop, OpModel
	Target  int       `json:"target,omitempty"`
	Adds    int       `json:"adds,omitempty"` // instances that it asks for beyond those that earlier ones asked for
	AskedAt time.Time `json:"askedAt,omitzero"`
	Token   string    `json:"token,omitempty"` // to resume it; "" = not accepted yet
	PollAt  time.Time `json:"pollAt,omitzero"` // when to poll it again
	Tries   int       `json:"tries,omitempty"`
	Under   *Op       `json:"under,omitempty"` // the accepted one that this one replaces once accepted; never changed in place
}

// Kinds of operations.
const (
	OpGrow   = "grow"
	OpShrink = "settle"
	OpDrop   = "drop"
	OpModel  = "model"
)

// Block keeps the pool from asking for capacity until Until.
type Block struct {
	Code    string    `json:"code"` // a fault.Code
	Message string    `json:"message,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	Tries   int       `json:"tries,omitempty"` // failures in a row, for the backoff
}

// NodeState is the state of a node.
type NodeState string

const (
	NodeCreating    NodeState = "creating"
	NodeBooting     NodeState = "booting"
	NodeReady       NodeState = "ready"
	NodeBusy        NodeState = "busy"
	NodeDraining    NodeState = "draining"
	NodeDeleting    NodeState = "deleting"
	NodeGone        NodeState = "gone"
	NodeLost        NodeState = "lost"
	NodeFailed      NodeState = "failed"
	NodeQuarantined NodeState = "quarantined"
)

// Node is one VM of the pool, from its first observation until it is gone.
type Node struct {
	VMID       string
	InstanceID string // in the scale set
	Name       string
	Set        string // the scale set it is in, by Set.Name
	Size       string
	Spot       bool
	CPUs       int // 0 = not known yet
	GPUs       int
	Memory     job.Bytes // 0 = not known
	State      NodeState
	Reason     string
	Since      time.Time         // of State
	AskedAt    time.Time         // when the pool asked for it; zero in rows of earlier versions, and if the pool did not ask for it
	CreatedAt  time.Time         // first observation
	RunningAt  time.Time         // first seen running: billing begins
	HeardAt    time.Time         // enqueued time of its last report
	MissingAt  time.Time         // first time a listing lacked it; zero when it was listed last
	DeleteAt   time.Time         // when its deletion was last asked for
	Evicted    bool              // its agent has reported that Azure takes its VM away
	Breaks     int               // events in a row in which it failed different jobs; see countBreaks
	Blames     []Blame           // those events, since an attempt last succeeded, failed or timed out on it
	Boot       string            // of the agent's last start
	RestartAt  time.Time         // when its agent last started again; zero = it has not
	BootAt     time.Time         // enqueued time of the first report of that start
	Address    string            // under which other nodes reach it; "" = its name
	Seen       int64             // highest number its agent has reported
	Outdated   bool              // it was made with an earlier model than its set has now
	OutdatedAt time.Time         // since when; zero = it is not
	Stage      string            // how far its boot is, as its agent reported last: protocol.StageSetup, ...; "" = not reported, or it is up
	StageWhy   string            // what it waits for there
	StageAt    time.Time         // since when it takes no work because of that; zero = it has reported no stage
	Features   []string          // of the messages that its agent understands
	Missing    map[string]string // what sessions lack on it, and why: see protocol.Ready; nil = nothing
	HostKeys   []string          // public keys of its SSH server, as lines of OpenSSH; nil = none
	Slot       int               // of the relay's entities of an interactive pool, from 1; 0 = none
	Protocol   int               // the version of the protocol that its agent is spoken to in; 0 = 1
	Price      string            // per hour, decimal or usage.UnknownPrice
	Currency   string
	Parts      usage.Parts   // of Price
	From       time.Time     // begin of the ledger interval that is open
	Mark       time.Time     // up to here the sums below are counted
	BootFor    time.Duration // of the open interval
	BusyFor    time.Duration
	IdleFor    time.Duration
	DrainFor   time.Duration
	Phases     usage.Phases // of the open interval, in their order

	Listens protocol.Listens // where its door listens; zero = it does not
}

// QuarantineFor is how long a broken node stays, so that somebody can see what is wrong
// with it. It is billed during that time.
const QuarantineFor = time.Hour

// Blame says that an attempt failed by the fault of its node.
type Blame struct {
	Job   string    `json:"job"`   // order of the job; of a member, that of its sweep
	Event string    `json:"event"` // what ended it: a start of the agent, or the failed start of one assignment
	What  string    `json:"what"`  // how it ended, for people
	At    time.Time `json:"at"`
}

// QuarantinedUntil is when a quarantined node leaves; zero for others.
func (n *Node) QuarantinedUntil() time.Time {
	if n.State != NodeQuarantined {
		return time.Time{}
	}
	return n.Since.Add(QuarantineFor)
}

// Job is a live job: accepted and not ended.
type Job struct {
	Order       string // ULID: its place in the line, and its key
	ID          string
	Spec        job.Spec
	State       job.State
	Reason      string
	SubmittedAt time.Time
	NotBefore   time.Time // held until then: the spec's, or a retry's backoff
	Waits       []string  // dependencies that are not known to be met; see job.ParseDependency
	Cancel      string    // why it was cancelled; "" = it was not
	CancelAt    time.Time
	Requeue     bool          // the pool ends the current attempt, which does not count as a retry
	Retries     int           // so many are spent
	Attempts    []job.Attempt // those that have ended, then the current one while assigned or running
	Progress    *Progress     // of a sweep
	Subscribers []Subscriber  // pools to notify when it has ended
	VMID        string        // of the current attempt
	N           int64         // its assignment number
	Bundled     bool          // its row holds other jobs too; see bundle.go
	Session     *Session      // a person works on the node; nil = it is a job

	// Set when the job has ended; such a job is no longer in State.Jobs.
	ExitCode int
	EndedAt  time.Time

	// Archived is set if the rows of the job are gone; nil: they are there. No row of a
	// pool holds it.
	Archived *Archived

	// ConflictAt is when another document last came to the queue under the job's id, and was
	// rejected; zero: none did. No row of a pool holds it.
	ConflictAt time.Time
}

// Log has facts for the ledger, written with the change that they describe and deleted once
// they are recorded.
type Log struct {
	Seq     int64 // of the head it was written with
	Entries []usage.Entry
	Page    int64 // the row in which it is with others, see LogPageKey; 0 = it is in none
}

// Change is one row of a transaction: what Key holds from now on.
type Change struct {
	Key   string
	Value any // *Node, *Job, *Log, or nil: delete the row
	// Insert: the row must not exist (a job that is new, a job that has ended).
	Insert bool
	// OnlyUse, of a node: nothing but its NodeUse differs from what was written last.
	OnlyUse bool
	// Bundle, of a live job that shares a row, or shared one until now, is that row; see
	// AddBundles. Key and Value say what changes, as they do for other jobs.
	Bundle *Bundle
}
