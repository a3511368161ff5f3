package pool

import (
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

// Effects is what is to be done once the rows are committed. Doing any of it
// twice is harmless, and all of it can be derived from the rows again.
type Effects struct {
	Work     map[string][]protocol.WorkItem // to nodes, by VMID
	Sets     map[string]*SetCalls           // calls to scale sets, by Set.Name
	Remove   []*Node                        // delete these instances by name
	List     bool                           // look at the scale sets that are used
	LookUp   []string                       // find out what became of these jobs, by id
	Fence    []string                       // VMIDs whose session is to be taken
	DropRows bool                           // nothing is left: delete the rows
	WakeAt   time.Time                      // schedule a tick; zero = none
	RecordAt time.Time                      // schedule the ledger; zero = none
}

// SetCalls is what is wanted of one scale set.
type SetCalls struct {
	Set      Set
	Grow     int    // capacity to ask for; 0 = nothing
	Shrink   bool   // write the capacity down to what is listed
	Poll     string // token of the operation to look at
	PollKind string // its kind
	Drop     bool   // delete it
}

// Refusal is a job that was registered and cannot be taken.
type Refusal struct {
	Order, ID string
	Err       *fault.Error
}
