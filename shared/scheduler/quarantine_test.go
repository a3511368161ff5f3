package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// breakNode makes a node fail three jobs by its own fault. The jobs are cancelled then.
func (b *bench) breakNode(vmid string, number int) {
	b.t.Helper()
	for i := range 3 {
		o := order(number*10 + i)
		b.step(submission(o, nil))
		j := b.s.Jobs.Get(o)
		if j.VMID != vmid {
			b.t.Fatalf("job %s is on %q, want %s", o, j.VMID, vmid)
		}
		b.startFails(o, job.CauseDisk)
		b.step(pool.Cancel{Order: o, Reason: "no more"})
	}
}

// Of a pool, one broken node in four is kept for a look; the others leave.
func TestFewBrokenNodesAreKept(t *testing.T) {
	t.Parallel()
	for size, most := range map[int]int{2: 1, 4: 1, 7: 1, 8: 2} {
		b := newBench(t, func(s *pool.Spec) { s.Nodes.Max, s.IdleTimeout = size, job.Duration(time.Hour) })
		for i := range size {
			vmid := fmt.Sprint("n", i)
			b.node(vmid)
			if i+1 < size { // the last one is sound
				b.breakNode(vmid, i)
			}
		}
		kept, leaving := 0, 0
		for _, n := range b.s.Nodes {
			switch n.State {
			case pool.NodeQuarantined:
				kept++
			case pool.NodeDraining, pool.NodeDeleting:
				leaving++
				if !strings.Contains(n.Reason, "enough broken nodes are kept") {
					t.Errorf("node %s leaves: %s", n.VMID, n.Reason)
				}
			}
		}
		// While the pool was small, one was kept; those that came later may be kept when it had grown.
		if kept > most || kept < 1 || kept+leaving != size-1 {
			t.Errorf("of %d nodes %d are kept and %d leave; want at most %d kept, and one left at work", size, kept, leaving, most)
		}
	}
}

// The last node that takes work stays while work waits, however broken, and is set
// aside when none does.
func TestLastSoundNodeStays(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.node("n1")
	b.step(submission("1", full), submission("2", full), submission("3", full), submission("4", full))
	n := b.s.Nodes["n1"]
	for i := range 4 {
		b.startFails(fmt.Sprint(i+1), job.CauseScratch)
		if n.Breaks != i+1 || n.State != pool.NodeBusy && n.State != pool.NodeReady {
			t.Fatalf("after %d jobs: %s with %d breaks", i+1, n.State, n.Breaks)
		}
	}
	for i := range 4 {
		b.step(pool.Cancel{Order: fmt.Sprint(i + 1), Reason: "no more"})
	}
	b.states(map[string]pool.NodeState{"n1": pool.NodeQuarantined})
}

// Quarantined nodes do not count towards nodes.max.
func TestQuarantinedNodesAreReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.node("n1")
	b.breakNode("n1", 1)
	b.states(map[string]pool.NodeState{"n1": pool.NodeQuarantined})
	r := b.step(submission("next", nil))
	if grown(r) != 2 || b.s.Head.Wanted != 1 {
		t.Fatalf("asked for %d in all with %d wanted; want one beside the node that is kept", grown(r), b.s.Head.Wanted)
	}
	if e := scheduler.ExplainPool(b.s, b.now, b.timing); e.State != "growing" ||
		!strings.Contains(e.Reason, "1 node is quarantined until 2026-03-02T10:00:00Z") {
		t.Errorf("got %+v", e)
	}
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.node("n2")
	if b.s.Jobs.Get("next").VMID != "n2" {
		t.Errorf("got %+v", b.explain("next"))
	}
	if r := b.step(submission("more", full)); grown(r) != 0 {
		t.Errorf("asked for %d nodes; the pool has its one", grown(r))
	}
	b.now = b.now.Add(time.Hour)
	b.list()
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 1 && b.s.Nodes["n1"].State != pool.NodeDeleting {
		t.Errorf("after the time to look at it: %s", b.s.Nodes["n1"].State)
	}
}
