package keeper

import (
	"bytes"
	"os"
	"strconv"
)

// descendants lists the living processes below one.
func descendants(root int) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	children := map[int][]int{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if parent, ok := parentOf(pid); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	seen := map[int]bool{root: true}
	for next := []int{root}; len(next) > 0; {
		var deeper []int
		for _, parent := range next {
			for _, pid := range children[parent] {
				if !seen[pid] {
					seen[pid] = true
					deeper = append(deeper, pid)
				}
			}
		}
		all, next = append(all, deeper...), deeper
	}
	return all
}

// parentOf reads the parent of a process that lives: proc(5) has pid (name) state
// ppid, and the name may hold anything.
func parentOf(pid int) (int, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 2 || f[0][0] == 'Z' || f[0][0] == 'X' {
		return 0, false
	}
	parent, err := strconv.Atoi(string(f[1]))
	return parent, err == nil
}
