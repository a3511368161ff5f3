//go:build unix && !linux

package main

import (
	"syscall"
	"time"
)

// cpuTime is the processor time of this process and of those below it that have
// ended; what still runs below it is not known here.
func cpuTime() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}
