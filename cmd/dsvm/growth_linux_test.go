package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local"
	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// burstWithin is within what time of its arrival all nodes of a burst are asked for.
const burstWithin = 2 * time.Second

// A burst that comes while the first node is being made is asked for at once, and
// every instance is shown from its first listing.
func TestBurst(t *testing.T) {
	t.Parallel()
	type request struct {
		n  int
		at time.Time
	}
	asked := make(chan request, 100)
	i := startInstance(t, nil, func(cfg *local.Config) {
		cfg.BootDelay = time.Hour // no operation ends here
		cfg.OnCapacity = func(_ string, n int, at time.Time) { asked <- request{n, at} }
	})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":10}}`)
	jobs := func(from, n int) (all []*azservicebus.Message) {
		for k := range n {
			all = append(all, body(`{"id":"job-%d","pool":"cpu","command":["true"],"resources":{"cpus":2}}`, from+k))
		}
		return all
	}
	creating := func(n int) func() bool {
		return func() bool {
			nodes, err := i.client.Nodes(i.ctx, "cpu")
			if err != nil || len(nodes) != n {
				return false
			}
			for _, node := range nodes {
				if node.State != pool.NodeCreating {
					t.Errorf("node %s is %s", node.Name, node.State)
				}
			}
			return true
		}
	}
	i.send("jobs", jobs(0, 1)...)
	i.until("the first node in the list", creating(1))
	i.send("jobs", jobs(1, 5)...)
	arrived := time.Now()
	for n := 0; n < 6; {
		select {
		case a := <-asked:
			if n = a.n; n == 6 {
				t.Logf("all nodes of the burst were asked for %s after it had arrived", a.at.Sub(arrived).Round(time.Millisecond))
				if took := a.at.Sub(arrived); took > burstWithin {
					t.Errorf("that is more than %s", burstWithin)
				}
			}
		case <-i.ctx.Done():
			t.Fatal("not all nodes of the burst are asked for")
		}
	}
	i.until("all nodes in the list", creating(6))
}

// One instance sticks in Creating. The five others run everything within one boot,
// and the stuck one is deleted when its time is up, counted from the request.
func TestOneInstanceSticks(t *testing.T) {
	t.Parallel()
	const boot, deadline = 2 * time.Second, 10 * time.Second
	i := startInstance(t, map[string]string{"DSVM_BOOT_DEADLINE": "10s"}, func(cfg *local.Config) { cfg.BootDelay = boot })
	if _, err := i.Chaos.Add(chaos.Injection{Do: chaos.Stick, Target: "compute/boot", Count: 1}); err != nil {
		t.Fatal(err)
	}
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":6},"idleTimeout":"1s"}`)
	send := func(from, n int) {
		var all []*azservicebus.Message
		for k := range n {
			all = append(all, body(`{"id":"job-%d","pool":"cpu","command":["sleep","0.2"],"resources":{"cpus":2}}`, from+k))
		}
		i.send("jobs", all...)
	}
	begin := time.Now()
	send(0, 1)
	i.until("the instance that sticks", func() bool { return len(i.Compute.Instances()) == 1 })
	stuck := i.Compute.Instances()[0]
	second := time.Now()
	send(1, 17)
	var last time.Time
	used := map[string]bool{}
	for _, j := range i.jobs(18) {
		if j.State != job.Succeeded || j.Attempts[0].Node == stuck.Name {
			t.Errorf("job %s is %s, on %s", j.ID, j.State, j.Attempts[0].Node)
		}
		used[j.Attempts[0].Node] = true
		if j.EndedAt.After(last) {
			last = *j.EndedAt
		}
	}
	t.Logf("all 18 jobs had ended %s after the 17 had arrived; a boot takes %s", last.Sub(second).Round(time.Millisecond), boot)
	// Had anything waited for the stuck instance, it would have waited for its deadline.
	if took := last.Sub(second); len(used) != 5 || took >= deadline {
		t.Errorf("%d nodes took %s; five of them need one boot", len(used), took)
	}
	i.until("the end of the stuck instance", func() bool {
		return !slices.ContainsFunc(i.Compute.Instances(), func(s compute.Snapshot) bool { return s.VMID == stuck.VMID })
	})
	if took := time.Since(begin); took < deadline-time.Second || took > deadline+10*time.Second {
		t.Errorf("it was deleted after %s, its deadline is %s", took, deadline)
	}
}

// Machines that boot and never report: after three in a row no more are bought,
// the sentence says where to look, and `resume` goes on at once.
func TestNodesThatNeverReport(t *testing.T) {
	t.Parallel()
	i := startInstance(
		t,
		map[string]string{
			"DSVM_BOOT_DEADLINE": "1s",
			"DSVM_FLEET_POLL":    "100ms",
			"DSVM_MISSING_FOR":   "300ms",
			"RECONCILE_SCHEDULE": "* * * * * *",
		},
	)
	if _, err := i.Chaos.Add(chaos.Injection{Do: chaos.Refuse, Target: "compute/boot"}); err != nil {
		t.Fatal(err)
	}
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	i.send("jobs", body(`{"id":"a","pool":"cpu","command":["true"]}`))
	i.until("a breaker that opens", func() bool {
		p, err := i.client.Pool(i.ctx, "cpu")
		return err == nil && strings.Contains(p.Reason, "3 nodes in a row did not come up") && strings.Contains(p.Reason, "Service Bus")
	})
	i.until("the end of the last of them", func() bool { return len(i.Compute.Instances()) == 0 })
	rules, _ := i.Chaos.List()
	if rules[0].Hits != 3 {
		t.Errorf("%d machines were bought", rules[0].Hits)
	}
	for what, explain := range map[string]func() (string, error){
		"job": func() (string, error) { e, err := i.client.Explain(i.ctx, "a"); return e.Reason, err },
		"pool": func() (string, error) {
			e, err := i.client.ExplainPool(i.ctx, "cpu")
			return e.Reason + e.Unblocks, err
		},
	} {
		if reason, err := explain(); err != nil || !strings.Contains(reason, "dsvm pool resume cpu") {
			t.Errorf("explain of the %s: %v %q", what, err, reason)
		}
	}
	i.Chaos.Remove("")
	for range 2 {
		if p, err := i.client.Resume(i.ctx, "cpu"); err != nil || p.State == "blocked" {
			t.Errorf("resumed: %v, %s %s", err, p.State, p.Reason)
		}
	}
	if j := i.job("a"); j.State != job.Succeeded {
		t.Errorf("the job is %s: %s", j.State, j.Reason)
	}
}
