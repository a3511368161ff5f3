// Package collector sets the garbage collector of the handler and of the local servers.
// They make much garbage on a small heap: with the default of the Go runtime they
// collect every few milliseconds under load, which takes up to a third of their processor
// time. So the heap may grow to five times what is in use, but not beyond a goal for the
// memory. If what is in use needs more than that, the limit follows: a heap at its limit
// would be collected without end.
//
// It never changes what GOGC and GOMEMLIMIT of the environment have set.
package collector

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	percent   = 400
	leastRoom = 4 // at least live/leastRoom is left for garbage
)

// Tune sets the collector of this process. goal is in bytes of what the Go runtime holds;
// the program itself comes on top.
func Tune(getenv func(string) string, goal int64) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(goal)
		followLiveHeap(goal, goal)
	}
}

// followLiveHeap sets the limit again after each collection, if that changes it by much.
func followLiveHeap(goal, limit int64) {
	runtime.AddCleanup(new(cycleEnd), func(limit int64) {
		live, beside := readLive()
		next := limitFor(goal, live, beside)
		if math.Abs(float64(next-limit)) > float64(limit)/16 {
			debug.SetMemoryLimit(next)
			limit = next
		}
		followLiveHeap(goal, limit)
	}, limit)
}

// cycleEnd is an object that nothing refers to: the next collection frees it. It holds a
// pointer, so that the runtime does not put it together with other objects.
type cycleEnd struct{ _ *cycleEnd }

// limitFor is the limit for what is in use: live bytes of the heap, and what the runtime
// holds beside the heap.
func limitFor(goal, live, beside int64) int64 {
	return max(goal, live+live/leastRoom+beside)
}

// readLive reads both.
func readLive() (live, beside int64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	n := make([]int64, len(samples))
	for i := range samples {
		n[i] = int64(samples[i].Value.Uint64())
	}
	return n[0], max(0, n[1]-n[2]-n[3]-n[4]-n[5])
}
