// Package service holds the use cases of the app: submit, cancel and explain a job;
// apply, resume and delete a pool; command a node and take its reports; take a push
// of a Git host and keep the rules for pushes; report to commits; copy the ledger;
// take in folders for jobs; keep the accounts of people, the prices of nodes, and the trail of who changed what; open sessions and
// let their owners in; remove what was kept for long enough; reject messages and bring them back. The
// triggers in handlers and the HTTP API in handlers/httpapi call the same methods, so
// both judge a job alike.
//
// It never reads a request or a trigger and never writes an answer. It decides nothing
// about the jobs and nodes of a pool: it brings events to shared/drive, which is the
// one way to change a pool.
package service

import (
	"context"
	"log/slog"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/push"
	"dsvmpools/shared/push/status"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
	"dsvmpools/shared/tree"
)

// Bus is Service Bus as the use cases need it. It owns its retries.
type Bus interface {
	// Send puts messages on a queue, each at its time. An error means that some of
	// them may not have been sent.
	Send(ctx context.Context, queue string, messages ...bus.Message) error
	// DeadLetters hands over up to n dead messages of a queue and completes those for
	// which fn returns no error.
	DeadLetters(ctx context.Context, queue string, n int, fn func(ctx context.Context, dead []bus.Dead) map[int]error) error
	// Peek shows up to n messages of a queue, from a sequence number on, and locks none.
	Peek(ctx context.Context, queue string, from int64, n int) ([]bus.Waiting, error)
	// Remove removes the message with a sequence number. fault.NotFound: it is not there.
	// fault.Throttled: another receiver has it.
	Remove(ctx context.Context, queue string, sequence int64) error
	// Work sends items, in order, to the session of a node.
	Work(ctx context.Context, session string, items []protocol.WorkItem) error
	// Fence takes a node's session and marks it; false: its agent holds it.
	Fence(ctx context.Context, session string) (bool, error)
	// Queues returns the names of the queues.
	Queues() bus.Queues
}

// Fleet is the scale sets as the use cases need them: what drives pools, and what people
// ask for.
type Fleet interface {
	drive.Fleet
	// Check has Azure judge what a set of a pool would be, without starting anything. It
	// takes up to a minute; the error is Azure's answer with its code, noQuota where the
	// quota has no room for one node now.
	Check(ctx context.Context, name string, spec pool.Spec, set pool.Set) error
	// Quotas says in sentences how much room the quotas have that count for a set.
	Quotas(ctx context.Context, name string, spec pool.Spec, set pool.Set) ([]string, error)
	// Console returns the end of a node's serial console. fault.NotFound: there is no
	// such instance, or it has written nothing.
	Console(ctx context.Context, name string, node *pool.Node) ([]byte, error)
}

// StatusPoster shows the state of a job at a commit of a Git host. It makes one
// attempt; a fault.Error with RetryAfter says when the host wants the next one.
type StatusPoster interface {
	Post(ctx context.Context, r status.Report) error
}

// Config is what the use cases stand on.
type Config struct {
	Store       *store.Store
	Bus         Bus
	Fleet       Fleet
	Timing      scheduler.Timing
	Region      string                                                     // of pools that name none
	Sizes       func(ctx context.Context, region string) ([]string, error) // the sizes that a region has
	Share       string                                                     // path at which the share is mounted
	Keep        Keep                                                       // how long what has ended is kept
	Trees       tree.Limits                                                // of a folder that is sent to the share; zero = default
	ReviveAfter []time.Duration                                            // see DSVM_REVIVE_AFTER
	Setting     func(name string) string                                   // a setting of the app, which a rule names; "" = it is missing
	Statuses    func(rule *push.Rule, token string) StatusPoster           // the way to the Git host of a rule
	Network     drive.Network                                              // opens nodes beside the relay; nil = such pools are refused
	NoAddresses bool                                                       // nodes have no public addresses of their own
	Doors       *Doors                                                     // how people come in; nil = there are no interactive pools
	SessionsFor string                                                     // id of who alone may open sessions; "" = all with the right
	Prices      *Prices                                                    // what nodes cost; nil = nobody asks for prices
	Log         *slog.Logger
	Now         func() time.Time // UTC; nil = the clock
}

// Service is all use cases, by noun.
type Service struct {
	Jobs       *Jobs
	Pools      *Pools
	Nodes      *Nodes
	Ledger     *Ledger
	Pushes     *Pushes
	Statuses   *CommitStatuses
	Retention  *Retention
	Rejections *Rejections
	Trees      *Trees
	Rejected   *Rejected
	Users      *Users
	Audit      *Audit
	Sessions   *Sessions
	Overview   *Overview
	Budgets    *Budgets
	Prices     *Prices // nil = nobody asks for prices
}

// New puts the use cases together around one driver.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC() }
	}
	ids := &registry{store: c.Store, log: c.Log, now: c.Now, reviveAfter: c.ReviveAfter}
	ledger := &Ledger{store: c.Store, log: c.Log, now: c.Now}
	var nodeDoors drive.Doors // a nil *Doors would be one that is there
	if c.Doors != nil {
		nodeDoors = c.Doors
	}
	driver := drive.New(drive.Config{
		Store:   driveStore{c.Store, ids},
		Bus:     driveBus{c.Bus},
		Fleet:   c.Fleet,
		Ledger:  ledger,
		Doors:   nodeDoors,
		Network: c.Network,
		Timing:  c.Timing,
		Log:     c.Log,
		Now:     c.Now,
	})
	ledger.driver = driver
	jobs := &Jobs{store: c.Store, driver: driver, ids: ids, doors: c.Doors, now: c.Now, shareRoots: shareRoots(c.Share),
		longLists: make(chan struct{}, longListsAtOnce)}
	pools := &Pools{store: c.Store, bus: c.Bus, driver: driver, region: c.Region, sizes: c.Sizes, fleet: c.Fleet, log: c.Log, now: c.Now,
		hasDoors: c.Doors != nil, hasNetwork: c.Network != nil, noAddresses: c.NoAddresses,
		prices: c.Prices}
	rules := &pushRules{store: c.Store, setting: c.Setting, log: c.Log, now: c.Now}
	sender := &jobSender{store: c.Store, bus: c.Bus, now: c.Now}
	jobFiles := &jobFiles{store: c.Store, driver: driver, sender: sender, log: c.Log}
	trees := newTrees(c.Share, c.Trees, c.Log, c.Now)
	users := &Users{store: c.Store, now: c.Now}
	rejected := &Rejected{bus: c.Bus, jobs: jobs, pools: pools, log: c.Log}
	budgets := &Budgets{store: c.Store, driver: driver, ledger: ledger, log: c.Log, now: c.Now}
	overview := &Overview{store: c.Store, driver: driver, ledger: ledger, budgets: budgets.summaries, log: c.Log, now: c.Now}
	overview.troubles = overview.troubleSources(rejected, budgets, c.Prices)
	return &Service{
		Jobs:       jobs,
		Pools:      pools,
		Nodes:      &Nodes{driver: driver, pools: pools, fleet: c.Fleet, files: jobFiles, doors: c.Doors, now: c.Now},
		Ledger:     ledger,
		Pushes:     &Pushes{pushRules: rules, store: c.Store, jobs: jobs, sender: sender, log: c.Log, now: c.Now},
		Statuses:   &CommitStatuses{store: c.Store, jobs: jobs, rules: rules, poster: c.Statuses, log: c.Log, now: c.Now},
		Retention:  &Retention{store: c.Store, keep: c.Keep, files: newFiles(c.Share), trees: trees, log: c.Log, now: c.Now},
		Rejections: &Rejections{store: c.Store, bus: c.Bus, ids: ids, reviveAfter: c.ReviveAfter, log: c.Log, now: c.Now},
		Trees:      trees,
		Users:      users,
		Audit:      &Audit{store: c.Store, log: c.Log, now: c.Now},
		Sessions:   &Sessions{store: c.Store, driver: driver, ids: ids, users: users, doors: c.Doors, only: c.SessionsFor, now: c.Now},
		Rejected:   rejected,
		Overview:   overview,
		Budgets:    budgets,
		Prices:     c.Prices,
	}
}
