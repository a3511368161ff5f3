package apptest_test

import (
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// The example is what it promises, and what happens in one copy stays in it.
func TestExample(t *testing.T) {
	t.Parallel()
	changed := apptest.Example(t)
	if _, err := changed.Jobs.Cancel(t.Context(), "third"); err != nil {
		t.Fatal(err)
	}
	if err := changed.Pools.Delete(t.Context(), "gpu"); err != nil {
		t.Fatal(err)
	}
	i := apptest.Example(t)
	for id, want := range map[string]job.State{"bad": job.Rejected, "first": job.Failed, "second": job.Running, "third": job.Queued} {
		j, err := i.Jobs.Job(t.Context(), id)
		if err != nil || j.State != want {
			t.Errorf("%s: got %+v, %v; want %s", id, j, err, want)
		}
	}
	pools, err := i.Pools.Pools(t.Context(), "")
	if err != nil || len(pools) != 2 {
		t.Fatalf("got %d pools, %v", len(pools), err)
	}
	if n := wire.NewPool(pools[0]).Nodes; n.Busy != 1 || n.Booting != 1 || n.Total != 2 {
		t.Errorf("cpu has the nodes %+v", n)
	}
	if state := wire.NewPool(pools[1]).State; state != wire.PoolBlocked {
		t.Errorf("gpu is %s", state)
	}
}
