// Package doctor looks from inside of the app at everything that a deployment needs: each
// right of its identity, queues, tables, share, agent, quota, and whether Azure would make
// a node. It is for the person who has deployed the app, and says for each fault the command that
// mends it.
//
// It changes nothing that stays: it writes a row and a file and makes a scale set without
// instances, and deletes them again. It never shows a secret, never mends anything itself,
// and never takes longer than Longest.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/price"
	"dsvmpools/shared/version"
	"dsvmpools/shared/wire"
)

const (
	// Longest bounds a whole diagnosis: Azure ends a request over HTTP after 230 s.
	Longest = nodesTime + graceTime
	// checkTime bounds one check.
	checkTime = 20 * time.Second
	// nodesTime bounds the check that has Azure make a scale set, which takes 10 to 30 s.
	nodesTime = 120 * time.Second
	// graceTime is added to the bound of a check that does not end in time.
	graceTime = 5 * time.Second
)

// Tables are the app's tables.
type Tables interface {
	// TestAccess writes, reads and deletes a row, and returns the time of the service's clock.
	TestAccess(ctx context.Context) (time.Time, error)
}

// Bus is the app's Service Bus.
type Bus interface {
	// Inspect reads the settings and counts of a queue.
	Inspect(ctx context.Context, queue string) (bus.Queue, error)
	// TestAccess opens what sending and receiving take, and does neither.
	TestAccess(ctx context.Context, queue string, sessions bool) error
	// Queues returns the names of the queues.
	Queues() bus.Queues
}

// Fleet is the scale sets of the pools.
type Fleet interface {
	// Check has Azure judge what a set of a pool would be.
	Check(ctx context.Context, name string, spec pool.Spec, set pool.Set) error
	// Quotas says in sentences how much room the quotas have that count for a set.
	Quotas(ctx context.Context, name string, spec pool.Spec, set pool.Set) ([]string, error)
}

// Config is what a Doctor looks at.
type Config struct {
	Tables Tables
	Bus    Bus
	Fleet  Fleet
	Sizes  func(ctx context.Context, region string) ([]string, error) // the sizes that a region has
	Pools  func(ctx context.Context) ([]pool.Spec, error)             // of which one says what nodes are like
	Place  Place
	// Share is the path of the share. In the cloud it has to be a mounted file system.
	Share   string
	Mounted bool
	// Credential is the app's identity; nil = the app has keys for everything, and what
	// only an identity can fetch is not looked at.
	Credential  azcore.TokenCredential
	AgentURL    string // of the agent's program; "" = the image brings it
	AgentSHA256 string
	ShareKeyURL string    // of the vault's secret with the key of the share; "" = none
	Sessions    *Sessions // what interactive pools need; nil = it is not looked at
	// Prices says what is wrong with the prices of nodes; nil = it is not looked at.
	Prices func(ctx context.Context) ([]price.Trouble, error)
	Now    func() time.Time
}

// Doctor checks one deployment. Its method may be called concurrently.
type Doctor struct {
	Config
	share chan struct{} // one at a time: each may hang for ever in the system
}

// New returns a doctor.
func New(c Config) *Doctor {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Doctor{Config: c, share: make(chan struct{}, 1)}
}

// check looks at one thing, or at a few that are seen together.
type check struct {
	name  string
	bound time.Duration
	run   func(ctx context.Context) []wire.Check
}

func (d *Doctor) checks() []check {
	all := []check{
		{"version", checkTime, one(d.version)},
		{"tables", checkTime, d.tables},
	}
	for _, q := range d.queues() {
		all = append(all, check{"queue " + q.name, checkTime, one(func(ctx context.Context) wire.Check { return d.queue(ctx, q) })})
	}
	all = append(all, check{"share", checkTime, one(d.shareIsThere)})
	if d.Credential != nil {
		all = append(all, check{"agent", checkTime, one(d.agent)})
		if d.ShareKeyURL != "" {
			all = append(all, check{"key of the share", checkTime, one(d.shareKey)})
		}
	}
	if d.Sessions != nil {
		all = append(all, check{"interactive pools", checkTime, one(d.interactive)})
	}
	if d.Prices != nil {
		all = append(all, check{"prices", checkTime, one(d.prices)})
	}
	return append(all,
		check{"sizes", checkTime, one(d.sizes)},
		check{"quota", checkTime, one(d.quota)},
		check{"nodes", nodesTime, one(d.nodes)},
	)
}

// one makes a check of a single row.
func one(fn func(ctx context.Context) wire.Check) func(ctx context.Context) []wire.Check {
	return func(ctx context.Context) []wire.Check { return []wire.Check{fn(ctx)} }
}

// Diagnose makes all checks side by side and returns their rows, always in the same order.
func (d *Doctor) Diagnose(ctx context.Context) []wire.Check {
	all := d.checks()
	rows := make([][]wire.Check, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() { rows[i] = c.bounded(ctx) })
	}
	wg.Wait()
	var flat []wire.Check
	for _, some := range rows {
		flat = append(flat, some...)
	}
	return flat
}

// bounded runs a check within its bound, whatever it does.
func (c check) bounded(ctx context.Context) []wire.Check {
	ctx, cancel := context.WithTimeout(ctx, c.bound)
	defer cancel()
	done := make(chan []wire.Check, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- []wire.Check{{Check: c.name, State: wire.CheckUnknown, Detail: fmt.Sprintf("the check itself failed: %v", p)}}
			}
		}()
		done <- c.run(ctx)
	}()
	late := time.NewTimer(c.bound + graceTime)
	defer late.Stop()
	select {
	case rows := <-done:
		return rows
	case <-late.C:
		return []wire.Check{{Check: c.name, State: wire.CheckUnknown, Detail: fmt.Sprintf("no answer within %s", c.bound)}}
	}
}

// good is a row of a check that found nothing wrong.
func good(name, format string, args ...any) wire.Check {
	return wire.Check{Check: name, State: wire.CheckOK, Detail: fmt.Sprintf(format, args...)}
}

// wrong is a row of a check that found an error. One that says nothing about the thing
// itself, such as that the time was over, leaves the state unknown.
func wrong(name string, err error, mend string) wire.Check {
	row := wire.Check{Check: name, State: wire.CheckFailed, Detail: err.Error(), Mend: mend}
	var f *fault.Error
	if errors.As(err, &f) {
		row.Detail = f.Message // the cause is for the log, and may hold an address that is a secret
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || fault.CodeOf(err) == fault.Throttled {
		row.State, row.Mend = wire.CheckUnknown, "run `dsvm doctor` again in a minute"
	}
	return row
}

func (d *Doctor) version(context.Context) wire.Check {
	v := version.Read()
	detail := fmt.Sprintf("dsvmpools %s, protocol %d", v.Version, v.Protocol)
	if len(v.Commit) >= 12 {
		detail += ", commit " + v.Commit[:12]
	}
	return good("version", "%s", detail)
}
