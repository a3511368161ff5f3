//go:build unix && !linux

package compute

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// becomeReaper does nothing: this system has no such function. A process that leaves its
// session and loses its parent is not found any more.
func becomeReaper() {}

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// processes lists the children of each process as ps shows them, without zombies.
func processes() map[int][]int {
	children := map[int][]int{}
	out, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
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
	return children
}

// processesOfVM lists the processes that have the VMID in their environment. ps shows the
// environment of this user's programs only.
func processesOfVM(vmid string) []int {
	var found []int
	out, _ := exec.Command("ps", "-A", "-E", "-ww", "-o", "pid=,command=").Output()
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if pid, err := strconv.Atoi(f[0]); err == nil && namesVM(strings.Join(f[1:], "\x00"), vmid) {
			found = append(found, pid)
		}
	}
	return found
}

// unitsOfTheirOwn lists none: only on Linux something outlives its agent.
func unitsOfTheirOwn() []int { return nil }
