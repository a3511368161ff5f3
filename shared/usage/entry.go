// Package usage computes the ledger: what was used, by whom, for how long and at
// which price. It turns facts about ended attempts and node intervals into rows
// and reports, for the store, the use cases and the command line. It is pure: it
// never reads a clock or a table, and it never takes an unknown price for zero.
package usage

import (
	"strconv"
	"strings"
	"time"
)

// Kinds of entries.
const (
	KindAttempt = "attempt" // one attempt of a job on a node
	KindNode    = "node"    // one interval of a node's billed life
)

// UnknownPrice stands for a price that nobody knows. It never counts as zero.
const UnknownPrice = "unknown"

// Entry is one fact for the ledger, written by the pool in the same
// transaction as the change it is about, and copied into the usage table
// afterwards. Kind, Pool and Key together are unique and never change, so that
// an entry may be copied any number of times.
type Entry struct {
	Kind     string            `json:"kind"`
	Key      string            `json:"key"` // attempt: <order>!<number>; node: <vmid>!<from>
	Pool     string            `json:"pool"`
	Team     string            `json:"team,omitempty"`
	User     string            `json:"user,omitempty"`
	Job      string            `json:"job,omitempty"`
	JobName  string            `json:"jobName,omitempty"`
	Attempt  int               `json:"attempt,omitempty"`
	State    string            `json:"state,omitempty"` // attempt state
	ExitCode int               `json:"exitCode,omitempty"`
	Node     string            `json:"node"`
	VMID     string            `json:"vmid"`
	Size     string            `json:"size"`
	Spot     bool              `json:"spot,omitempty"`
	CPUs     int               `json:"cpus,omitempty"`     // attempt: what it held
	NodeCPUs int               `json:"nodeCpus,omitempty"` // what the node has; 0 = unknown
	GPUs     int               `json:"gpus,omitempty"`
	NodeGPUs int               `json:"nodeGpus,omitempty"`
	Memory   int64             `json:"memory,omitempty"` // bytes that were kept free for it
	NodeMem  int64             `json:"nodeMemory,omitempty"`
	From     time.Time         `json:"from"` // attempt: started; node: begin of the interval
	To       time.Time         `json:"to"`
	Boot     time.Duration     `json:"boot,omitempty"` // node: how the interval was spent
	Busy     time.Duration     `json:"busy,omitempty"`
	Idle     time.Duration     `json:"idle,omitempty"`
	Draining time.Duration     `json:"draining,omitempty"` // draining and deleting
	Phases   Phases            `json:"phases,omitempty"`   // node: in which order; see Phases
	Price    string            `json:"price"`              // per hour of the whole node, decimal, or UnknownPrice
	Currency string            `json:"currency"`           // ISO 4217
	Parts    Parts             `json:"parts,omitzero"`     // of Price
	Labels   map[string]string `json:"labels,omitempty"`
}

// Parts say what the price of a node is made of. All are empty in rows of earlier releases.
type Parts struct {
	VM      string `json:"vm,omitempty"`      // per hour, decimal or UnknownPrice
	Disk    string `json:"disk,omitempty"`    // of its managed OS disk; "" = it has none
	Address string `json:"address,omitempty"` // of its public address; "" = it has none
	Source  string `json:"source,omitempty"`  // retail, manual, builtin or unknown: that of the least sure part
}

// AttemptKey is the Key of an attempt on one node, by the order of its job and its number.
func AttemptKey(order string, number int) string { return order + "!" + strconv.Itoa(number) }

// RankKey is the Key of one node's part of an attempt of a job on several nodes.
func RankKey(order string, number, rank int) string {
	return AttemptKey(order, number) + "!" + strconv.Itoa(rank)
}

// Identity is what distinguishes an entry from all others, also while it still runs.
func (e *Entry) Identity() string { return e.Pool + "!" + e.Kind + "!" + e.Key }

// sweep is the id of the sweep that an attempt's job is a member of; "" = it is none. The
// order of a member, with which its key begins, has a point, and that of another job has
// none: an id may have one in any case.
func (e *Entry) sweep() string {
	order, _, _ := strings.Cut(e.Key, "!")
	if !strings.Contains(order, ".") {
		return ""
	}
	return e.Job[:max(strings.LastIndexByte(e.Job, '.'), 0)]
}
