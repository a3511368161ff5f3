package main

import (
	"fmt"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/job"
)

// Answers that are lost, late or refused, lists that lag, instances that come in
// part, fail, stop, are evicted and cannot be deleted: every job succeeds all the
// same, there are never too many instances, and none is left.
func TestUnreliableScaleSet(t *testing.T) {
	t.Parallel()
	i := startInstance(
		t,
		map[string]string{
			"DSVM_MISSING_FOR":   "1s",
			"DSVM_FLEET_POLL":    "100ms",
			"RECONCILE_SCHEDULE": "* * * * * *",
			"DSVM_DELETE_AGAIN":  "500ms",
			"DSVM_BOOT_DEADLINE": "3s",
			"DSVM_SILENT_AFTER":  "3s",
		},
	)
	for _, r := range []chaos.Injection{
		{Do: chaos.Lose, Target: "compute/p*", Probability: 0.3},
		{Do: chaos.Lose, Target: "compute/deleteInstances", Probability: 0.3},
		{Do: chaos.Disconnect, Target: "compute/get", Probability: 0.2},
		{Do: chaos.Refuse, Target: "compute/list", Probability: 0.1},
		{Do: chaos.Lag, Target: "compute/list", Delay: 500 * time.Millisecond, Probability: 0.3},
		{Do: chaos.Refuse, Target: "compute/operation", Code: "NotFound", Probability: 0.1},
		{Do: chaos.Refuse, Target: "compute/patch", Code: "OperationPreempted", Probability: 0.2},
		{Do: chaos.Stick, Target: "compute/boot", Probability: 0.1},
		{Do: chaos.Refuse, Target: "compute/boot", Probability: 0.1},
		{Do: chaos.Evict, Target: "compute/run", Delay: time.Second, Probability: 0.3},
		{Do: chaos.Lose, Target: "compute/run", Delay: time.Second, Probability: 0.1},
		{Do: chaos.Refuse, Target: "compute/run", Delay: time.Second, Probability: 0.2},
		{Do: chaos.Refuse, Target: "compute/remove", Probability: 0.2},
	} {
		if _, err := i.Chaos.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	const most, jobs = 4, 24
	i.apply(fmt.Sprintf(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":%d},"idleTimeout":"1s"}`, most))
	for n := range jobs {
		i.send("jobs", body(`{"id":"job-%d","pool":"cpu","command":["sleep","1"],"retry":{"max":20,"backoff":"10ms"}}`, n))
	}
	i.until("the end of all jobs", func() bool {
		if got := len(i.Compute.Instances()); got > 3*most {
			t.Fatalf("%d instances for a pool of %d at most", got, most)
		}
		for n := range jobs {
			j, err := i.client.Job(i.ctx, fmt.Sprintf("job-%d", n))
			if err != nil || j.State != job.Succeeded {
				return false
			}
		}
		return true
	})
	i.mu.Lock()
	for _, asked := range i.asked {
		if asked > most {
			t.Errorf("asked for %d, the most is %d", asked, most)
		}
	}
	i.mu.Unlock()
	hits := 0
	rules, _ := i.Chaos.List()
	for _, r := range rules {
		hits += r.Hits
	}
	if hits < 5 {
		t.Errorf("only %d things went wrong", hits)
	}
	t.Logf("%d things went wrong", hits)
	i.Chaos.Remove("")
	i.until("an empty pool", func() bool { return len(i.Compute.Instances()) == 0 })
}
