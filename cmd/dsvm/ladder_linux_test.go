package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// A pool whose best rung has no capacity takes the next one, and says so; the
// ladder is docs/examples/ladder.yaml.
func TestLadder(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"DSVM_MISSING_FOR": "200ms", "DSVM_FLEET_POLL": "100ms"})
	text, err := os.ReadFile("../../docs/examples/ladder.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Chaos.Add(chaos.Injection{Do: chaos.Refuse, Target: "compute/put/dsvm-ladder-d2s-v5-spot", Code: "SkuNotAvailable"}); err != nil {
		t.Fatal(err)
	}
	i.send("pools", body("%s", jsonOf(t, text)))
	i.until("the pool", func() bool { _, err := i.client.Pool(i.ctx, "ladder"); return err == nil })
	i.send("jobs", body(`{"id":"one","pool":"ladder","command":["true"]}`))
	if j := i.job("one"); j.State != job.Succeeded || !strings.HasPrefix(j.Attempts[0].Node, pool.SetName("ladder", "d4s-v5-spot")) {
		t.Fatalf("got %s: %s, %+v", j.State, j.Reason, j.Attempts)
	}
	p, err := i.client.Pool(i.ctx, "ladder")
	if err != nil || len(p.Rungs) != 4 || p.Rungs[0].Blocked == "" || p.Rungs[0].Until == nil || p.Rungs[1].Nodes != 1 ||
		!p.Rungs[1].Spot || p.Rungs[2].Spot {
		t.Fatalf("%v, %+v", err, p.Rungs)
	}
	// The whole ladder goes with the pool.
	if _, err := i.client.Delete(i.ctx, "ladder"); err != nil {
		t.Fatal(err)
	}
	i.until("the end of the pool", func() bool {
		pools, err := i.client.Pools(i.ctx)
		return err == nil && len(pools) == 0 && len(i.Compute.Instances()) == 0
	})
}

func jsonOf(t *testing.T, text []byte) string {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
