package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Queues, tables, scale sets and the host itself delay, refuse, throttle, cut
// connections and lose answers, while two handlers run jobs of all kinds. Every job
// ends as it should, no attempt overlaps another of its job, limits hold, and the
// ledger has each attempt once.
func TestFaultsEverywhere(t *testing.T) {
	t.Parallel()
	i := startInstance(
		t,
		map[string]string{
			"DSVM_MISSING_FOR":        "1s",
			"DSVM_FLEET_POLL":         "100ms",
			"RECONCILE_SCHEDULE":      "* * * * * *",
			"RECORD_USAGE_SCHEDULE":   "* * * * * *",
			"DSVM_DELETE_AGAIN":       "500ms",
			"DSVM_BOOT_DEADLINE":      "5s",
			"DSVM_SILENT_AFTER":       "5s",
			"DSVM_UNKNOWN_POOL_AGAIN": "10s",
		},
		func(cfg *local.Config) { cfg.MessageLock = 2 * time.Second },
	)
	if _, err := i.ScaleOut(i.ctx); err != nil {
		t.Fatal(err)
	}
	const most, singles, members, limit = 4, 30, 20, 5
	i.apply(
		fmt.Sprintf(
			`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":%d},"idleTimeout":"1s","limits":{"team":{"few":{"jobs":%d}}}}`,
			most,
			limit,
		),
	)
	for _, r := range []chaos.Injection{
		{Do: chaos.Detach, Target: "servicebus/*", Probability: 0.01},
		{Do: chaos.Disconnect, Target: "servicebus/*", Probability: 0.005},
		{Do: chaos.Lose, Target: "servicebus/send", Probability: 0.02},
		{Do: chaos.Lose, Target: "servicebus/settle", Probability: 0.02},
		{Do: chaos.Delay, Target: "servicebus/receive", Delay: 30 * time.Millisecond, Probability: 0.1},
		{Do: chaos.Lose, Target: "tables/transaction", Probability: 0.03},
		{Do: chaos.Refuse, Target: "tables/*", Code: "ServerBusy", Probability: 0.02},
		{Do: chaos.Refuse, Target: "tables/*", Code: "OperationTimedOut", Probability: 0.01},
		{Do: chaos.Disconnect, Target: "tables/*", Probability: 0.01},
		{Do: chaos.Delay, Target: "tables/*", Delay: 30 * time.Millisecond, Probability: 0.05},
		{Do: chaos.Lose, Target: "compute/p*", Probability: 0.2},
		{Do: chaos.Refuse, Target: "compute/list", Probability: 0.1},
		{Do: chaos.Evict, Target: "compute/run", Delay: 2 * time.Second, Probability: 0.2},
		{Do: chaos.Lose, Target: "compute/run", Delay: 2 * time.Second, Probability: 0.1},
		{Do: chaos.Disconnect, Target: "functions/invoke/*", Probability: 0.01},
		{Do: chaos.Lose, Target: "functions/invoke/*", Probability: 0.01},
	} {
		if _, err := i.Chaos.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	retry := `"retry":{"max":30,"backoff":"10ms"}`
	want := map[string]job.State{}
	var messages []*azservicebus.Message
	drop := func(id string, state job.State, rest string) {
		want[id] = state
		m := body(`{"id":%q,"pool":"cpu",%s}`, id, rest)
		messages = append(messages, m, m) // each comes twice
	}
	for n := range singles {
		team := []string{"few", "many"}[n%2]
		drop(fmt.Sprintf("job-%d", n), job.Succeeded, fmt.Sprintf(`"team":%q,"command":["sleep","0.3"],%s`, team, retry))
	}
	drop("wrong", job.Failed, `"command":["false"],"retry":{"max":2,"on":["exitCode:1"],"backoff":"10ms"}`)
	drop("sweep", job.Succeeded, fmt.Sprintf(`"command":["sleep","0.2"],"sweep":{"count":%d},%s`, members, retry))
	drop("gang", job.Succeeded, `"nodes":2,"command":["sleep","0.3"],`+retry)
	drop("then", job.Succeeded, `"after":["gang","sweep"],"command":["true"],`+retry)
	drop("never", job.Cancelled, `"after":["wrong"],"command":["true"]`)
	i.sendAgain("jobs", messages)
	jobs := map[string]wire.Job{}
	t.Cleanup(func() { i.tell(want) })
	i.until("the end of all jobs", func() bool {
		for id := range want {
			if j, known := jobs[id]; known && j.State.Final() {
				continue
			}
			j, err := i.client.Job(i.ctx, id)
			if err != nil || !j.State.Final() {
				return false
			}
			jobs[id] = j
		}
		return true
	})
	started := 0
	for id, state := range want {
		j := jobs[id]
		if j.State != state {
			t.Errorf("job %s is %s: %s; want %s", id, j.State, j.Reason, state)
		}
		for k, a := range j.Attempts {
			if a.StartedAt != nil {
				started++
			}
			if k > 0 && a.StartedAt != nil && j.Attempts[k-1].EndedAt != nil && a.StartedAt.Before(*j.Attempts[k-1].EndedAt) {
				t.Errorf("attempt %d of %s began before its predecessor ended", k+1, id)
			}
		}
	}
	hits := 0
	rules, _ := i.Chaos.List()
	for _, r := range rules {
		hits += r.Hits
	}
	if hits < 100 {
		t.Errorf("only %d things went wrong", hits)
	}
	t.Logf("%d things went wrong", hits)
	i.mu.Lock()
	if asked := slices.Max(i.asked); asked > most {
		t.Errorf("asked for %d nodes, the most is %d", asked, most)
	}
	i.mu.Unlock()
	i.Chaos.Remove("")
	i.until("an empty pool", func() bool { return len(i.Compute.Instances()) == 0 })

	s, err := store.Open(store.Config{ConnectionString: i.Description.Tables})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var recorded map[string]int
	var running []usage.Row
	i.until("a ledger that agrees with the jobs", func() bool {
		recorded, running = map[string]int{}, nil
		now := time.Now().UTC()
		err := s.Usage(i.ctx, now.Add(-time.Hour), now.Add(time.Hour), func(row usage.Row) error {
			if row.Kind == usage.KindAttempt {
				recorded[row.Key]++
				if row.Team == "few" {
					running = append(running, row)
				}
			}
			return nil
		})
		return err == nil && len(recorded) >= started+members
	})
	for key, n := range recorded {
		if n != 1 {
			t.Errorf("attempt %s is in the ledger %d times", key, n)
		}
	}
	for _, at := range running {
		n := 0
		for _, other := range running {
			if !other.From.After(at.From) && other.To.After(at.From) {
				n++
			}
		}
		if n > limit {
			t.Errorf("%d jobs of team few ran at %s, the limit is %d", n, at.From, limit)
		}
	}
}

// sendAgain sends messages as a careful sender does: again until it is told that
// they have arrived.
func (i *instance) sendAgain(queue string, messages []*azservicebus.Message) {
	i.t.Helper()
	quick := azservicebus.RetryOptions{MaxRetries: 100, RetryDelay: 10 * time.Millisecond, MaxRetryDelay: 100 * time.Millisecond}
	c, err := azservicebus.NewClientFromConnectionString(i.ServiceBus, &azservicebus.ClientOptions{RetryOptions: quick})
	if err != nil {
		i.t.Fatal(err)
	}
	defer c.Close(i.ctx)
	s, err := c.NewSender(queue, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	for _, m := range messages {
		if err := s.SendMessage(i.ctx, m, nil); err != nil {
			i.t.Fatal(err)
		}
	}
}

// tell says of a run that failed which jobs have not ended, and why.
func (i *instance) tell(jobs map[string]job.State) {
	if !i.t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	i.Chaos.Remove("")
	for id := range jobs {
		if e, err := i.client.Explain(ctx, id); err != nil || !e.State.Final() {
			i.t.Log(id, e.State, e.Reason, err)
		}
	}
	for _, q := range []string{"jobs", "pool-events", "node-events", "work", "rejected"} {
		active, scheduled, locked, dead := i.Bus.Counts(q)
		i.t.Logf("%s: %d active, %d scheduled, %d locked, %d dead-lettered", q, active, scheduled, locked, dead)
	}
	nodes, err := i.client.Nodes(ctx, "cpu")
	for _, n := range nodes {
		i.t.Log(n.Name, n.State, n.Reason, n.Jobs, n.HeardAt)
	}
	i.t.Log(err, i.Compute.Instances())
}
