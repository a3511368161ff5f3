package scheduler_test

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// newExample is a new pool with one job in line.
func newExample(now time.Time) (*scheduler.State, []pool.Event) {
	spec, err := pool.Parse([]byte(`{"name": "cpu", "sizes": ["Standard_D4s_v5"], "nodes": {"max": 4}}`), "application/json")
	if err != nil {
		panic(err)
	}
	hello := job.Spec{ID: "hello", Pool: "cpu", Command: []string{"echo", "hello"}, Resources: job.Resources{CPUs: 1}}
	return scheduler.NewState(pool.Head{}, nil, nil, now), []pool.Event{
		pool.Apply{Spec: spec},
		pool.Submit{Order: "01K000000000000000000000A1", ID: "hello", Spec: hello, At: now},
	}
}

// A job arrives in a pool without nodes, so that the step asks for one.
func ExampleStep() {
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	state, events := newExample(now)
	result := scheduler.Step(state, events, now, scheduler.DefaultTiming)
	for _, change := range result.Changes {
		fmt.Println("write", change.Key)
	}
	for name, calls := range result.Effects.Sets {
		fmt.Println("ask set", name, "for", calls.Grow, "in all")
	}
	// Output:
	// write job!01K000000000000000000000A1
	// ask set d4s-v5 for 1 in all
}

// The job waits for the node that was asked for.
func ExampleExplain() {
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	state, events := newExample(now)
	scheduler.Step(state, events, now, scheduler.DefaultTiming)
	e, live := scheduler.Explain(state, "01K000000000000000000000A1", now, scheduler.DefaultTiming)
	fmt.Println(live, e.State)
	fmt.Println(e.Reason)
	fmt.Println("waits for:", e.Unblocks)
	// Output:
	// true queued
	// no node has room for it, and 1 node is on its way
	// waits for: a node that comes up; nothing has to be done
}
