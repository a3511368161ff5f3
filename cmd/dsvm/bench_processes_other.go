//go:build unix && !linux

package main

import (
	"syscall"
	"time"
)

// readProcesses counts the processor time of this process and of those below it that
// have ended; what still runs below it is not known here.
func readProcesses() (c processCounters) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			c.servers += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return c
}

// readMemory knows nothing here.
func readMemory() *benchMemory { return nil }

// fileSystem knows nothing here.
func fileSystem(string) string { return "unknown" }

// resetPeak does nothing here.
func resetPeak() {}
