package apitest

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Noon is the time at which the example stands.
var Noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// Documents of the example's pool and of a job in it.
const (
	PoolDocument = `{"name":"cpu","kind":"batch","os":"linux","sizes":["Standard_D2s_v5"],"capacity":"regular","nodes":{"min":0,"max":4}}`
	JobDocument  = `{"pool":"cpu","name":"train","team":"vision","user":"ann","command":["python","train.py"]}`
)

// Example is a backend with a pool in the middle of its work.
func Example() *Backend {
	b := &Backend{Now: Noon}
	if rules, err := push.ParseRules([]byte(RuleDocument), "application/json"); err == nil {
		b.rules = rules
	}
	b.AddPool(wire.PoolSummary{
		Head: pool.Head{Spec: pool.Spec{
			Name: "cpu", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D2s_v5"}, Capacity: "regular",
			Nodes: pool.Range{Max: 4}, IdleTimeout: job.Duration(5 * time.Minute), Pack: true,
		}},
		Queued: 1, Running: 1, Wanted: 2,
		Nodes: []*pool.Node{
			{VMID: "b2", Name: "dsvm-cpu_2", Size: "Standard_D2s_v5", State: pool.NodeBooting, Since: Noon.Add(-time.Minute), Price: usage.UnknownPrice},
			{VMID: "a1", Name: "dsvm-cpu_1", Size: "Standard_D2s_v5", CPUs: 2, State: pool.NodeBusy, Since: Noon.Add(-time.Hour),
				HeardAt: Noon.Add(-20 * time.Second), Price: "0.096", Currency: "USD"},
			{VMID: "c3", Name: "dsvm-cpu_0", State: pool.NodeGone},
		},
		NodeJobs: map[string]int{"a1": 1},
	})
	b.AddPool(wire.PoolSummary{Head: pool.Head{
		Spec: pool.Spec{Name: "gpu", Kind: "batch", OS: "linux", Sizes: []string{"Standard_NC4as_T4_v3"}, Capacity: "regular", Nodes: pool.Range{Max: 8}},
		Sets: []pool.Set{{Name: "nc4as-t4-v3", Size: "Standard_NC4as_T4_v3", Blocked: pool.Block{Code: "noQuota", Until: Noon.Add(10 * time.Minute),
			Message: "the quota of the family NCASv3_T4 in westeurope is used up; ask for more, or use another region"}}},
	}})
	spec := func(id, name string, command ...string) job.Spec {
		return job.Spec{ID: id, Pool: "cpu", Name: name, Team: "vision", User: "ann", Command: command, Priority: job.Normal, Resources: job.Resources{CPUs: 1}}
	}
	b.AddJob(pool.Job{ID: "bad", Spec: spec("bad", "wrong size", "true"), State: job.Rejected, Reason: "the job asks for 8 cpus, a node has 2", SubmittedAt: Noon.Add(-3 * time.Hour)})
	b.AddJob(pool.Job{ID: "first", Spec: spec("first", "data", "python", "prepare.py"), State: job.Failed, ExitCode: 3,
		SubmittedAt: Noon.Add(-2 * time.Hour), EndedAt: Noon.Add(-30 * time.Minute),
		Attempts: []job.Attempt{
			{Number: 1, Node: "dsvm-cpu_0", State: job.AttemptNodeLost, ExitCode: job.ExitNodeLost, Reason: "the node went silent",
				StartedAt: Noon.Add(-110 * time.Minute), EndedAt: Noon.Add(-100 * time.Minute)},
			{Number: 2, Node: "dsvm-cpu_1", State: job.AttemptFailed, ExitCode: 3,
				StartedAt: Noon.Add(-50 * time.Minute), EndedAt: Noon.Add(-30 * time.Minute)},
		}})
	b.AddJob(pool.Job{ID: "second", Spec: spec("second", "train", "python", "train.py"), State: job.Running,
		SubmittedAt: Noon.Add(-25 * time.Minute),
		Attempts:    []job.Attempt{{Number: 1, Node: "dsvm-cpu_1", State: job.AttemptRunning, StartedAt: Noon.Add(-20 * time.Minute)}}})
	b.AddJob(pool.Job{ID: "third", Spec: spec("third", "evaluate", "python", "evaluate.py"), State: job.Queued, SubmittedAt: Noon.Add(-30 * time.Second)})
	b.SetUsage([]usage.Group{
		{Key: "cpu", Jobs: 2, Seconds: 36_000_000_000, NodeSeconds: 72_000_000_000, Cost: "0.096", Waste: "0.096", Currency: "USD"},
		{Key: "gpu", Jobs: 1, Seconds: 10_000_000, NodeSeconds: 10_000_000, Cost: usage.UnknownPrice, Waste: usage.UnknownPrice},
	})
	return b
}
