//go:build unix

package compute

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// descendants lists the roots and all processes below them, each one once. It leaves out
// this process and the processes that are reachable only through it.
func descendants(children map[int][]int, roots ...int) []int {
	seen := map[int]bool{os.Getpid(): true}
	var all []int
	for next := roots; len(next) > 0; {
		var deeper []int
		for _, pid := range next {
			if !seen[pid] {
				seen[pid] = true
				all = append(all, pid)
				deeper = append(deeper, children[pid]...)
			}
		}
		next = deeper
	}
	return all
}

// killPause is the time between two checks whether the killed processes have ended.
const killPause = 2 * time.Millisecond

// killAll kills the processes that find returns until it returns none. It stops all of
// them before it kills the first: a stopped process starts no other, and its children stay
// below it, so no process can leave the tree meanwhile. It returns the processes that
// this user may not kill.
func killAll(find func() []int) (stubborn []int) {
	for {
		stopped, left := map[int]bool{}, 0
		for fresh := true; fresh; {
			fresh = false
			stubborn = stubborn[:0]
			for _, pid := range find() {
				switch err := syscall.Kill(pid, syscall.SIGSTOP); {
				case err == syscall.EPERM:
					stubborn = append(stubborn, pid)
				case err == nil && !stopped[pid]:
					stopped[pid], fresh = true, true
					left++
				}
			}
		}
		if left == 0 {
			return stubborn
		}
		for pid := range stopped {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(killPause)
	}
}

// namesVM reports whether one of this project's variables in an environment holds the
// VMID. Each variable in the environment ends with a zero byte.
func namesVM(environment, vmid string) bool {
	for v := range strings.SplitSeq(environment, "\x00") {
		if strings.HasPrefix(v, "DSVM_") && strings.Contains(v, vmid) {
			return true
		}
	}
	return false
}
