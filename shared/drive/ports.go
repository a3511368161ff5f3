package drive

import (
	"context"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Store keeps the rows of a pool. Errors carry a fault code. The implementation
// repeats what is safe to repeat; the driver repeats a step after fault.Conflict and
// returns every other error to its caller, whose message then comes again.
type Store interface {
	// LoadInto reads all live rows of a pool as one version. It hands the jobs over page by page, and the
	// partition has none. fault.NotFound: there is no such pool.
	LoadInto(ctx context.Context, name string, jobs pool.JobSink) (*pool.Partition, pool.Version, error)

	// Head reads which version is current. fault.NotFound: there is no such pool.
	Head(ctx context.Context, name string) (pool.Version, error)

	// ChangesSince reads what has changed since a version, and the rows under keys
	// besides, as one version. live is about how many rows LoadInto would read. False
	// means that the pool must be loaded instead.
	ChangesSince(ctx context.Context, name string, from pool.Version, keys []string, live int) (*pool.Delta, pool.Version, bool, error)

	// Commit writes one step in one transaction, on condition that v is current.
	// fault.Conflict: another writer has moved the head. (When the answer was lost and
	// another writer committed after it, the step was written all the same.) After any other
	// error nobody knows whether it was written.
	Commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change) (pool.Version, error)

	// FinishedJob reads the row of a finished job. fault.NotFound: the job has not
	// ended, or its row is gone already.
	FinishedJob(ctx context.Context, name, order string) (*pool.Job, error)

	// EndStates says in which pools jobs are and how they have ended, by their ids, also
	// when their rows are gone.
	EndStates(ctx context.Context, ids []string) (map[string]pool.EndState, error)

	// DeletePool deletes all rows of a pool whose head says Deleting.
	DeletePool(ctx context.Context, name string) error
}

// Bus sends what a step has decided. It repeats what fails for a moment. An error
// means that some of it may not have been sent; the driver sends it again with the
// next call for the pool.
type Bus interface {
	// Work sends items, in order, to the session of a node.
	Work(ctx context.Context, session string, items []protocol.WorkItem) error

	// Wake sends a message that wakes the pool at a time; kind is WakeTick or
	// WakeRecord. After a lost wake-up, a timer wakes the pool.
	Wake(ctx context.Context, name, kind string, at time.Time) error

	// Subscribe asks another pool to notify the pool `by` when these jobs have ended, and
	// Ended notifies a pool that they have. Both are hints: after a lost one, the ticks of
	// the pool in which others wait find out.
	Subscribe(ctx context.Context, name, by string, ids []string) error
	Ended(ctx context.Context, name string, ids []string) error

	// Fence takes the session of a node and marks it. False: its agent holds it.
	Fence(ctx context.Context, session string) (bool, error)
}

// Kinds of wake-ups.
const (
	WakeTick      = "tick"      // drive the pool
	WakeRecord    = "record"    // copy what the pool has noted for the ledger
	WakeSubscribe = "subscribe" // another pool waits for jobs of this one: pool.Subscribe
	WakeEnded     = "ended"     // jobs of another pool have ended: pool.Ended
)

// Fleet lists and changes the scale sets of a pool; set is pool.Set.Name. A call is one
// attempt. Its outcome, also an error, goes to the step as an event, and the step
// decides whether to try again. Errors carry a fault code.
type Fleet interface {
	// List reads all instances of a set. It says which model the set has, and, from spec
	// and set, which one this deployment would write.
	List(ctx context.Context, name string, spec pool.Spec, set pool.Set) (pool.Listed, error)

	// Grow raises the capacity of a set to target, a number of instances in all; it
	// creates the set where there is none. If this deployment would write another model
	// than the set has, it writes that with the capacity, as UpdateModel does, so that new
	// instances are never made from an old model.
	Grow(ctx context.Context, name string, spec pool.Spec, set pool.Set, target int) (Operation, error)

	// Shrink lowers the capacity of a set to the number of instances that a list has
	// just shown, for a set whose instances never came.
	Shrink(ctx context.Context, name, set string, listed int) (Operation, error)

	// UpdateModel writes the model of a set that is there, and leaves its capacity and its
	// instances as they are: those that come later are made with it. It writes nothing over
	// the model of a later deployment. fault.Immutable: such a set cannot be changed; it has
	// to be dropped and made again.
	UpdateModel(ctx context.Context, name string, spec pool.Spec, set pool.Set) (Operation, error)

	// Remove deletes instances by name. Lists show when they are gone.
	Remove(ctx context.Context, name, set string, nodes []*pool.Node) error

	// Drop deletes a set that is empty.
	Drop(ctx context.Context, name, set string) (Operation, error)

	// Poll looks at an operation once. An error says how the operation failed;
	// fault.Gone: Azure does not know it any more. If the operation could not be polled,
	// that is no error: it is returned as it was.
	Poll(ctx context.Context, token string) (Operation, error)
}

// Operation is what a call to a scale set has begun. The zero Operation has ended.
type Operation struct {
	Token string        // for Poll; "" = it has ended
	After time.Duration // how long to wait before the next look
}

// Network opens the nodes of interactive pools to people who come in beside the relay, and closes
// them again. An error goes to the step, which has it called again.
type Network interface {
	// Open compares all that a pool has in the network with want, and makes the changes that can
	// be made now. It removes what is not wanted, whoever has left it there. after: Azure works on
	// it, look again after so long; 0 = it is as it is wanted. address is the balancer's,
	// HOST:PORT for people; "" = it has none.
	Open(ctx context.Context, name string, want pool.Network) (address string, after time.Duration, err error)
}

// Ledger copies what a pool has noted for the ledger. The driver calls it before it
// deletes the rows of a pool. After an error the rows stay, and the next step has them
// deleted again.
type Ledger interface {
	Record(ctx context.Context, name string) error
}
