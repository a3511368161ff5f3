package scheduler_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// crowd is a pool of many nodes, all full, with as many jobs that wait as run, and its
// agents.
type crowd struct {
	s     *scheduler.State
	now   time.Time
	vmids []string
	holds map[string][]int64 // numbers of the assignments of a node
	seen  map[string]int64
	next  int // the node that reports next

	steps, rows, work int // since the last reset: steps, rows written with their heads, messages to nodes
}

func newCrowd(nodes int) *crowd {
	c := &crowd{s: large(16*nodes, nodes), now: monday, holds: map[string][]int64{}, seen: map[string]int64{}}
	for i := range nodes {
		c.vmids = append(c.vmids, fmt.Sprintf("vm-%05d", i))
	}
	c.step()
	return c
}

// step takes events to the pool, as a driver does, and its messages to the nodes.
func (c *crowd) step(events ...pool.Event) {
	for more := true; more; {
		r := scheduler.Step(c.s, events, c.now, scheduler.DefaultTiming)
		events, more = r.Rest, r.More
		c.steps++
		if r.Changed {
			c.rows += len(r.Changes) + 2 // its head, and its row of the change log
			c.s.Head.Seq++
		}
		c.work += len(r.Effects.Work)
		for vmid, items := range r.Effects.Work {
			for _, item := range items {
				c.seen[vmid] = max(c.seen[vmid], item.N)
				if item.Assign != nil {
					c.holds[vmid] = append(c.holds[vmid], item.N)
				}
			}
		}
	}
}

// reports are those of the next nodes, with an item that each has.
func (c *crowd) reports(n int, item func(vmid string) protocol.ReportItem) (events []pool.Event) {
	for range n {
		vmid := c.vmids[c.next]
		c.next = (c.next + 1) % len(c.vmids)
		one := item(vmid)
		r := protocol.Report{V: protocol.Version, Pool: c.s.Head.Spec.Name, VMID: vmid, Seen: c.seen[vmid], Items: []protocol.ReportItem{one}}
		events = append(events, pool.Reported{Report: r, At: c.now})
	}
	return events
}

func (c *crowd) heartbeat(vmid string) protocol.ReportItem {
	return protocol.ReportItem{Holds: &protocol.Holds{N: slices.Clone(c.holds[vmid])}}
}

// finish ends the oldest assignment of a node.
func (c *crowd) finish(vmid string) protocol.ReportItem {
	n := c.holds[vmid][0]
	c.holds[vmid] = c.holds[vmid][1:]
	return protocol.ReportItem{Finished: &protocol.Finished{N: n, State: string(job.AttemptSucceeded), StartedAt: c.now, EndedAt: c.now}}
}

// The reports of nodes: what docs/performance.md says of many nodes is computed from the
// metrics of BenchmarkManyNodes.
const (
	batch      = 100         // messages that a function takes at once, from host.json
	heartbeats = time.Minute // between two reports of a node, from docs/settings.md
)

func BenchmarkManyNodes(b *testing.B) {
	for _, nodes := range []int{1_000, 10_000} { // the most of one pool, and of a deployment with ten of them
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) { benchmarkNodes(b, nodes) })
	}
}

func benchmarkNodes(b *testing.B, manyNodes int) {
	before := heapInUse()
	c := newCrowd(manyNodes)
	running := 0
	for _, held := range c.holds {
		running += len(held)
	}
	memory := float64(heapInUse()-before) / (1 << 20)
	b.Run("tick", func(b *testing.B) {
		for b.Loop() {
			c.step(pool.Tick{})
		}
		b.ReportMetric(float64(running), "running")
		b.ReportMetric(float64(c.s.Head.Queued), "waiting")
		b.ReportMetric(memory, "MB")
	})
	// A batch of heartbeats, and the time that passes until as many nodes report again.
	b.Run("heartbeats", func(b *testing.B) {
		for range manyNodes / batch { // each has been heard once
			c.now = c.now.Add(heartbeats * batch / time.Duration(manyNodes))
			c.step(c.reports(batch, c.heartbeat)...)
		}
		c.steps, c.rows, c.work = 0, 0, 0
		n := 0
		for b.Loop() {
			c.now = c.now.Add(heartbeats * batch / time.Duration(manyNodes))
			c.step(c.reports(batch, c.heartbeat)...)
			n += batch
		}
		b.ReportMetric(float64(c.rows)/float64(n), "rows/report")
		b.ReportMetric(float64(c.work)/float64(n), "work/report")
	})
	// A batch of reports, each of one end, whose places are taken by jobs that wait.
	b.Run("turnover", func(b *testing.B) {
		c.steps, c.rows, c.work = 0, 0, 0
		n := 0
		for b.Loop() && n < running {
			c.now = c.now.Add(time.Second)
			c.step(c.reports(batch, c.finish)...)
			n += batch
		}
		b.ReportMetric(float64(c.rows)/float64(n), "rows/job")
		b.ReportMetric(float64(c.work)/float64(n), "work/job")
		b.ReportMetric(float64(c.steps)*batch/float64(n), "steps/batch")
	})
	runtime.KeepAlive(c)
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestHeartbeatsCostLittle: a node that runs and reports nothing new costs at most its own
// row once in a while, and no answer, so that the heartbeats of many nodes fit into the
// limits of the services.
func TestHeartbeatsCostLittle(t *testing.T) {
	t.Parallel()
	c := newCrowd(200)
	round := func() {
		for range len(c.vmids) / batch {
			c.now = c.now.Add(heartbeats * batch / time.Duration(len(c.vmids)))
			c.step(c.reports(batch, c.heartbeat)...)
		}
	}
	round()
	c.steps, c.rows, c.work = 0, 0, 0
	const rounds = 10
	for range rounds {
		round()
	}
	reports := rounds * len(c.vmids)
	// A batch of 100 may need two transactions, with a head and a row of the log each.
	if most := reports + 4*reports/batch; c.rows > most {
		t.Errorf("%d heartbeats wrote %d rows, want at most %d", reports, c.rows, most)
	}
	if c.work > reports/100 {
		t.Errorf("%d heartbeats of busy nodes were answered by %d messages, want hardly any", reports, c.work)
	}
}
