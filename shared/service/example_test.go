package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/local/tables"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// A program applies a pool, submits a job, asks why the job waits, and cancels it: what
// the triggers and the HTTP API do for somebody.
func Example() {
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server, err := tables.Open(tables.Config{Path: filepath.Join(dir, "tables.db"), Account: "example", Key: "a2V5a2V5a2V5a2V5"})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rows, err := store.Open(store.Config{ConnectionString: server.ConnectionString(), Transport: server})
	if err != nil {
		panic(err)
	}
	defer rows.Close()
	ctx := context.Background()
	if err := rows.CreateTables(ctx); err != nil {
		panic(err)
	}
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	app := service.New(service.Config{
		Store:  rows,
		Bus:    apptest.NewBus(),
		Fleet:  apptest.NewFleet(),
		Timing: scheduler.DefaultTiming,
		Sizes:  func(context.Context, string) ([]string, error) { return []string{"Standard_D4s_v5"}, nil },
		Log:    slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return now },
	})

	spec, err := pool.Parse([]byte(`{"name": "cpu", "sizes": ["Standard_D4s_v5"], "nodes": {"max": 4}}`), "application/json")
	if err != nil {
		panic(err)
	}
	if _, err := app.Pools.Apply(ctx, spec); err != nil {
		panic(err)
	}
	hello, err := job.Parse([]byte(`{"id": "hello", "pool": "cpu", "command": ["echo", "hello"]}`), "application/json")
	if err != nil {
		panic(err)
	}
	j, err := app.Jobs.Submit(ctx, hello)
	if err != nil {
		panic(err)
	}
	fmt.Println(j.ID, "is", j.State)
	why, err := app.Jobs.Explain(ctx, "hello")
	if err != nil {
		panic(err)
	}
	fmt.Println(why.Reason)
	j, err = app.Jobs.Cancel(ctx, "hello")
	fmt.Println(j.ID, "is", j.State, err)
	// Output:
	// hello is queued
	// no node has room for it, and 1 node is on its way
	// hello is cancelled <nil>
}
