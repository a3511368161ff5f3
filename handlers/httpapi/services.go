// Package httpapi serves the HTTP API: jobs, pools, nodes, logs, usage, and the
// pushes of Git hosts with their rules. It reads requests, calls the use cases of
// shared/service through the interfaces below, and writes JSON or problem documents.
// It holds no rule about jobs or pools, and it checks no key: the host has done that
// before a request gets here.
package httpapi

import (
	"context"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Services are the use cases that the API stands on. Their errors are *fault.Error
// where the caller can do something about them; any other error is answered as
// internal and written to the log. The API retries nothing.
type Services struct {
	Jobs   Jobs
	Pools  Pools
	Nodes  Nodes
	Usage  Usage
	Pushes Pushes
}

// Jobs submits, cancels, releases, shows and explains jobs.
type Jobs interface {
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
	CancelAll(ctx context.Context, f wire.JobFilter) (int, error)
	// Job finds a job in any state, rejected ones included.
	Job(ctx context.Context, id string) (*pool.Job, error)
	// Explain says why a job is where it is, whatever its state.
	Explain(ctx context.Context, id string) (wire.Explanation, error)
	// List lists at most limit jobs that pass the filter, newest first within a
	// pool, and the token that continues the list, "" at its end. A token it
	// cannot read is invalid, with the field "continue".
	List(ctx context.Context, f wire.JobFilter, limit int, cont string) ([]*pool.Job, string, error)
}

// Pools shows, explains, applies, resumes and deletes pools.
type Pools interface {
	// Pools returns the pool of that name, or all for "".
	Pools(ctx context.Context, name string) ([]wire.PoolSummary, error)
	// ExplainPool says why a pool has the size it has.
	ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error)
	// ApplyPool creates a pool or changes it to the spec.
	ApplyPool(ctx context.Context, spec pool.Spec) (wire.PoolSummary, error)
	// Resume ends the pauses in which a pool asks for no nodes; of one that has none
	// it is no error. An unknown pool is notFound.
	Resume(ctx context.Context, name string) (wire.PoolSummary, error)
	// Delete begins to delete a pool.
	Delete(ctx context.Context, name string) error
}

// Nodes brings operators' commands to nodes.
type Nodes interface {
	// CommandNode brings an operator's command to a node, which is named by its name or
	// its id, and returns the node as it is then. pool is the node's, or "" for any. A
	// node that is leaving or gone already is no error; of several nodes of one name it
	// is a conflict.
	CommandNode(ctx context.Context, pool, node string, verb pool.Verb) (wire.Node, error)
}

// Usage reports from the ledger.
type Usage interface {
	// Usage reports on what ended in from <= t < to.
	Usage(ctx context.Context, from, to time.Time, by string) ([]usage.Group, error)
}

// Pushes takes the pushes of Git hosts, and keeps their rules.
type Pushes interface {
	// Expects reports whether a delivery with this proof may turn out to be good, before
	// its body is read: some rule for the provider names a secret that is there, and is
	// the one that was sent where the proof is the secret itself.
	Expects(ctx context.Context, provider push.Provider, proof push.Proof) (bool, error)
	// Push takes a delivery whose headers carry the proof; push.ErrProof: no rule's
	// secret made it. Nothing of the body is read before the proof is found to be good,
	// and none of it is kept. It returns when all that the delivery starts is on the
	// queue; the same delivery again changes nothing.
	Push(ctx context.Context, provider push.Provider, header push.Header, proof push.Proof, body []byte) (wire.PushAnswer, error)
	// Rules lists the rules by name.
	Rules(ctx context.Context) ([]wire.Rule, error)
	// Rule returns one rule.
	Rule(ctx context.Context, name string) (wire.Rule, error)
	// ApplyRules creates or changes rules. It returns them as they are then.
	ApplyRules(ctx context.Context, rules []push.Rule) ([]wire.Rule, error)
	// DeleteRule removes a rule. What it has started goes on.
	DeleteRule(ctx context.Context, name string) error
}
