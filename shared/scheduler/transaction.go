package scheduler

import (
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/usage"
)

// maxRows bounds the rows one step may change, head and ledger row included:
// a transaction of Table Storage takes 100. What a single atom may add (a
// finish: two rows of a job, two of its sweep, and a node) is kept free.
const (
	maxRows         = 98
	indivisibleRows = 6
)

// transaction gathers the rows that a step changes, and the effects that follow when
// they are committed.
type transaction struct {
	jobRows     map[string]pool.Change // by key
	nodeRows    map[string]*Node       // by VMID
	deletedKeys []string               // of nodes and log rows
	entries     []usage.Entry          // for the ledger
	effects     pool.Effects
	full        bool // something did not fit and is to be done in the next step
}

func newTransaction() *transaction {
	return &transaction{
		jobRows:  map[string]pool.Change{},
		nodeRows: map[string]*Node{},
		effects:  pool.Effects{Work: map[string][]protocol.WorkItem{}},
	}
}

// rowCount is the number of rows the transaction has so far, head and log included.
func (tx *transaction) rowCount() int {
	return len(tx.jobRows) + len(tx.nodeRows) + len(tx.deletedKeys) + 2
}

// hasRoom reports whether another atom fits; when it does not, the step will be
// called again.
func (tx *transaction) hasRoom() bool {
	if tx.rowCount()+indivisibleRows > maxRows {
		tx.full = true
		return false
	}
	return true
}

// hasRoomFor reports whether an atom of so many nodes fits.
func (tx *transaction) hasRoomFor(nodes int) bool {
	if tx.rowCount()+max(nodes+2, indivisibleRows) > maxRows {
		tx.full = true
		return false
	}
	return true
}

// touchNode marks a node's row as changed.
func (tx *transaction) touchNode(n *Node) { tx.nodeRows[n.VMID] = n }

// writeJob marks a live job's row as changed.
func (tx *transaction) writeJob(j *Job) {
	c := tx.jobRows[pool.JobKey(j.Order)]
	tx.jobRows[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order), Value: j.Job, Insert: c.Insert}
}

// callsOf is what a step wants of one set.
func (tx *transaction) callsOf(set *pool.Set) *pool.SetCalls {
	if tx.effects.Sets == nil {
		tx.effects.Sets = map[string]*pool.SetCalls{}
	}
	c := tx.effects.Sets[set.Name]
	if c == nil {
		c = &pool.SetCalls{}
		tx.effects.Sets[set.Name] = c
	}
	c.Set = *set
	return c
}
