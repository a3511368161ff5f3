package store

import (
	"fmt"
	"testing"

	"dsvmpools/shared/pool"
)

func BenchmarkCommit(b *testing.B) {
	for _, rows := range []int{2, 90} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			w := newWriter(b, open(b, serve(b)), "cpu")
			changes := make([]pool.Change, rows-1)
			for n := range changes {
				j := newJob(n)
				changes[n] = pool.Change{Key: pool.JobKey(j.Order), Value: j}
			}
			for b.Loop() {
				w.commit(changes...)
			}
			b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkRegister100(b *testing.B) {
	s := open(b, serve(b))
	round := 0
	for b.Loop() {
		round++
		ids := newIDs(100, "h")
		for i := range ids {
			ids[i].ID = fmt.Sprintf("job-%d-%d", round, i)
		}
		if _, _, err := s.Register(deadline(b), ids); err != nil {
			b.Fatal(err)
		}
	}
}
