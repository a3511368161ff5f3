package drive_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/local/tables"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
)

// printingBus is a drive.Bus that prints what it gets.
type printingBus struct{}

func (printingBus) Work(_ context.Context, session string, items []protocol.WorkItem) error {
	fmt.Println("send", len(items), "item to", session)
	return nil
}

func (printingBus) Wake(_ context.Context, name, kind string, _ time.Time) error {
	fmt.Println("wake", name, "later:", kind)
	return nil
}

func (printingBus) Subscribe(context.Context, string, string, []string) error { return nil }
func (printingBus) Ended(context.Context, string, []string) error             { return nil }
func (printingBus) Fence(context.Context, string) (bool, error)               { return true, nil }

// printingFleet is a drive.Fleet that prints what it is asked for.
type printingFleet struct{ *apptest.Fleet }

func (f printingFleet) Grow(ctx context.Context, name string, spec pool.Spec, set pool.Set, target int) (drive.Operation, error) {
	fmt.Println("grow", set.Name, "to", target)
	return f.Fleet.Grow(ctx, name, spec, set, target)
}

// One call makes a pool and brings a job to it. The driver runs the steps, commits their
// rows, and then performs the effects: it asks for a node and for a wake-up.
func Example() {
	dir, err := os.MkdirTemp("", "drive")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server, err := tables.Open(tables.Config{Path: filepath.Join(dir, "tables.db"), Account: "example", Key: "a2V5a2V5a2V5a2V5"})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	s, err := store.Open(store.Config{ConnectionString: server.ConnectionString(), Transport: server})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.CreateTables(ctx); err != nil {
		panic(err)
	}

	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	d := drive.New(drive.Config{
		Store:  s,
		Bus:    printingBus{},
		Fleet:  printingFleet{apptest.NewFleet()},
		Timing: scheduler.DefaultTiming,
		Log:    slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return now },
	})
	spec, err := pool.Parse([]byte(`{"name": "cpu", "sizes": ["Standard_D4s_v5"], "nodes": {"max": 4}}`), "application/json")
	if err != nil {
		panic(err)
	}
	hello := job.Spec{ID: "hello", Pool: "cpu", Command: []string{"echo", "hello"}, Resources: job.Resources{CPUs: 1}}
	out, err := d.Drive(ctx, "cpu",
		pool.Apply{Spec: spec},
		pool.Submit{Order: "01K000000000000000000000A1", ID: "hello", Spec: hello, At: now})
	if err != nil {
		panic(err)
	}
	fmt.Println("refused:", len(out.Refused))

	rows, _, err := s.Load(ctx, "cpu")
	if err != nil {
		panic(err)
	}
	fmt.Println("job", rows.Jobs[0].ID, "is", rows.Jobs[0].State)
	// Output:
	// wake cpu later: tick
	// grow d4s-v5 to 1
	// refused: 0
	// job hello is queued
}
