package drive_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
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

// quietBus is a drive.Bus that takes everything.
type quietBus struct{ printingBus }

func (quietBus) Work(context.Context, string, []protocol.WorkItem) error   { return nil }
func (quietBus) Wake(context.Context, string, string, time.Time) error     { return nil }
func (quietBus) Subscribe(context.Context, string, string, []string) error { return nil }
func (quietBus) Ended(context.Context, string, []string) error             { return nil }

// slowStore does something before it reads a pool.
type slowStore struct {
	*store.Store
	before func()
}

func (s *slowStore) LoadInto(ctx context.Context, name string, jobs pool.JobSink) (*pool.Partition, pool.Version, error) {
	s.before()
	return s.Store.LoadInto(ctx, name, jobs)
}

// While a process loads a pool for long, it registers a job, and another process takes the
// job in and ends it. The job is not taken in once more.
func TestJobEndsWhileItsPoolIsLoaded(t *testing.T) {
	t.Parallel()
	server, err := tables.Open(tables.Config{Path: filepath.Join(t.TempDir(), "tables.db"), Account: "example", Key: "a2V5a2V5a2V5a2V5"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s, err := store.Open(store.Config{ConnectionString: server.ConnectionString(), Transport: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock := apptest.NewClock(apptest.Noon)
	newDriver := func(s drive.Store) *drive.Driver {
		return drive.New(drive.Config{Store: s, Bus: quietBus{}, Fleet: apptest.NewFleet(), Timing: scheduler.DefaultTiming,
			Log: slog.New(slog.DiscardHandler), Now: clock.Now})
	}
	spec, err := pool.Parse([]byte(`{"name": "cpu", "sizes": ["Standard_D4s_v5"], "nodes": {"max": 4}}`), "application/json")
	if err != nil {
		t.Fatal(err)
	}
	other := newDriver(s)
	if _, err := other.Drive(t.Context(), "cpu", pool.Apply{Spec: spec}); err != nil {
		t.Fatal(err)
	}
	const order = "01K000000000000000000000A1"
	submit := pool.Submit{Order: order, ID: "hello", At: apptest.Noon,
		Spec: job.Spec{ID: "hello", Pool: "cpu", Command: []string{"true"}, Resources: job.Resources{CPUs: 1}}}
	late := newDriver(&slowStore{s, func() {
		clock.Set(apptest.Noon.Add(10 * time.Second))
		if _, err := other.Drive(t.Context(), "cpu", submit, pool.Cancel{Order: order, Reason: "nobody wants it"}); err != nil {
			t.Error(err)
		}
	}})
	if _, err := late.Submit(t.Context(), "cpu", []drive.Submission{{Submit: submit, Registered: apptest.Noon.Add(5 * time.Second)}}); err != nil {
		t.Fatal(err)
	}
	rows, _, err := s.Load(t.Context(), "cpu")
	if err != nil || len(rows.Jobs) != 0 {
		t.Errorf("the pool has %d live jobs, %v; want none: it was cancelled", len(rows.Jobs), err)
	}
	if j, err := s.FinishedJob(t.Context(), "cpu", order); err != nil || j.State != job.Cancelled {
		t.Errorf("got %+v, %v; want the cancelled job", j, err)
	}
}
