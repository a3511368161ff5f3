// Package httpapi serves the HTTP API: jobs, pools, nodes, logs, usage, and the
// pushes of Git hosts with their rules. It reads requests, asks its Backend, and
// writes JSON or problem documents. It holds no rule about jobs or pools, and it
// checks no key: the host has done that before a request gets here.
package httpapi

import (
	"context"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Backend is what the API stands on. Its errors are *fault.Error where the
// caller can do something about them; any other error is answered as internal
// and written to the log. The API retries nothing.
type Backend interface {
	Pushes
	// Submit registers a job and drives its pool. The spec always has an id. The
	// same document under the same id is the same job; another one is a conflict.
	// An unknown pool is notFound.
	Submit(ctx context.Context, spec job.Spec) (*pool.Job, error)
	// Cancel asks for a job to end; for one that has ended it is no error. It
	// returns the job as it is then.
	Cancel(ctx context.Context, id string) (*pool.Job, error)
	// Release lets a job go on that is held since its attempts came to nothing on
	// several nodes, or a sweep that is held since its members fail; for any other it
	// is no error. It returns the job as it is then.
	Release(ctx context.Context, id string) (*pool.Job, error)
	// CancelAll asks all jobs to end that pass the filter, of which team or user is
	// set, and returns how many were alive.
	CancelAll(ctx context.Context, f JobFilter) (int, error)
	// Job finds a job in any state, rejected ones included.
	Job(ctx context.Context, id string) (*pool.Job, error)
	// Explain says why a job is where it is, whatever its state.
	Explain(ctx context.Context, id string) (wire.Explanation, error)
	// ExplainPool says why a pool has the size it has.
	ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error)
	// Jobs lists at most limit jobs that pass the filter, newest first within a
	// pool, and the token that continues the list, "" at its end. A token it
	// cannot read is invalid, with the field "continue".
	Jobs(ctx context.Context, f JobFilter, limit int, cont string) ([]*pool.Job, string, error)
	// Pools returns the pool of that name, or all for "".
	Pools(ctx context.Context, name string) ([]PoolSummary, error)
	// Apply creates a pool or changes it to the spec.
	Apply(ctx context.Context, spec pool.Spec) (PoolSummary, error)
	// Resume ends the pauses in which a pool asks for no nodes; of one that has none
	// it is no error. An unknown pool is notFound.
	Resume(ctx context.Context, name string) (PoolSummary, error)
	// Delete begins to delete a pool.
	Delete(ctx context.Context, name string) error
	// TellNode brings an operator's word to a node, which is named by its name or its
	// id, and returns the node as it is then. pool is the node's, or "" for any. A node
	// that is leaving or gone already is no error; of several nodes of one name it is a
	// conflict.
	TellNode(ctx context.Context, pool, node string, verb pool.Verb) (wire.Node, error)
	// Usage reports on what ended in from <= t < to.
	Usage(ctx context.Context, from, to time.Time, by string) ([]usage.Group, error)
}

// JobFilter narrows a list of jobs; "" stands for any.
type JobFilter struct {
	Pool  string
	Team  string
	User  string
	State job.State
	Sweep string // id of the sweep whose members to list; without it they are left out
}

// PoolSummary is what is known of a pool when somebody asks.
type PoolSummary = wire.PoolSummary
