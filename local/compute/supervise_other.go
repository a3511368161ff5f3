//go:build unix && !linux

package compute

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// becomeReaper has no counterpart here: a process that leaves its session and
// loses its parent is not found any more.
func becomeReaper() {}

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// descendants lists every process below a process, as ps knows them.
func descendants(root int) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[2], "Z") {
			continue
		}
		pid, err1 := strconv.Atoi(f[0])
		parent, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	return collect(children, root)
}
