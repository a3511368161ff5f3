package scheduler

import (
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/usage"
)

// maxRows bounds the rows that one step may change, with the head and the ledger row: a
// transaction of Table Storage takes 100. Room for indivisibleRows stays free: the rows
// of one indivisible change (the end of a member: two rows of the job, two of its sweep,
// and a node).
const (
	maxRows         = 98
	indivisibleRows = 6
)

// transaction collects the rows that a step changes, and the effects that follow after
// they are committed.
type transaction struct {
	jobRows     map[string]pool.Change // by key
	nodeRows    map[string]*Node       // by VMID
	onlyUse     map[string]bool        // of nodeRows: nothing but the NodeUse has changed
	deletedKeys []string               // of nodes and log rows
	entries     []usage.Entry          // for the ledger
	effects     pool.Effects
	full        bool // something did not fit; the next step does it
}

func newTransaction() *transaction {
	return &transaction{
		jobRows:  map[string]pool.Change{},
		nodeRows: map[string]*Node{},
		onlyUse:  map[string]bool{},
		effects:  pool.Effects{Work: map[string][]protocol.WorkItem{}},
	}
}

// rowCount is the number of rows the transaction has so far, head and log included.
func (tx *transaction) rowCount() int {
	return len(tx.jobRows) + len(tx.nodeRows) + len(tx.deletedKeys) + 2
}

// hasRoom reports whether another indivisible change fits. If not, the driver runs another
// step.
func (tx *transaction) hasRoom() bool {
	if tx.rowCount()+indivisibleRows > maxRows {
		tx.full = true
		return false
	}
	return true
}

// hasRoomFor reports whether an indivisible change of so many nodes fits.
func (tx *transaction) hasRoomFor(nodes int) bool {
	if tx.rowCount()+max(nodes+2, indivisibleRows) > maxRows {
		tx.full = true
		return false
	}
	return true
}

// touchNode marks a node's row as changed.
func (tx *transaction) touchNode(n *Node) {
	tx.nodeRows[n.VMID] = n
	delete(tx.onlyUse, n.VMID)
}

// touchUse marks the NodeUse of a node as changed.
func (tx *transaction) touchUse(n *Node) {
	if tx.nodeRows[n.VMID] == nil {
		tx.nodeRows[n.VMID], tx.onlyUse[n.VMID] = n, true
	}
}

// forgetLogs deletes facts that are in the ledger, and returns those for which there was no room.
func (tx *transaction) forgetLogs(e pool.Recorded) pool.Recorded {
	for ; len(e.Seqs) > 0 && tx.hasRoom(); e.Seqs = e.Seqs[1:] {
		tx.deletedKeys = append(tx.deletedKeys, pool.LogKey(e.Seqs[0]))
	}
	for ; len(e.Pages) > 0 && tx.hasRoom(); e.Pages = e.Pages[1:] {
		tx.deletedKeys = append(tx.deletedKeys, pool.LogPageKey(e.Pages[0]))
	}
	return e
}

// writeJob marks a live job's row as changed.
func (tx *transaction) writeJob(j *Job) {
	if j.alone != "" {
		panic("job " + j.Order + " was changed while it was packed")
	}
	c := tx.jobRows[pool.JobKey(j.Order)]
	tx.jobRows[pool.JobKey(j.Order)] = pool.Change{Key: pool.JobKey(j.Order), Value: j.Job, Insert: c.Insert}
}

// callsOf returns the calls that a step makes for one set, to add to them.
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
