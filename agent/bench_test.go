//go:build unix

package agent

import (
	"context"
	"syscall"
	"testing"
	"time"

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
	before := processors()
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
	b.ReportMetric((processors()-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

// processors is the time that this process and its children have used of them.
func processors() (all time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if syscall.Getrusage(who, &used) == nil {
			all += time.Duration(used.Utime.Nano() + used.Stime.Nano())
		}
	}
	return all
}
