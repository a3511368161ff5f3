// Package job holds what a job is: the document a user sends, its rules and
// defaults, and the states of jobs and attempts. It reads no clock, does
// no I/O and knows no SDK.
package job

import "time"

// State of a job, as users see it.
type State string

const (
	Submitted State = "submitted"
	Held      State = "held"
	Queued    State = "queued"
	Assigned  State = "assigned"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	TimedOut  State = "timedOut"
	Rejected  State = "rejected"
)

// Final reports whether a job in this state will not change again.
func (s State) Final() bool {
	switch s {
	case Succeeded, Failed, Cancelled, TimedOut, Rejected:
		return true
	case Submitted, Held, Queued, Assigned, Running:
		return false
	}
	return false
}

// AttemptState is the state of one attempt of a job.
type AttemptState string

const (
	AttemptAssigned       AttemptState = "assigned"
	AttemptRunning        AttemptState = "running"
	AttemptSucceeded      AttemptState = "succeeded"
	AttemptFailed         AttemptState = "failed"
	AttemptCancelled      AttemptState = "cancelled"
	AttemptTimedOut       AttemptState = "timedOut"
	AttemptNodeLost       AttemptState = "nodeLost"
	AttemptEvicted        AttemptState = "evicted"
	AttemptStartFailed    AttemptState = "startFailed"
	AttemptAgentRestarted AttemptState = "agentRestarted"
)

// Ended reports whether an attempt in this state has ended.
func (s AttemptState) Ended() bool { return s != AttemptAssigned && s != AttemptRunning }

// Exit codes of the platform: above any process's own, so that rules can be
// written on them.
const (
	ExitNodeLost       = 1001
	ExitEvicted        = 1002
	ExitStartFailed    = 1003
	ExitAgentRestarted = 1004
	ExitTimedOut       = 1005
	ExitCancelled      = 1006
)

// Priority classes, best first. The zero value is not valid; Parse fills in
// Normal.
type Priority string

const (
	High   Priority = "high"
	Normal Priority = "normal"
	Low    Priority = "low"
)

// Spec is a job's document as Parse leaves it: checked, with every default
// filled in. Fields of the contract that are not here are refused by Parse.
type Spec struct {
	ID        string            `json:"id,omitempty"`
	Pool      string            `json:"pool"`
	Name      string            `json:"name,omitempty"`
	Team      string            `json:"team,omitempty"`
	User      string            `json:"user,omitempty"`
	Command   []string          `json:"command,omitempty"`
	Script    string            `json:"script,omitempty"` // see ScriptCommand
	Args      []string          `json:"args,omitempty"`   // of the script
	Workdir   string            `json:"workdir,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Secrets   map[string]string `json:"secrets,omitempty"` // by variable: where its value is, as keyvault:vault/secret; see secrets.go
	Source    *Source           `json:"source,omitempty"`  // nil = none
	Resources Resources         `json:"resources"`
	Nodes     int               `json:"nodes,omitempty"` // of a gang, each with Resources; 0 = it is none
	Priority  Priority          `json:"priority"`
	After     []string          `json:"after,omitempty"` // ids of jobs, of any pool, that have to end first; see Dependency
	NotBefore time.Time         `json:"notBefore,omitzero"`
	Timeout   Duration          `json:"timeout,omitempty"` // 0 = none
	Retry     Retry             `json:"retry"`
	Stop      string            `json:"stop,omitempty"` // who gets SIGTERM first: StopLeader; "" = the whole group
	Labels    map[string]string `json:"labels,omitempty"`
	Sweep     *Sweep            `json:"sweep,omitempty"`
	Index     *int              `json:"index,omitempty"`   // of a member of a sweep; no field of a document
	RerunOf   string            `json:"rerunOf,omitempty"` // id of the job that it runs again; no field of a document
}

// StopLeader is the Stop of a job whose first process alone is asked to end. The
// document's other word, stopGroup, is the default and stored as "", so that a
// job that says it is the same job as one that does not.
const (
	StopLeader = "leader"
	stopGroup  = "group"
)

// Resources is what one attempt takes of a node.
type Resources struct {
	CPUs   int   `json:"cpus"`             // at least 1
	GPUs   int   `json:"gpus,omitempty"`   // whole ones, which nobody else uses meanwhile
	Memory Bytes `json:"memory,omitempty"` // kept free for it, and the most that it gets where the node can bound it
}

// ReadsJobFile reports whether a job has nothing to run and only reports the
// jobs its source brings along. Only pushes start such jobs.
func (s *Spec) ReadsJobFile() bool { return s.Source != nil && len(s.Command) == 0 && s.Script == "" }

// Total is what an attempt takes of all its nodes.
func (s *Spec) Total() Resources {
	n, r := max(s.Nodes, 1), s.Resources
	return Resources{CPUs: n * r.CPUs, GPUs: n * r.GPUs, Memory: Bytes(n) * r.Memory}
}

// Retry says which ends of an attempt are followed by another attempt.
type Retry struct {
	Max     int      `json:"max"`          // retries, not attempts
	On      []string `json:"on,omitempty"` // causes; empty = DefaultRetryOn
	Backoff Duration `json:"backoff"`      // before each retry
}

// Duration is written as 90s, 15m, 2h or 1d, in documents and in rows.
type Duration time.Duration

// Attempt is one ended or current run of a job on a node.
type Attempt struct {
	Number     int          `json:"number"`
	Node       string       `json:"node"` // instance name
	VMID       string       `json:"vmid,omitempty"`
	State      AttemptState `json:"state"`
	ExitCode   int          `json:"exitCode"`
	Cause      Cause        `json:"cause,omitempty"` // of a start that failed, as the agent reported it
	Reason     string       `json:"reason,omitempty"`
	AssignedAt time.Time    `json:"assignedAt,omitzero"`
	StartedAt  time.Time    `json:"startedAt,omitzero"` // zero: never started
	EndedAt    time.Time    `json:"endedAt,omitzero"`   // zero: not ended
	LogsCut    *LogsCut     `json:"logsCut,omitempty"`  // what is missing in its logs; nil = nothing, or not known
	GPUs       []int        `json:"gpus,omitempty"`     // indexes of the GPUs it owns
	Ranks      []Rank       `json:"ranks,omitempty"`    // of a gang; Node and VMID are those of rank 0
	Broke      int          `json:"broke,omitempty"`    // 1 + the rank that ended the attempt on all nodes; 0 = none has
}

// Rank is one node's part of a gang's attempt.
type Rank struct {
	Rank      int          `json:"rank"`
	Node      string       `json:"node"`
	VMID      string       `json:"vmid"`
	Address   string       `json:"address"` // where the others find it
	N         int64        `json:"n"`       // assignment number
	First     int64        `json:"first"`   // its first assignment number in this attempt
	State     AttemptState `json:"state"`
	ExitCode  int          `json:"exitCode,omitempty"`
	Cause     Cause        `json:"cause,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	StartedAt time.Time    `json:"startedAt,omitzero"`
	EndedAt   time.Time    `json:"endedAt,omitzero"`
	LogsCut   *LogsCut     `json:"logsCut,omitempty"`
	GPUs      []int        `json:"gpus,omitempty"`
}
