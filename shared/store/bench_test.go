package store

import (
	"fmt"
	"runtime"
	"testing"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
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

func bytesInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkMemory is what a job that waits takes in memory once its row has been
// read, its place in line included; without variables and with four.
func BenchmarkMemory(b *testing.B) {
	const jobs = 100_000
	for _, env := range []map[string]string{nil, {"SEED": "1", "LR": "0.1", "DATA": "/data/2026", "MODE": "train"}} {
		b.Run(fmt.Sprintf("env=%d", len(env)), func(b *testing.B) {
			for b.Loop() {
				before := bytesInUse()
				list := make([]*pool.Job, jobs)
				for n := range list {
					j := newJob(n)
					j.Spec.ID, j.Spec.Team, j.Spec.User, j.Spec.Env = j.ID, fmt.Sprint("team", n%20), "ann", env
					raw, err := encodeJob("cpu", pool.JobKey(j.Order), j)
					if err == nil {
						list[n], err = decodeJob(raw)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				s := scheduler.NewState(pool.Head{Spec: pool.Spec{Name: "cpu", Sizes: []string{"Standard_D16s_v5"}}}, nil, list, dawn)
				list = nil
				b.ReportMetric(float64(bytesInUse()-before)/jobs, "B/job")
				runtime.KeepAlive(s)
			}
		})
	}
}
