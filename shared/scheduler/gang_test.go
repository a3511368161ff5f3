package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

func gangOf(nodes, cpus int) func(*job.Spec) {
	return func(s *job.Spec) { s.Nodes, s.Resources.CPUs = nodes, cpus }
}

// rank reports how a rank ended, or that it has started.
func (b *bench) rank(order string, rank int, item func(n int64) protocol.ReportItem) scheduler.Result {
	b.t.Helper()
	j := b.s.Jobs.Get(order)
	r := j.Attempts[len(j.Attempts)-1].Ranks[rank]
	return b.step(
		pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: r.VMID, Seen: r.N, Items: []protocol.ReportItem{item(r.N)}}},
	)
}

func (b *bench) ended(state string, code int) func(int64) protocol.ReportItem {
	return func(n int64) protocol.ReportItem {
		return protocol.ReportItem{
			Finished: &protocol.Finished{N: n, State: state, ExitCode: code, StartedAt: b.now, EndedAt: b.now.Add(time.Second)},
		}
	}
}

func TestGangIsPlacedOnAllNodesOrNone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.node("n2")
	r := b.step(submission("1", gangOf(3, 2)))
	if len(r.Effects.Work) != 0 || grown(r) != 3 {
		t.Fatalf("with two nodes of three: placed on %d, asks for %d; want none, and 3 in all", len(r.Effects.Work), grown(r))
	}
	if e := b.explain("1"); !strings.Contains(e.Reason, "it takes 3 nodes at once, of which 2 have room") {
		t.Errorf("got %q", e.Reason)
	}
	b.step(pool.Answered{Kind: pool.OpGrow})
	b.node("n3")
	j := b.s.Jobs.Get("1")
	if j.VMID == "" || b.s.Head.Running != 1 {
		t.Fatalf("with three nodes: got %s", j.State)
	}
	a := j.Attempts[0]
	for i, rank := range a.Ranks {
		if n := b.s.Nodes[rank.VMID]; rank.Rank != i || rank.Address != n.Name || n.State != pool.NodeBusy {
			t.Errorf("rank %d: %+v on a node that is %s", i, rank, n.State)
		}
	}
	if on := j.On(); len(slices.Compact(slices.Sorted(slices.Values(on)))) != 3 {
		t.Errorf("it is on %v", on)
	}
	for i := range 3 {
		b.rank("1", i, func(n int64) protocol.ReportItem {
			return protocol.ReportItem{Started: &protocol.Started{N: n, At: b.now}}
		})
		b.rank("1", i, b.ended("succeeded", 0))
	}
	if j.State != job.Succeeded || b.s.Jobs.Len() != 0 || b.s.Head.Running != 0 {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
}

// The work item of a rank says where the others are.
func TestGangAssignment(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for i := range 2 {
		vmid := fmt.Sprint("n", i)
		b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: vmid,
			Items: []protocol.ReportItem{{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: "1", Address: fmt.Sprint("10.0.0.", i)}}}}})
	}
	b.list()
	r := b.step(submission("1", gangOf(2, 4)))
	port := 0
	for i := range 2 {
		items := r.Effects.Work[fmt.Sprint("n", i)]
		if len(items) != 1 || items[0].Assign.Gang == nil {
			t.Fatalf("node %d got %+v", i, items)
		}
		g := items[0].Assign.Gang
		if g.Rank != i || !slices.Equal(g.Hosts, []string{"10.0.0.0", "10.0.0.1"}) || g.Port < 20000 || g.Port > 32000 ||
			port != 0 && g.Port != port {
			t.Errorf("rank %d gets %+v", i, g)
		}
		port = g.Port
	}
}

// The first rank that fails ends the attempt on all nodes, and its end is that of
// the attempt; the others' ends come late and change nothing.
func TestGangFailsAsOne(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for i := range 3 {
		b.node(fmt.Sprint("n", i))
	}
	b.step(submission("1", func(s *job.Spec) {
		s.Nodes, s.Resources.CPUs = 3, 4
		s.Retry = job.Retry{Max: 1}
	}))
	j := b.s.Jobs.Get("1")
	r := b.rank("1", 1, b.ended("failed", 7))
	for _, i := range []int{0, 2} {
		rank := j.Attempts[0].Ranks[i]
		items := r.Effects.Work[rank.VMID]
		if len(items) != 1 || items[0].Cancel == nil || items[0].Cancel.Target != rank.N {
			t.Errorf("rank %d is sent %+v, want its cancel", i, items)
		}
	}
	if n := b.s.Nodes[j.Attempts[0].Ranks[1].VMID]; n.State != pool.NodeReady {
		t.Errorf("the node of the failed rank is %s", n.State)
	}
	b.rank("1", 0, b.ended("cancelled", job.ExitCancelled))
	if j.VMID == "" {
		t.Fatal("the attempt is over before its last rank is")
	}
	b.rank("1", 2, b.ended("succeeded", 0))
	if a := j.Attempts[0]; a.State != job.AttemptFailed || a.ExitCode != 7 ||
		!strings.HasPrefix(a.Reason, "rank 1 on node n1 ended first") {
		t.Errorf("the attempt: %+v", a)
	}
	if len(j.Attempts) != 2 || j.VMID == "" || j.Retries != 1 {
		t.Fatalf("no second attempt: %+v", j)
	}
	// A node is lost: the same, and at no cost.
	vmid := j.Attempts[1].Ranks[0].VMID
	b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
	b.step(pool.Fenced{VMID: vmid, Taken: true})
	var l pool.Listed
	l.Exists = true
	for id, n := range b.s.Nodes {
		if id != vmid && n.State != pool.NodeGone {
			l.Instances = append(
				l.Instances,
				pool.Instance{VMID: id, ID: "id-" + id, Name: id, Provisioning: "Succeeded", Power: "running"},
			)
		}
	}
	l.Capacity = len(l.Instances)
	b.step(l)
	for _, i := range []int{1, 2} {
		b.rank("1", i, b.ended("cancelled", job.ExitCancelled))
	}
	if a := j.Attempts[1]; a.State != job.AttemptNodeLost || j.State != job.Queued || j.Retries != 1 {
		t.Errorf("after a node was lost: attempt %+v, job is %s after %d retries", a, j.State, j.Retries)
	}
}

// Two gangs that each have half of the nodes they need do not wait for each other,
// and smaller jobs do not take the nodes that gather.
func TestGangsDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 4 })
	for i := range 4 {
		b.node(fmt.Sprint("n", i))
	}
	var small []pool.Event
	for i := range 4 {
		small = append(small, submission(fmt.Sprint("a", i), func(s *job.Spec) { s.Resources.CPUs = 4 }))
	}
	b.step(small...)
	b.step(submission("b1", gangOf(3, 4)), submission("b2", gangOf(3, 4)), submission("c", func(s *job.Spec) { s.Resources.CPUs = 4 }))
	for i := range 3 {
		b.finish(fmt.Sprint("a", i))
	}
	if j := b.s.Jobs.Get("b1"); j.VMID == "" {
		t.Fatalf("the first gang is %s after three nodes came free", j.State)
	}
	if b.s.Jobs.Get("b2").VMID != "" || b.s.Jobs.Get("c").VMID != "" {
		t.Fatal("there is no room for the others")
	}
	b.finish("a3")
	if b.s.Jobs.Get("c").VMID != "" {
		t.Error("a job after the second gang took a node that is kept for it")
	}
	for i := range 3 {
		b.rank("b1", i, b.ended("succeeded", 0))
	}
	if b.s.Jobs.Get("b2").VMID == "" || b.s.Jobs.Get("c").VMID == "" {
		t.Errorf("after the first gang: the second is %s and the small job %s", b.s.Jobs.Get("b2").State, b.s.Jobs.Get("c").State)
	}
}

func TestCancelGang(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.node("n2")
	b.step(submission("1", gangOf(2, 1)))
	j := b.s.Jobs.Get("1")
	if r := b.step(pool.Cancel{Order: "1", Reason: "enough"}); len(r.Effects.Work) != 2 {
		t.Fatalf("%d nodes are asked to end it", len(r.Effects.Work))
	}
	b.rank("1", 0, b.ended("cancelled", job.ExitCancelled))
	b.rank("1", 1, b.ended("cancelled", job.ExitCancelled))
	if j.State != job.Cancelled {
		t.Errorf("got %s", j.State)
	}
}

// A rank that its node does not have is sent again, as the others wait for it.
func TestGangRankLostOnItsWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.node("n2")
	b.step(submission("1", gangOf(2, 1)))
	rank := b.s.Jobs.Get("1").Attempts[0].Ranks[1]
	r := b.step(
		pool.Reported{
			At:     b.now,
			Report: protocol.Report{Pool: "p", VMID: rank.VMID, Seen: rank.N, Items: []protocol.ReportItem{{Holds: &protocol.Holds{}}}},
		},
	)
	items := r.Effects.Work[rank.VMID]
	if len(items) != 1 || items[0].Assign == nil || items[0].N <= rank.N || items[0].Assign.Gang.Rank != 1 {
		t.Fatalf("it is sent %+v", items)
	}
	b.rank("1", 1, b.ended("succeeded", 0))
	j := b.s.Jobs.Get("1")
	b.rank("1", 0, b.ended("succeeded", 0))
	if j.State != job.Succeeded || len(j.Attempts) != 1 {
		t.Errorf("got %s after %d attempts", j.State, len(j.Attempts))
	}
}

func TestGangRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil) // at most 5 nodes
	r := b.step(submission("1", gangOf(6, 1)))
	if len(r.Refused) != 1 || r.Refused[0].Err.Field != "nodes" || !strings.Contains(r.Refused[0].Err.Message, "never has more than 5") {
		t.Errorf("got %+v", r.Refused)
	}
}

// TestReservedNodeWakesNobody: a node that is reserved for a gang stays beyond the time that an
// idle one may stay, and does not wake the pool again and again for that.
func TestReservedNodeWakesNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("a")
	b.step(submission("j1", func(s *job.Spec) { s.Nodes = 2 }))
	b.now = b.now.Add(time.Duration(b.s.Head.Spec.IdleTimeout))
	r := b.step(pool.Tick{})
	if b.s.Nodes["a"].State != pool.NodeReady {
		t.Fatalf("the node is %s", b.s.Nodes["a"].State)
	}
	if wake := r.Effects.WakeAt; wake.Equal(b.now) {
		t.Errorf("the pool is woken again at once, at %s", wake)
	}
}
