// Package protocol holds the messages between a pool and the agents of its
// nodes: what travels on the queues `work` (pool to one node, in the node's own
// session) and `node-events` (node to its pool). docs/protocol.md explains
// them; this package fixes the shapes. It sends nothing and decides nothing.
//
// Everything that a pool asks of a node carries a number N from a counter that
// only rises within the pool. An agent keeps the highest N it has seen and
// ignores anything at or below it, so a message may come twice or late without
// harm; its reports carry that number (Seen), so that "the node does not have
// assignment N" may be concluded when N <= Seen and it holds no such N.
package protocol

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/job"
)

// Versions of the protocol, the `v` of both message kinds. A program reads all from
// OldestVersion to Version. An agent says in Ready which ones it reads; the pool writes to
// it in the highest that both read. An agent writes in OldestVersion, which every pool
// reads, until it gets work in a higher one.
const (
	OldestVersion = 1
	Version       = 1
)

// MaxBytes bounds a message body in both directions: below the 256 KB of a
// Standard namespace with room for the message's properties.
const MaxBytes = 200 << 10

// SessionID names the session on `work` that belongs to one node.
func SessionID(pool, vmid string) string { return pool + "." + vmid }

// Work is one message on `work`.
type Work struct {
	V     int        `json:"v"`
	Items []WorkItem `json:"items"`
}

// WorkItem is one request to a node. Exactly one of Assign, Cancel, Ack, Here,
// Counter, Warn, Door, Desktop, Enter and Stop is set.
type WorkItem struct {
	// N is the number of this item for Assign, Cancel and Warn, and 0 for the others,
	// which may be repeated at will.
	N      int64       `json:"n,omitempty"`
	Assign *Assignment `json:"assign,omitempty"`
	Cancel *Cancel     `json:"cancel,omitempty"`
	Ack    []int64     `json:"ack,omitempty"`  // assignments whose finish the pool has recorded: forget them
	Here   bool        `json:"here,omitempty"` // the pool is there; it is said to nodes that would hear nothing otherwise
	// Counter answers a start of the agent whose journal may have forgotten
	// assignments.
	Counter *Counter `json:"counter,omitempty"`
	Warn    *Warn    `json:"warn,omitempty"`    // numbered as Assign and Cancel are
	Door    *Door    `json:"door,omitempty"`    // of a node with sessions: new tokens, in the place of those that it has
	Desktop *Desktop `json:"desktop,omitempty"` // only agents with FeatureDesktop get it
	// Enter has the node open its door for somebody who comes into an attempt, or to the node. Only
	// agents with FeatureExec get it, and for the node only those with FeatureShell.
	Enter *Enter `json:"enter,omitempty"`
	Stop  string `json:"stop,omitempty"` // this node is no longer part of the pool, and why: kill everything and stay quiet
}

// Counter gives an agent the pool's counter: all numbers up to it were given
// before. The agent refuses those that it does not hold, and says so with Holds.
type Counter struct {
	Boot string `json:"boot"` // the start of the agent that is answered; another one ignores it
	N    int64  `json:"n"`
}

// Assignment is one attempt of a job, placed on the node.
type Assignment struct {
	Job            string            `json:"job"`
	Attempt        int               `json:"attempt"` // from 1
	Name           string            `json:"name,omitempty"`
	Team           string            `json:"team,omitempty"`
	User           string            `json:"user,omitempty"`
	Command        []string          `json:"command,omitempty"`
	Script         string            `json:"script,omitempty"` // run as job.ScriptCommand says
	Args           []string          `json:"args,omitempty"`   // of the script
	Workdir        string            `json:"workdir,omitempty"`
	Env            map[string]string `json:"env,omitempty"`
	Secrets        map[string]string `json:"secrets,omitempty"` // by variable: where the agent reads the value, as keyvault:vault/secret
	Source         *job.Source       `json:"source,omitempty"`  // fetched first; nil = none. Without command and script its file is reported
	CPUs           int               `json:"cpus"`
	Memory         int64             `json:"memory,omitempty"` // bytes that the attempt may use; 0 = no bound of its own
	Whole          bool              `json:"whole,omitempty"`  // the node is its own: cpus and memory are no bounds
	Stop           string            `json:"stop,omitempty"`   // who gets SIGTERM first: "leader" is the first process alone; "" = the group
	GPUs           []int             `json:"gpus,omitempty"`   // indexes of the GPUs that are its own
	Index          *int              `json:"index,omitempty"`  // of a member of a sweep
	Gang           *Gang             `json:"gang,omitempty"`
	TimeoutSeconds int64             `json:"timeoutSeconds,omitempty"` // 0 = none
	// Room is how many cpus of the node may be in use once the attempt runs: until then it
	// waits for its turn, after those that came before it, and its time does not run. 0 = it
	// begins at once.
	Room    int      `json:"room,omitempty"`
	Session *Session `json:"session,omitempty"` // a person works on the node; nil = a process runs
	// Unknown names a field that the assignment has and this release does not know: it
	// must not be started. DecodeWork sets it, and it stays set in what is written and read
	// again; no pool sends it.
	Unknown string `json:"unknown,omitempty"`
}

// Gang is what a rank of a job on several nodes learns of the others.
type Gang struct {
	Rank  int      `json:"rank"`
	Hosts []string `json:"hosts"` // addresses of all ranks' nodes, its own included
	Port  int      `json:"port"`  // for rank 0 to listen on
}

// Cancel asks to end the attempt of assignment Target. If the assignment has
// not come yet, it is refused when it comes. The node answers with a Finished
// for Target in either case, unless it has reported one already.
type Cancel struct {
	Target int64  `json:"target"`
	Reason string `json:"reason"`
	// IfWaiting asks for the assignment back only if nothing of it has begun. The node answers
	// with nothing else than what it reports anyway if it has.
	IfWaiting bool `json:"ifWaiting,omitempty"`
}

// Report is one message on `node-events`: facts about the node that sent it.
type Report struct {
	V     int          `json:"v"`
	Pool  string       `json:"pool"`
	VMID  string       `json:"vmid"` // lower case
	Seen  int64        `json:"seen"` // highest N of this node's journal when the report was written
	Items []ReportItem `json:"items"`
}

// ReportItem is one fact. Exactly one field is set.
type ReportItem struct {
	Booting  *Booting      `json:"booting,omitempty"`
	Ready    *Ready        `json:"ready,omitempty"`
	Started  *Started      `json:"started,omitempty"`
	Finished *Finished     `json:"finished,omitempty"`
	Holds    *Holds        `json:"holds,omitempty"`
	Leaving  *Leaving      `json:"leaving,omitempty"`
	Session  *SessionState `json:"session,omitempty"`
}

// Ready says that the agent has come up and takes work. It is sent at every
// start of the agent, with another Boot each time.
type Ready struct {
	Name string `json:"name"` // instance name in the scale set
	Size string `json:"size"` // VM size, as the node knows it; "" = unknown
	CPUs int    `json:"cpus"` // processors the agent offers
	// Version is the release of the agent, for the log; "" = one that did not say it.
	Version string `json:"version,omitempty"`
	// Address is where other nodes find it; "" = not known.
	Address string `json:"address,omitempty"`
	Boot    string `json:"boot"` // unique for each start of the agent
	// Counter asks for the pool's counter: the journal is new, or was damaged, so
	// that it may have forgotten assignments. None is taken before the answer.
	Counter bool `json:"counter,omitempty"`
	// Features are those of the messages that the agent understands, such as
	// FeatureSecrets. An agent of the first release says none.
	Features []string `json:"features,omitempty"`
	// Versions are those of the protocol that the agent reads. An agent of the first
	// release says none, and reads 1.
	Versions []int `json:"versions,omitempty"`
	// HostKeys are the public keys of the node's own SSH server, as lines of OpenSSH, at
	// most 4; nil = it has none.
	HostKeys []string `json:"hostKeys,omitempty"`
	// Listens is where its door listens; nil = it does not.
	Listens *Listens `json:"listens,omitempty"`
	// Missing says what sessions of people lack on the node, by MissingSSH and others, and why,
	// in a sentence for people.
	Missing map[string]string `json:"missing,omitempty"`
}

// Started says that an attempt's process runs.
type Started struct {
	N  int64     `json:"n"`
	At time.Time `json:"at"`
}

// Finished says how an attempt ended. It is repeated until it is acknowledged.
type Finished struct {
	N         int64        `json:"n"`
	State     string       `json:"state"` // an attempt state: succeeded, failed, cancelled, timedOut, evicted, startFailed, agentRestarted
	ExitCode  int          `json:"exitCode"`
	Cause     job.Cause    `json:"cause,omitempty"` // of startFailed and agentRestarted: what went wrong; it says whose fault it was
	Reason    string       `json:"reason,omitempty"`
	StartedAt time.Time    `json:"startedAt,omitzero"` // zero: never started
	EndedAt   time.Time    `json:"endedAt"`
	LogsCut   *job.LogsCut `json:"logsCut,omitempty"` // nil = its logs are whole
	File      string       `json:"file,omitempty"`    // of an attempt that was to read its source's own jobs: job.SourceFile, whole
}

// Leaving says that the node's VM is about to be taken away: the pool places nothing
// on it any more. What it runs ends as evicted.
type Leaving struct {
	Event  string    `json:"event"` // Preempt or Terminate, as the Scheduled Event is called
	At     time.Time `json:"at"`    // not before
	Reason string    `json:"reason"`
}

// Holds lists the numbers of all assignments the node has, ended ones included
// until the pool has acknowledged their end: the whole list, so that what is
// missing is known to be missing, whatever order the reports arrive in.
type Holds struct {
	N []int64 `json:"n"`
	// Lost is the counter that the agent was given last: what has a number up to it
	// and is not in the list may have run, and been forgotten. 0 = nothing was.
	Lost int64 `json:"lost,omitempty"`
}

// DecodeWork reads the body of a message on `work`, refusing what is too long, of a
// version that this program does not read, or not of this shape. A field that it does not
// know may say where or how a process has to run: an assignment with one is marked as
// Unknown. Other unknown fields are passed over.
func DecodeWork(body []byte) (Work, error) {
	var w Work
	if err := decode(body, &w, func() int { return w.V }); err != nil {
		return w, err
	}
	var raw struct {
		Items []struct {
			Assign json.RawMessage `json:"assign"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return w, fmt.Errorf("message cannot be read: %w", err)
	}
	for i, item := range raw.Items {
		if a := w.Items[i].Assign; a != nil {
			a.Unknown = cmp.Or(unknownField(item.Assign), a.Unknown)
		}
	}
	return w, nil
}

// unknownField is the first field of an assignment that this release does not know; "" =
// it knows all of them.
func unknownField(raw []byte) string {
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	err := strict.Decode(&Assignment{})
	if err == nil {
		return ""
	}
	if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
		return strings.Trim(name, `"`)
	}
	return "?"
}

// DecodeReport reads the body of a message on `node-events`.
func DecodeReport(body []byte) (Report, error) {
	var r Report
	err := decode(body, &r, func() int { return r.V })
	if err == nil && (r.Pool == "" || r.VMID == "") {
		err = fmt.Errorf("a report names its pool and its vmid")
	}
	return r, err
}

func decode(body []byte, into any, version func() int) error {
	if len(body) > MaxBytes {
		return fmt.Errorf("message of %d bytes; at most %d are read", len(body), MaxBytes)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("message cannot be read: %w", err)
	}
	if v := version(); v < OldestVersion || v > Version {
		return fmt.Errorf("message of version %d; this program reads %s", v, versionsText(Versions()))
	}
	return nil
}
