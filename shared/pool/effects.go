package pool

import (
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

// Effects is what the driver does after the rows are committed. It is harmless to do
// any of it twice, and all of it can be derived from the rows again.
type Effects struct {
	Work     map[string][]protocol.WorkItem // to nodes, by VMID
	Sets     map[string]*SetCalls           // calls to scale sets, by Set.Name
	Remove   []*Node                        // delete these instances by name
	List     bool                           // list the scale sets that are used
	LookUp   []string                       // find out what became of these jobs, by id, and subscribe to the ends of those of other pools
	LookAt   []string                       // find out what became of these jobs, which are said to have ended; do not subscribe again
	Notify   map[string][]string            // notify other pools, by name, that these jobs have ended, by id
	Fence    []string                       // VMIDs of silent nodes: try to take their sessions
	Network  *Network                       // compare the network with this, and change what differs; nil = do not look
	DropRows bool                           // nothing is left: delete the rows
	WakeAt   time.Time                      // schedule a tick; zero = none
	RecordAt time.Time                      // schedule the ledger; zero = none
}

// SetCalls are the calls to make for one scale set.
type SetCalls struct {
	Set      Set
	Grow     int    // capacity to ask for; 0 = ask for none
	Shrink   bool   // lower the capacity to the number of listed instances
	Poll     string // token of the operation to poll
	PollKind string // its kind
	Drop     bool   // delete it
	Model    bool   // write its model
}

// Refusal is a registered job that the pool cannot take, and why.
type Refusal struct {
	Order, ID string
	Err       *fault.Error
}
