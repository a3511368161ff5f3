// Package apptest puts the real use cases together for tests of what stands on
// them: the real store over the local tables, with a bus and a fleet in memory in
// place of Service Bus and the scale sets. It holds no rule of its own; tests fill it
// through the use cases.
package apptest

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/tables"
	"dsvmpools/shared/doctor"
	"dsvmpools/shared/push"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// Region is the region of an Instance.
const Region = "westeurope"

// Noon is the time at which the clock of an Instance stands at first.
var Noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// The setting that a push rule may name for its secret, and its value.
const (
	PushSetting = "GITHUB_PUSH_SECRET"
	PushSecret  = "It's a Secret to Everybody"
)

// Instance is the use cases and what they stand on.
type Instance struct {
	*service.Service
	Tables *tables.Server
	Chaos  *chaos.Set // failures of the tables
	Store  *store.Store
	Bus    *Bus
	Fleet  *Fleet
	Clock  *Clock
	Doctor *doctor.Doctor
	Share  string // path of the share
	Log    *slog.Logger
}

// Option changes the configuration before the use cases are put together.
type Option func(*service.Config)

// New returns an instance without pools, on tables of its own. It needs no port.
func New(t testing.TB, options ...Option) *Instance {
	t.Helper()
	return newInstance(t, filepath.Join(t.TempDir(), "tables.db"), NewFleet(), options)
}

func newInstance(t testing.TB, path string, fleet *Fleet, options []Option) *Instance {
	t.Helper()
	i, err := open(t.Context(), path, fleet, t.TempDir(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.close)
	return i
}

// open puts the use cases together on the tables in a file.
func open(ctx context.Context, path string, fleet *Fleet, share string, options []Option) (*Instance, error) {
	failures := chaos.New(1)
	server, err := tables.Open(tables.Config{Path: path, Account: "test", Key: "a2V5a2V5a2V5a2V5", Chaos: failures})
	if err != nil {
		return nil, err
	}
	i := &Instance{Tables: server, Chaos: failures, Bus: NewBus(), Fleet: fleet, Clock: NewClock(Noon), Share: share}
	i.Store, err = store.Open(store.Config{ConnectionString: server.ConnectionString(), Transport: server})
	if err == nil {
		err = i.Store.CreateTables(ctx)
	}
	if err != nil {
		server.Close()
		return nil, err
	}
	c := service.Config{
		Store:    i.Store,
		Bus:      i.Bus,
		Fleet:    i.Fleet,
		Timing:   scheduler.DefaultTiming,
		Region:   Region,
		Sizes:    func(context.Context, string) ([]string, error) { return nil, nil },
		Share:    share,
		Setting:  func(name string) string { return map[string]string{PushSetting: PushSecret}[name] },
		Statuses: func(*push.Rule, string) service.StatusPoster { return nil },
		Log:      slog.New(slog.DiscardHandler),
		Now:      i.Clock.Now,
	}
	for _, change := range options {
		change(&c)
	}
	i.Log = c.Log
	i.Service = service.New(c)
	i.Doctor = doctor.New(doctor.Config{
		Tables: i.Store,
		Bus:    i.Bus,
		Fleet:  i.Fleet,
		Sizes: func(context.Context, string) ([]string, error) {
			return []string{"Standard_D2s_v5", "Standard_NC24ads_A100_v4"}, nil
		},
		Pools: i.Pools.Specs,
		Place: doctor.Place{Location: Region},
		Share: share,
	})
	return i, nil
}

func (i *Instance) close() {
	i.Store.Close()
	i.Tables.Close()
}

// Clock is a clock that stands until a test moves it.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at a time.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set moves the clock to a time.
func (c *Clock) Set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = at
}
