package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the kernel's unit of processor time for programs.
const clockTick = 10 * time.Millisecond

// process is what /proc says of a process.
type process struct {
	parent     int
	own, ended time.Duration // processor time of its own, and of its children that have ended
	role       string
}

// readProcesses counts for this process and all below it.
func readProcesses() (c processCounters) {
	all := processTree()
	for pid, p := range all {
		switch p.role {
		case "handler":
			c.handler += p.own + p.ended
		case "instance":
			c.agents += p.own + p.ended
		case "agent":
			c.agents += p.own
			c.jobs += p.ended
		case "":
			if isBelow(all, pid, "agent") {
				c.jobs += p.own + p.ended
			} else {
				c.servers += p.own + p.ended
			}
		}
		if pid != os.Getpid() {
			c.written += writtenBytes(pid)
		}
	}
	return c
}

// processTree is this process and all below it.
func processTree() map[int]process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	all := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			all[pid] = p
		}
	}
	self := os.Getpid()
	for pid := range all {
		if !isAncestor(all, self, pid) {
			delete(all, pid)
		}
	}
	return all
}

func readProcess(pid int) (p process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, false
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 15 {
		return p, false
	}
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return time.Duration(n) * clockTick
	}
	p.parent, _ = strconv.Atoi(f[1])
	p.own, p.ended = ticks(11)+ticks(12), ticks(13)+ticks(14) // in user and in system mode
	if pid != os.Getpid() {
		line, _ := os.ReadFile(dir + "/cmdline")
		p.role = roleOf(string(line))
	}
	return p, true
}

// maxDepth bounds a walk from a process to its ancestors: processes may end and their
// numbers be given again between two readings.
const maxDepth = 20

// isAncestor reports whether a process is another one, or above it.
func isAncestor(all map[int]process, ancestor, pid int) bool {
	for depth := 0; pid > 1 && depth < maxDepth; depth++ {
		if pid == ancestor {
			return true
		}
		pid = all[pid].parent
	}
	return false
}

// isBelow reports whether an ancestor of a process has the role.
func isBelow(all map[int]process, pid int, role string) bool {
	for depth := 0; pid > 1 && depth < maxDepth; depth++ {
		if all[pid].role == role {
			return true
		}
		pid = all[pid].parent
	}
	return false
}

// writtenBytes is what a process, and its children that have ended, have had written to
// a disk: the kernel counts pages when they are changed, and all of them that it keeps
// together. So it is not used for the servers, whose logs it keeps in large pieces: 4 KB
// that are written there would count as 64. 0 = not known, as of an agent to a user that
// is not root.
func writtenBytes(pid int) int64 { return procNumber(pid, "io", "write_bytes:") }

// readMemory reads the memory of the parts.
func readMemory() *benchMemory {
	const kb = 1024
	mb := func(pid int, name string) float64 { return float64(procNumber(pid, "status", name)*kb) / 1e6 }
	m := &benchMemory{}
	self := os.Getpid()
	for pid, p := range processTree() {
		peak, anonymous := mb(pid, "VmHWM:"), mb(pid, "RssAnon:")
		switch {
		case pid == self:
			m.Peak.Servers, m.Anonymous.Servers = peak, anonymous
		case p.role == "handler":
			m.Peak.Handler, m.Anonymous.Handler = peak, anonymous
		case p.role == "agent":
			m.Peak.Agent, m.Anonymous.Agent = max(m.Peak.Agent, peak), max(m.Anonymous.Agent, anonymous)
		}
	}
	return m
}

// procNumber reads a number from a file of a process that has a name and a number in
// each line.
func procNumber(pid int, file, name string) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// roleOf is the part that a process plays, from its command line: handler, agent,
// instance; "" = none.
func roleOf(commandLine string) string {
	words := strings.Split(commandLine, "\x00")
	if len(words) < 2 {
		return ""
	}
	switch words[1] {
	case "handler", "agent", "instance":
		return words[1]
	}
	return ""
}

// resetPeak has the kernel count this process's peak of memory from now on, where it can.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
