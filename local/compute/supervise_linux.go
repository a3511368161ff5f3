package compute

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeReaper makes this process the parent of every orphan below it.
func becomeReaper() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// childAttr makes the system kill the agent when its supervisor dies.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// processes lists the children of each process, without zombies.
func processes() map[int][]int {
	children := map[int][]int{}
	eachProcess(func(pid int, dir string) {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return
		}
		// The line is: pid (name) state ppid. The name may hold any character, so read after it.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) < 2 || f[0] == "Z" || f[0] == "X" {
			return
		}
		if parent, err := strconv.Atoi(f[1]); err == nil {
			children[parent] = append(children[parent], pid)
		}
	})
	return children
}

// processesOfVM lists the processes that have the VMID in their environment, without
// zombies: their environment is empty.
func processesOfVM(vmid string) []int {
	var found []int
	eachProcess(func(pid int, dir string) {
		if environment, err := os.ReadFile(dir + "/environ"); err == nil && namesVM(string(environment), vmid) {
			found = append(found, pid)
		}
	})
	return found
}

// ownUnit is the variable by which a process says that it is no part of the agent's unit:
// what the agent has started to outlive it.
const ownUnit = "DSVM_OWN_UNIT="

// unitsOfTheirOwn lists the processes of this one's user that have the variable: what runs
// as another user cannot have itself spared.
func unitsOfTheirOwn() (found []int) {
	eachProcess(func(pid int, dir string) {
		at, err := os.Stat(dir)
		if err != nil {
			return
		}
		if sys, ok := at.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
			return
		}
		environment, err := os.ReadFile(dir + "/environ")
		if err != nil {
			return
		}
		for v := range strings.SplitSeq(string(environment), "\x00") {
			if strings.HasPrefix(v, ownUnit) {
				found = append(found, pid)
			}
		}
	})
	return found
}

func eachProcess(visit func(pid int, dir string)) {
	proc, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer proc.Close()
	entries, _ := proc.Readdirnames(-1)
	for _, name := range entries {
		if pid, err := strconv.Atoi(name); err == nil {
			visit(pid, "/proc/"+name)
		}
	}
}
