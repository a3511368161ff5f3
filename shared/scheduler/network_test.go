package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// listener brings a node up whose door listens.
func (b *bench) listener(vmid, inside string) scheduler.Result {
	b.t.Helper()
	r := b.reports(vmid, protocol.ReportItem{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: "1", Features: []string{protocol.FeatureSession, protocol.FeatureWays},
		Listens: &protocol.Listens{Public: "20.1.2.3:443", Inside: inside}}})
	b.list()
	return r
}

// opens answers a call for what a step wants, as done.
func (b *bench) opens(want *pool.Network) scheduler.Result {
	b.t.Helper()
	if want == nil {
		b.t.Fatal("no call was wanted")
	}
	return b.step(pool.Networked{Key: want.Key(), Began: b.now, Address: "lab.example.com:22"})
}

// TestNetworkFollowsSessions: the doors of nodes are open while sessions live there, and the
// balancer is there while nodes are.
func TestNetworkFollowsSessions(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Access = []string{"direct", "balancer"} }))
	if r := b.step(open("01", "ann")); r.Effects.Network != nil {
		t.Errorf("without a node, %+v is wanted", r.Effects.Network)
	}
	r := b.listener("a", "10.1.0.4:443")
	want := &pool.Network{Open: []string{"10.1.0.4:443"}, Balancer: true, Address: true}
	if r.Effects.Network == nil || r.Effects.Network.Key() != want.Key() {
		t.Fatalf("with a session, %+v is wanted", r.Effects.Network)
	}
	b.opens(want)
	if o := b.s.Head.Opening; !o.Done || o.Sure || o.Address != "lab.example.com:22" {
		t.Errorf("the head says %+v", o)
	}
	b.step(open("02", "bob")) // on the same node
	if r := b.step(); r.Effects.Network != nil {
		t.Errorf("a second session on the node changes the network: %+v", r.Effects.Network)
	}
	for _, owner := range []string{"ann", "bob"} {
		j := b.enters(owner)
		r = b.reports("a", protocol.ReportItem{Finished: &protocol.Finished{N: j.N, State: "succeeded", EndedAt: b.now}})
	}
	if r.Effects.Network == nil || len(r.Effects.Network.Open) != 0 || !r.Effects.Network.Balancer {
		t.Fatalf("after the sessions, %+v is wanted", r.Effects.Network)
	}
	b.opens(r.Effects.Network)
	b.now = b.now.Add(time.Hour) // the node is idle for too long
	b.step(pool.Tick{})
	r = b.step(pool.Listed{Exists: true, At: b.now})
	if r.Effects.Network == nil || !r.Effects.Network.IsNone() {
		t.Fatalf("without nodes, %+v is wanted; nodes %+v", r.Effects.Network, b.s.Nodes["a"].State)
	}
	none := r.Effects.Network
	if r = b.opens(none); r.Effects.Network != nil || b.s.Head.Opening.Wanted == "" || !b.s.Head.NeedsLook(nil) {
		t.Error("the pool does not look once more, when no earlier call can come")
	}
	b.now = b.now.Add(b.timing.NetworkSettled)
	r = b.step(pool.Tick{})
	b.opens(r.Effects.Network)
	if b.s.Head.Opening != (pool.Opening{}) || b.s.Head.NeedsLook(nil) {
		t.Errorf("at rest, the head says %+v", b.s.Head.Opening)
	}
}

// TestNetworkLate: a call that was decided earlier comes after the last one, and nothing of it
// stays.
func TestNetworkLate(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Access = []string{"direct"} }))
	b.step(open("01", "ann"))
	opened := b.listener("a", "10.1.0.4:443").Effects.Network
	j := b.enters("ann")
	none := b.reports("a", protocol.ReportItem{Finished: &protocol.Finished{N: j.N, State: "succeeded", EndedAt: b.now}}).Effects.Network
	b.opens(none)
	b.now = b.now.Add(b.timing.NetworkSettled)
	b.opens(b.step(pool.Tick{}).Effects.Network)
	if b.s.Head.Opening != (pool.Opening{}) {
		t.Fatalf("at rest, the head says %+v", b.s.Head.Opening)
	}
	// Of the first call nothing was heard until now.
	r := b.step(pool.Networked{Key: opened.Key(), Began: b.now.Add(-time.Second)})
	if r.Effects.Network == nil || !r.Effects.Network.IsNone() {
		t.Fatalf("after a late call, %+v is wanted", r.Effects.Network)
	}
	b.opens(r.Effects.Network)
	if b.s.Head.Opening.Sure {
		t.Error("the pool is sure at once")
	}
}

// TestNetworkAgain: what fails, is not answered or takes long is looked at again.
func TestNetworkAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Access = []string{"direct"} }))
	b.step(open("01", "ann"))
	want := b.listener("a", "10.1.0.4:443").Effects.Network
	wait := func(what string, after time.Duration) {
		t.Helper()
		if r := b.step(); r.Effects.Network != nil {
			t.Fatalf("%s: looked at again at once", what)
		}
		b.now = b.now.Add(after)
		if r := b.step(); r.Effects.Network == nil || !slices.Equal(r.Effects.Network.Open, want.Open) {
			t.Fatalf("%s: not looked at again after %s", what, after)
		}
	}
	wait("no answer", b.timing.NetworkAgain)
	b.step(pool.Networked{Key: want.Key(), Began: b.now, Err: fault.New(fault.Forbidden, "", "the app may not")})
	if p := b.s.Head.Opening.Problem; p != "the app may not" {
		t.Errorf("the head says the problem is %q", p)
	}
	wait("an error", 10*time.Second)
	b.step(pool.Networked{Key: want.Key(), Began: b.now, After: 3 * time.Second})
	wait("work", 3*time.Second)
	b.opens(want)
	wait("to be sure", b.timing.NetworkSettled)
	b.opens(want)
	wait("now and then", b.timing.NetworkEvery)
	b.opens(want)
	if r := b.step(pool.Loaded{}); r.Effects.Network == nil {
		t.Error("a process that takes the pool up does not look")
	}
}

// TestNetworkOfADeletedPool: its rows stay until nothing is left in the network.
func TestNetworkOfADeletedPool(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Access, s.Balancer.Keep = []string{"balancer"}, true }))
	r := b.step(pool.Loaded{})
	if r.Effects.Network == nil || !r.Effects.Network.Address {
		t.Fatalf("with `keep`, %+v is wanted", r.Effects.Network)
	}
	b.opens(r.Effects.Network)
	r = b.step(pool.Delete{})
	if r.Effects.Network == nil || !r.Effects.Network.IsNone() || r.Effects.DropRows {
		t.Fatalf("a pool that is deleted wants %+v, and drops its rows: %v", r.Effects.Network, r.Effects.DropRows)
	}
	b.opens(r.Effects.Network)
	b.now = b.now.Add(b.timing.NetworkSettled)
	r = b.step(pool.Tick{})
	if r.Effects.DropRows {
		t.Error("the rows go before it is sure that nothing is left")
	}
	if r = b.opens(r.Effects.Network); !r.Effects.DropRows {
		t.Errorf("the rows stay; the head says %+v", b.s.Head.Opening)
	}
}
