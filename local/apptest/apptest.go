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

	"dsvmpools/local/tables"
	"dsvmpools/shared/push"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// Region is the region of an Instance.
const Region = "westeurope"

// Noon is the time at which the clock of an Instance stands at first.
var Noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// Instance is the use cases and what they stand on.
type Instance struct {
	*service.Service
	Tables *tables.Server
	Store  *store.Store
	Bus    *Bus
	Fleet  *Fleet
	Clock  *Clock
	Log    *slog.Logger
}

// Option changes the configuration before the use cases are put together.
type Option func(*service.Config)

// New returns an instance without pools, on tables of its own.
func New(t testing.TB, options ...Option) *Instance {
	t.Helper()
	server, err := tables.Start(tables.Config{
		Addr:    "127.0.0.1:0",
		Path:    filepath.Join(t.TempDir(), "tables.db"),
		Account: "test",
		Key:     "a2V5a2V5a2V5a2V5",
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	st, err := store.Open(store.Config{ConnectionString: server.ConnectionString()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	if err := st.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := &Instance{Tables: server, Store: st, Bus: NewBus(), Fleet: NewFleet(), Clock: NewClock(Noon)}
	c := service.Config{
		Store:    st,
		Bus:      i.Bus,
		Fleet:    i.Fleet,
		Timing:   scheduler.DefaultTiming,
		Region:   Region,
		Sizes:    func(context.Context, string) ([]string, error) { return nil, nil },
		Share:    t.TempDir(),
		Setting:  func(string) string { return "" },
		Statuses: func(*push.Rule, string) service.StatusPoster { return nil },
		Log:      slog.New(slog.DiscardHandler),
		Now:      i.Clock.Now,
	}
	for _, change := range options {
		change(&c)
	}
	i.Log = c.Log
	i.Service = service.New(c)
	return i
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
