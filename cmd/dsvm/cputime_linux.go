package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the kernel's unit of processor time for programs.
const clockTick = 10 * time.Millisecond

// cpuTime is the processor time of this process, of all processes below it, and
// of those below them that have ended.
func cpuTime() time.Duration {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	type process struct {
		parent int
		ticks  int64
	}
	all := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) < 15 {
			continue
		}
		parent, _ := strconv.Atoi(f[1])
		p := process{parent: parent}
		for _, field := range f[11:15] { // own and ended children's, in user and system mode
			n, _ := strconv.ParseInt(field, 10, 64)
			p.ticks += n
		}
		all[pid] = p
	}
	self := os.Getpid()
	var total int64
	for pid, p := range all {
		for at, depth := pid, 0; at > 1 && depth < 20; at, depth = all[at].parent, depth+1 {
			if at == self {
				total += p.ticks
				break
			}
		}
	}
	return time.Duration(total) * clockTick
}
