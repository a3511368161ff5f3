package person

import (
	"os"
	"strconv"
	"strings"
)

// processStatus is what /proc says of a process.
type processStatus struct {
	parent, uid int
	dead        bool
}

// eachProcess visits the processes of the machine that live.
func eachProcess(visit func(pid int, s processStatus)) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, ok := readStatus(pid); ok && !s.dead {
			visit(pid, s)
		}
	}
}

func readStatus(pid int) (s processStatus, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return s, false
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		switch name {
		case "State":
			s.dead = f[0] == "Z" || f[0] == "X"
		case "PPid":
			s.parent, _ = strconv.Atoi(f[0])
		case "Uid": // the real one
			s.uid, _ = strconv.Atoi(f[0])
			return s, true
		}
	}
	return s, false
}

// hasVariable reports whether a process was started with NAME=value in its environment.
func hasVariable(pid int, variable string) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for v := range strings.SplitSeq(string(text), "\x00") {
		if v == variable {
			return true
		}
	}
	return false
}

// descendants lists the processes below one.
func descendants(of int) []int {
	children := map[int][]int{}
	eachProcess(func(pid int, s processStatus) { children[s.parent] = append(children[s.parent], pid) })
	var all []int
	for next := []int{of}; len(next) > 0; {
		var deeper []int
		for _, pid := range next {
			all = append(all, children[pid]...)
			deeper = append(deeper, children[pid]...)
		}
		next = deeper
	}
	return all
}
