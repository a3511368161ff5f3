package scheduler_test

import (
	"reflect"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// The ledger gets each attempt and each node interval, once and whole.
func TestLedgerEntries(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	n := assigned(b.step(submission("1", nil)))["1"]
	b.now = b.now.Add(10 * time.Second)
	r := b.step(
		pool.Reported{
			At: b.now,
			Report: protocol.Report{Pool: "p", VMID: "a", Seen: n, Items: []protocol.ReportItem{{Finished: &protocol.Finished{
				N: n, State: "succeeded", StartedAt: monday, EndedAt: b.now}}}},
		},
	)
	var log *pool.Log
	for _, c := range r.Changes {
		if l, ok := c.Value.(*pool.Log); ok {
			log = l
		}
	}
	if log == nil || len(log.Entries) != 1 || log.Entries[0].To.Sub(log.Entries[0].From) != 10*time.Second || log.Entries[0].Price == "" ||
		r.Effects.RecordAt.IsZero() {
		t.Fatalf("got %+v", log)
	}
	b.now = b.now.Add(30 * time.Second)
	b.step(pool.Tick{})
	b.now = b.now.Add(5 * time.Second)
	r = b.step(pool.Listed{Exists: true})
	for _, c := range r.Changes {
		if l, ok := c.Value.(*pool.Log); ok {
			e := l.Entries[0]
			if e.Busy != 10*time.Second || e.Idle != 30*time.Second || e.Draining != 5*time.Second ||
				e.To.Sub(e.From) != e.Boot+e.Busy+e.Idle+e.Draining {
				t.Errorf("the node's interval: got %+v", e)
			}
			return
		}
	}
	t.Error("the node's interval is not in the ledger")
}

// An attempt's entry says what it held of which node; with a node for itself, that
// is all of it. A node's says what it has.
func TestLedgerKnowsWhatWasHeld(t *testing.T) {
	t.Parallel()
	for _, pack := range []bool{true, false} {
		b := newBench(t, func(s *pool.Spec) {
			s.Sizes, s.Capacity, s.Pack = []string{"Standard_NC64as_T4_v3"}, "spot", pack
		})
		b.step(submission("1", func(s *job.Spec) { s.Resources = job.Resources{CPUs: 2, GPUs: 1, Memory: 8 * job.Gi} }))
		ready := &protocol.Ready{Name: pool.SetName("p", "nc64as-t4-v3-spot") + "_0", CPUs: 64, Boot: "1"}
		b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: "a", Items: []protocol.ReportItem{{Ready: ready}}}})
		b.now = b.now.Add(time.Minute)
		cpus := 64
		if pack {
			cpus = 2
		}
		want := map[string]usage.Entry{
			usage.KindAttempt: {CPUs: cpus, NodeCPUs: 64, GPUs: 1, NodeGPUs: 4, Memory: 8 << 30, NodeMem: 440 << 30, Spot: true},
			usage.KindNode:    {NodeCPUs: 64, NodeGPUs: 4, NodeMem: 440 << 30, Spot: true},
		}
		got := map[string]usage.Entry{}
		finished := b.finish("1")
		b.step(
			pool.Listed{
				Exists:    true,
				Capacity:  1,
				Instances: []pool.Instance{{VMID: "a", ID: "0", Name: ready.Name, Provisioning: "Succeeded", Power: "running"}},
			},
		)
		b.now = b.now.Add(30 * time.Second)
		b.step(pool.Tick{})
		b.now = b.now.Add(5 * time.Second)
		for _, r := range []scheduler.Result{finished, b.step(pool.Listed{Exists: true})} {
			for _, c := range r.Changes {
				if l, ok := c.Value.(*pool.Log); ok {
					for _, e := range l.Entries {
						got[e.Kind] = usage.Entry{
							CPUs:     e.CPUs,
							NodeCPUs: e.NodeCPUs,
							GPUs:     e.GPUs,
							NodeGPUs: e.NodeGPUs,
							Memory:   e.Memory,
							NodeMem:  e.NodeMem,
							Spot:     e.Spot,
						}
					}
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("pack %v: got %+v, want %+v", pack, got, want)
		}
	}
}
