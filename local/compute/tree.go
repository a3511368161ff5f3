//go:build unix

package compute

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// descendants lists the roots and every process descendants them, once each; this process
// is never among them, and neither is what is descendants it for another reason.
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

// killPause is between two looks at whether what was killed is gone.
const killPause = 2 * time.Millisecond

// killAll kills what find finds until it finds nothing. Everything is stopped
// before anything is killed: a process that is stopped starts no other, and
// what is below it stays below it, so that nothing slips out in between. It
// returns what it has no right to kill.
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

// namesVM reports whether an environment, as variables each ended by a zero byte,
// has one of this project's variables that holds the VMID.
func namesVM(environment, vmid string) bool {
	for v := range strings.SplitSeq(environment, "\x00") {
		if strings.HasPrefix(v, "DSVM_") && strings.Contains(v, vmid) {
			return true
		}
	}
	return false
}
