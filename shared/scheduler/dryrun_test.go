package scheduler_test

import (
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// dryRun tries a job on a state of its own, which is made by the steps of a bench.
func dryRun(t *testing.T, prepare func(*bench), change func(*job.Spec)) (scheduler.DryRunResult, error) {
	t.Helper()
	b := newBench(t, nil)
	if prepare != nil {
		prepare(b)
	}
	return scheduler.DryRun(b.s, submission("dry", change), b.now, b.timing)
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	node := func(b *bench) { b.ready("vm", "1", "script", "secrets") }
	for _, c := range []struct {
		name    string
		prepare func(*bench)
		change  func(*job.Spec)
		state   job.State
		node    string
		reason  string
	}{
		{"a node has room", node, nil, job.Assigned, "vm", "node vm has room for it, and starts it at once"},
		{"no node yet", nil, nil, job.Queued, "", "no node has room for it"},
		{"held", node, func(s *job.Spec) { s.After = []string{"other"} }, job.Held, "", "it comes after job other"},
		{"a sweep", node, func(s *job.Spec) { s.Sweep = &job.Sweep{Count: 50} }, "", "vm", "of its 50 members start at once"},
		{"no agent knows it", func(b *bench) { b.ready("vm", "1") }, func(s *job.Spec) { s.Secrets = map[string]string{"A": "keyvault:vault/a"} },
			job.Queued, "", "it waits for a node with `secrets`"},
	} {
		r, err := dryRun(t, c.prepare, c.change)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.state != "" && r.State != string(c.state) || r.Node != c.node || !strings.Contains(r.Reason, c.reason) {
			t.Errorf("%s: got %+v, want %s, node %q, %q", c.name, r, c.state, c.node, c.reason)
		}
	}
	if _, err := dryRun(t, nil, func(s *job.Spec) { s.Resources.CPUs = 1000 }); err == nil {
		t.Error("a job that no node can run is taken")
	}
	if r, err := dryRun(t, func(b *bench) { b.step(pool.Delete{}) }, nil); err == nil {
		t.Errorf("a pool that is being deleted takes a job: %+v", r)
	}
}

// TestDryRunPrice: the price is that of the ledger, for all nodes of a gang.
func TestDryRunPrice(t *testing.T) {
	t.Parallel()
	price := func(cpus, nodes int) string {
		r, err := dryRun(t, nil, func(s *job.Spec) { s.Resources.CPUs, s.Nodes = cpus, nodes })
		if err != nil {
			t.Fatal(err)
		}
		return r.PricePerHour + r.Currency
	}
	for _, c := range []struct {
		cpus, nodes int
		want        string
	}{{4, 0, "0.192USD"}, {1, 0, "0.048USD"}, {4, 2, "0.384USD"}} {
		if got := price(c.cpus, c.nodes); got != c.want {
			t.Errorf("%d cpus on %d nodes: got %s, want %s", c.cpus, c.nodes, got, c.want)
		}
	}
	spot := newBench(t, func(s *pool.Spec) { s.Capacity = "spot" })
	if r, err := scheduler.DryRun(spot.s, submission("dry", nil), spot.now, spot.timing); err != nil || r.PricePerHour != "" || !r.Spot {
		t.Errorf("on Spot, whose price changes every hour: got %+v, %v", r, err)
	}
}
