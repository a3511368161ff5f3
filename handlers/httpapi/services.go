// Package httpapi serves the HTTP API: jobs, pools, nodes, sessions, logs, usage, and the
// pushes of Git hosts with their rules. It reads requests, calls the use cases of
// shared/service through the interfaces below, and writes JSON or problem documents.
// It holds no rule about jobs or pools, and it checks no key: the host has done that
// before a request below /api gets here. It finds who calls, and each route says which role
// that needs; below /web/api, where the host asks for nothing, only people who have signed
// in are let in.
package httpapi

import (
	"context"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
	"dsvmpools/shared/tree"
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
	Doctor Doctor
	Trees  Trees

	Rejected Rejected
	Sessions Sessions
	Overview Overview
	Budgets  Budgets

	Access Access
	Users  Users  // nil = people have no accounts
	Audit  Audit  // nil = no trail is kept
	Prices Prices // nil = nobody asks for prices
}

// Prices shows, refreshes and sets what nodes cost.
type Prices interface {
	// All are the prices of what the pools use, first, and of all else that is known.
	All(ctx context.Context) ([]wire.Price, error)
	// Refresh asks Azure's price list. fault.Throttled: it does not answer.
	Refresh(ctx context.Context) (wire.PricesRefreshed, error)
	// Set sets a price by hand, or, without one, takes that back. What names nothing is invalid.
	Set(ctx context.Context, s wire.SetPrice) (wire.Price, error)
}

// Budgets keeps the budgets. A budget that is not there is notFound.
type Budgets interface {
	// Budgets lists the budgets by name, as they stood when the app looked last.
	Budgets(ctx context.Context) ([]wire.Budget, error)
	// Budget returns one budget.
	Budget(ctx context.Context, name string) (wire.Budget, error)
	// ApplyBudgets creates or changes budgets, and tells the pools. It returns them as they are then.
	ApplyBudgets(ctx context.Context, budgets []budget.Budget) ([]wire.Budget, error)
	// RaiseBudget gives a budget a higher amount, and tells the pools. Conflict: somebody else has
	// changed it meanwhile.
	RaiseBudget(ctx context.Context, name string, raise wire.BudgetRaise) (wire.Budget, error)
	// DeleteBudget removes a budget, and tells the pools.
	DeleteBudget(ctx context.Context, name string) error
}

// Sessions opens, shows and ends the sessions of people, and lets their owners in. The
// caller is in the context. A session that is not there is notFound; what only its owner
// may do is forbidden to others.
type Sessions interface {
	// Open returns the live session of the caller in a pool, or makes one: isNew. A pool
	// that is not there is notFound, one that runs jobs is invalid.
	Open(ctx context.Context, pool, team string) (s wire.Session, isNew bool, err error)
	// Rejoin returns the live session of the caller in a pool and makes none:
	// fault.SessionEnded.
	Rejoin(ctx context.Context, pool string) (wire.Session, error)
	// List lists the live sessions by pool, account and id; "" stands for any.
	List(ctx context.Context, pool, user string) ([]wire.Session, error)
	// Session finds a session in any state.
	Session(ctx context.Context, id string) (wire.Session, error)
	// Explain says why a session is where it is.
	Explain(ctx context.Context, id string) (wire.Explanation, error)
	// Stop asks for a session to end; of one that has ended it is no error.
	Stop(ctx context.Context, id string) (wire.Session, error)
	// Extend has a session kept for a time from now.
	Extend(ctx context.Context, id string, by time.Duration) (wire.Session, error)
	// Certificate signs a key for SSH. A session that is not ready is a conflict.
	Certificate(ctx context.Context, id, publicKey string) (wire.SessionCertificate, error)
	// Lab returns where its JupyterLab is. A session that is not ready is a conflict.
	Lab(ctx context.Context, id string) (wire.SessionLab, error)
	// Desktop returns the way to its desktop, with a password that is sealed to the key. A
	// session that is not ready, or has none, is a conflict.
	Desktop(ctx context.Context, id, publicKey string) (wire.SessionDesktop, error)
}

// Trees takes in the folders that jobs start in.
type Trees interface {
	// Missing says which trees and blobs are not there. What is there stays for long
	// enough to be named by a tree and by a job.
	Missing(ctx context.Context, q wire.TreeQuestion) (wire.TreeAnswer, error)
	// PutPack keeps a pack whose bytes have the hash. What is no pack is invalid. The body
	// is not kept after the call.
	PutPack(ctx context.Context, h tree.Hash, pack []byte) error
	// PutTree keeps a tree whose bytes have the hash. A tree that breaks a rule is invalid;
	// one whose blobs are not all there is a wire.Problem that names them.
	PutTree(ctx context.Context, h tree.Hash, body []byte) error
}

// Doctor looks at what the deployment needs.
type Doctor interface {
	// Diagnose returns a row for each check. It takes some seconds, two minutes at most.
	Diagnose(ctx context.Context) []wire.Check
}

// Jobs submits, cancels, releases, shows and explains jobs.
type Jobs interface {
	// Submit registers a job and drives its pool. The spec always has an id. The
	// same document under the same id is the same job; another one is a conflict.
	// An unknown pool is notFound.
	Submit(ctx context.Context, spec job.Spec) (*pool.Job, error)
	// SubmitAll takes jobs in, each for itself, and returns in their order why one was not
	// taken; nil = it was. All specs have ids. A job may come after one that is earlier in
	// the list.
	SubmitAll(ctx context.Context, specs []job.Spec) []error
	// DryRun says what Submit would do, and writes nothing. What Submit would refuse it
	// refuses with the same error. The spec may be without an id.
	DryRun(ctx context.Context, spec job.Spec) (wire.DryRun, error)
	// Cancel asks for a job to end; for one that has ended it is no error. It
	// returns the job as it is then.
	Cancel(ctx context.Context, id string) (*pool.Job, error)
	// Release lets a job or a sweep go on that somebody holds, a job that is held since
	// its attempts came to nothing on several nodes, and a sweep that is held since its
	// members fail; for any other it is no error. It returns the job as it is then.
	Release(ctx context.Context, id string) (*pool.Job, error)
	// Hold keeps a job that waits from starting, and a sweep from beginning more members,
	// until it is released. One that does not wait is a conflict.
	Hold(ctx context.Context, id string) (*pool.Job, error)
	// SetPriority gives a job, and the members of a sweep, another place in line. One that
	// has ended is a conflict.
	SetPriority(ctx context.Context, id string, p job.Priority) (*pool.Job, error)
	// Rerun submits the document of a job again under a new id, and returns the new job.
	// A job whose document is not kept is a conflict.
	Rerun(ctx context.Context, id string) (*pool.Job, error)
	// Rows says why jobs of a list wait, and what they have cost, in their order.
	Rows(ctx context.Context, jobs []*pool.Job) ([]wire.JobRow, error)
	// Find finds jobs by their ids. It leaves out those that there are not.
	Find(ctx context.Context, ids []string) ([]*pool.Job, error)
	// Certificate signs a key for SSH into the running attempt of a job, on the node of a rank,
	// for the person who calls. A job that does not run is a conflict.
	Certificate(ctx context.Context, id, publicKey string, rank int) (wire.SessionCertificate, error)
	// CancelAll asks all jobs to end that pass the filter, of which team or user is
	// set, and returns how many were alive.
	CancelAll(ctx context.Context, f wire.JobFilter) (int, error)
	// Job finds a job in any state, rejected ones included.
	Job(ctx context.Context, id string) (*pool.Job, error)
	// Explain says why a job is where it is, whatever its state.
	Explain(ctx context.Context, id string) (wire.Explanation, error)
	// List lists jobs that pass the filter, the newest first over all pools, or in the order
	// that is asked for. A token it cannot read is invalid, with the field "continue"; a
	// pool that is not there is notFound.
	List(ctx context.Context, q wire.JobQuery) (wire.JobPage, error)
}

// Pools shows, explains, applies, resumes and deletes pools.
type Pools interface {
	// Pools returns the pool of that name, or all for "". Here and below, a name that no
	// pool has, or can have, is notFound.
	Pools(ctx context.Context, name string) ([]wire.PoolSummary, error)
	// ExplainPool says why a pool has the size it has.
	ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error)
	// ApplyPool creates a pool or changes it to the spec.
	ApplyPool(ctx context.Context, spec pool.Spec) (wire.PoolSummary, error)
	// Check has Azure judge what a pool of the spec would be, without making it. It
	// returns a row for each scale set, and takes half a minute.
	Check(ctx context.Context, spec pool.Spec) ([]wire.Check, error)
	// PlanApply says what ApplyPool would change and end, and writes nothing.
	PlanApply(ctx context.Context, spec pool.Spec) (wire.PoolPlan, error)
	// Resume ends the pauses in which a pool asks for no nodes; of one that has none
	// it is no error. An unknown pool is notFound.
	Resume(ctx context.Context, name string) (wire.PoolSummary, error)
	// Delete begins to delete a pool.
	Delete(ctx context.Context, name string) error
}

// Nodes brings operators' commands to nodes, and shows their consoles.
type Nodes interface {
	// CommandNode brings an operator's command to a node, which is named by its name or
	// its id, and returns the node as it is then. pool is the node's, or "" for any. A
	// node that is leaving or gone already is no error; of several nodes of one name it
	// is a conflict.
	CommandNode(ctx context.Context, pool, node string, verb pool.Verb) (wire.Node, error)
	// Certificate signs a key for SSH to a node as a whole, for the person who calls. A node that
	// nobody can come to is a conflict.
	Certificate(ctx context.Context, pool, node, publicKey string) (wire.SessionCertificate, error)
	// Console returns the end of a node's serial console, 1 MiB at most. A node that is
	// gone is gone, one that has written nothing yet is notFound.
	Console(ctx context.Context, pool, node string) ([]byte, error)
}

// Usage reports from the ledger.
type Usage interface {
	// Report reports on what has ended in a time, and on what still runs if that time has
	// not passed.
	Report(ctx context.Context, q usage.Query) (usage.Report, error)
	// JobCost is what a job has cost until now.
	JobCost(ctx context.Context, j *pool.Job) (wire.JobCost, error)
	// CheckSums compares the sums of days with the rows, the latest first, for some seconds.
	CheckSums(ctx context.Context, q wire.SumsQuery) (wire.SumsChecked, error)
	// RebuildSums builds the sums of days again from the rows, the latest first, for some
	// seconds.
	RebuildSums(ctx context.Context, q wire.SumsQuery) (wire.SumsRebuilt, error)
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
