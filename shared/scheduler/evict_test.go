package scheduler_test

import (
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

func (b *bench) say(vmid string, items ...protocol.ReportItem) scheduler.Result {
	b.t.Helper()
	return b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: vmid, Seen: b.s.Head.N, Items: items}})
}

func leaving() protocol.ReportItem {
	return protocol.ReportItem{Leaving: &protocol.Leaving{Event: "Preempt", At: monday, Reason: "its Spot VM is evicted"}}
}

func evicted(n int64) protocol.ReportItem {
	return protocol.ReportItem{
		Finished: &protocol.Finished{
			N:         n,
			State:     string(job.AttemptEvicted),
			ExitCode:  job.ExitEvicted,
			Reason:    "its Spot VM is evicted",
			StartedAt: monday,
			EndedAt:   monday,
		},
	}
}

// A node that is evicted gets nothing more, and its work runs elsewhere without
// a retry being spent.
func TestEvictedNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	n := assigned(b.step(submission("1", nil)))["1"]
	b.node("b")
	b.say("a", leaving())
	if got := b.s.Nodes["a"]; got.State != pool.NodeDraining || got.Reason != "its Spot VM is evicted" {
		t.Fatalf("got %s: %s, want draining", got.State, got.Reason)
	}
	if r := b.step(submission("2", nil)); len(r.Effects.Work["a"]) > 0 || assigned(r)["2"] == 0 {
		t.Errorf("placed on %+v, want on b", r.Effects.Work)
	}
	r := b.say("a", evicted(n))
	if assigned(r)["1"] == 0 || len(r.Effects.Work["b"]) == 0 {
		t.Errorf("got %+v, want the job on b", r.Effects.Work)
	}
	j := b.s.Jobs.Get("1")
	if j.Retries != 0 || len(j.Attempts) != 2 || j.Attempts[0].State != job.AttemptEvicted || j.Attempts[0].ExitCode != job.ExitEvicted {
		t.Errorf("got %+v", j)
	}
	if len(r.Effects.Remove) != 1 || r.Effects.Remove[0].VMID != "a" {
		t.Errorf("removed: got %+v, want a", r.Effects.Remove)
	}
}

// When the VM is gone before its agent has said what became of its work, that
// was the eviction.
func TestEvictedBeforeTheWord(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	n := assigned(b.step(submission("1", nil)))["1"]
	b.say("a", leaving(), protocol.ReportItem{Started: &protocol.Started{N: n, At: monday}})
	b.step(pool.Listed{Exists: true})
	b.now = b.now.Add(b.timing.MissingFor + time.Second)
	b.step(pool.Listed{Exists: true})
	if got := b.s.Nodes["a"]; got.State != pool.NodeGone || got.Reason != "its Spot VM is evicted" {
		t.Errorf("node: got %s: %s", got.State, got.Reason)
	}
	if a := b.s.Jobs.Get("1").Attempts[0]; a.State != job.AttemptEvicted || a.ExitCode != job.ExitEvicted {
		t.Errorf("attempt: got %+v", a)
	}
}

func TestEvictionsAreFreeForAWhile(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 100 })
	b.step(submission("1", nil))
	const free = 10
	for i := range free + 1 {
		vmid := string(rune('a' + i))
		b.node(vmid)
		j := b.s.Jobs.Get("1")
		if j == nil || j.VMID != vmid {
			t.Fatalf("attempt %d: got %+v, want it on %s", i+1, j, vmid)
		}
		b.say(vmid, leaving())
		r := b.say(vmid, evicted(j.N))
		if i < free {
			continue
		}
		last := r.Changes[0].Value.(*pool.Job)
		if b.s.Jobs.Get("1") != nil || last.State != job.Failed || last.ExitCode != job.ExitEvicted {
			t.Errorf("after %d evictions: got %+v, want it failed", i+1, last)
		}
	}
}

// A VM that stands still is deleted, and what it ran runs elsewhere.
func TestStoppedVM(t *testing.T) {
	t.Parallel()
	for _, power := range []string{"stopped", "deallocated"} {
		b := newBench(t, nil)
		b.node("a")
		b.step(submission("1", func(s *job.Spec) { s.Retry.Max = 1 }))
		b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
		r := b.step(
			pool.Listed{
				Exists:    true,
				Capacity:  1,
				Instances: []pool.Instance{{VMID: "a", ID: "id-a", Name: "a", Provisioning: "Succeeded", Power: power}},
			},
		)
		if n := b.s.Nodes["a"]; n.State != pool.NodeFailed || len(r.Effects.Remove) != 1 {
			t.Fatalf("%s: got %s: %s, removed %v", power, n.State, n.Reason, r.Effects.Remove)
		}
		b.step(pool.Listed{Exists: true})
		if j := b.s.Jobs.Get("1"); j.State != job.Queued || j.Attempts[0].State != job.AttemptNodeLost {
			t.Errorf("%s: got %+v", power, j)
		}
	}
}
