//go:build unix

package agent

import (
	"context"
	"testing"

	"dsvmpools/shared/protocol"
)

// BenchmarkAssignments runs /bin/true on one agent, over a bus in memory and a
// journal on disk: assigned in lists of eight, acknowledged with the next list.
func BenchmarkAssignments(b *testing.B) {
	const list = 8
	bus := newBus(b)
	bus.forget = true
	n := launched(b, config(b), bus)
	ctx, done := context.WithCancel(context.Background())
	defer done()
	b.ResetTimer()
	var next int64
	var acks []int64
	for next < int64(b.N) {
		var items []protocol.WorkItem
		if len(acks) > 0 {
			items = append(items, protocol.WorkItem{Ack: acks})
			acks = nil
		}
		for len(acks) < list && next < int64(b.N) {
			next++
			items = append(items, assign(next, "/bin/true"))
			acks = append(acks, next)
		}
		n.work(items...)
		if err := n.await(ctx, func() bool { return n.count >= int(next) }); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "assignments/s")
}
