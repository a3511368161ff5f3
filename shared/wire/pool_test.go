package wire_test

import (
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// A list of pools names the nodes that are kept for a look, and until when.
func TestPoolNamesQuarantine(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	bad := func(since time.Time) *pool.Node { return &pool.Node{State: pool.NodeQuarantined, Since: since} }
	for name, test := range map[string]struct {
		head   pool.Head
		nodes  []*pool.Node
		reason string
	}{
		"none": {nodes: []*pool.Node{{State: pool.NodeReady}, {State: pool.NodeLost}}},
		"one":  {nodes: []*pool.Node{bad(at), {State: pool.NodeReady}}, reason: "1 node is quarantined until 2026-03-02T10:00:00Z; `dsvm node list` says why"},
		"two": {nodes: []*pool.Node{bad(at.Add(time.Minute)), bad(at)},
			reason: "2 nodes are quarantined, the first until 2026-03-02T10:00:00Z; `dsvm node list` says why"},
		"beside another reason": {head: pool.Head{Down: true}, nodes: []*pool.Node{bad(at)},
			reason: "down by its schedule; 1 node is quarantined until 2026-03-02T10:00:00Z; `dsvm node list` says why"},
	} {
		p := wire.NewPool(wire.PoolSummary{Head: test.head, Nodes: test.nodes})
		want := 0
		for _, n := range test.nodes {
			if n.State == pool.NodeQuarantined {
				want++
			}
		}
		if p.Reason != test.reason || p.Nodes.Quarantined != want || p.Nodes.Total != len(test.nodes) || p.Nodes.Other < want {
			t.Errorf("%s: got %q with %+v", name, p.Reason, p.Nodes)
		}
	}
	n := wire.NewNodes(wire.PoolSummary{Nodes: []*pool.Node{bad(at), {VMID: "x", State: pool.NodeReady, Since: at}}})
	if n[0].Until == nil || !n[0].Until.Equal(at.Add(time.Hour)) || n[1].Until != nil {
		t.Errorf("until: got %v and %v", n[0].Until, n[1].Until)
	}
}

// A refusal blocks a pool until its time has passed, and no longer.
func TestPoolIsBlockedForATime(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	head := pool.Head{Sets: []pool.Set{{Name: "a", Blocked: pool.Block{Code: "noQuota", Message: "no quota", Until: until}}}}
	for at, want := range map[time.Time]wire.PoolState{until.Add(-time.Second): wire.PoolBlocked, until: wire.PoolReady, until.Add(time.Hour): wire.PoolReady} {
		p := wire.NewPool(wire.PoolSummary{Head: head, At: at})
		if blocked := p.Rungs[0].Blocked != ""; p.State != want || blocked != (want == wire.PoolBlocked) || (p.Reason != "") != blocked {
			t.Errorf("at %s: got %s, %q, %+v", at, p.State, p.Reason, p.Rungs)
		}
	}
}
