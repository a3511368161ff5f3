package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// sessionPrefix begins the names of the control groups of sessions. It is not that of the
// agent's own groups, which every start of an agent empties.
const sessionPrefix = "dsvmsession-"

// makeSessionGroups makes the control groups of a session where systemd does not, and bounds
// them: cpus and bytes, 0 = unbounded. A group of version 2 comes first: it holds all
// processes. What was made is returned with the error.
func makeSessionGroups(name string, cpus int, memory int64) (dirs []string, err error) {
	mounts := cgroupMounts()
	if len(mounts) == 0 {
		return nil, errors.New("no control groups are mounted")
	}
	add := func(parent string) string {
		dir := filepath.Join(parent, sessionPrefix+name)
		if e := os.Mkdir(dir, 0o755); e != nil && !errors.Is(e, fs.ErrExist) {
			err = errors.Join(err, e)
			return ""
		}
		dirs = append(dirs, dir)
		return dir
	}
	set := func(dir, file, value string) {
		if e := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); e != nil {
			err = errors.Join(err, e)
		}
	}
	has := map[string]bool{}
	if m, ok := mounts[""]; ok {
		if dir := add(m[0]); dir != "" {
			for _, c := range enableControllers(dir) { // and above it
				has[c] = true
			}
			// A group that has processes has no groups with controllers below it.
			os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("-memory -cpu -pids"), 0)
			if has["memory"] && memory > 0 {
				set(dir, "memory.max", strconv.FormatInt(memory, 10))
			}
			if has["cpu"] && cpus > 0 {
				set(dir, "cpu.max", fmt.Sprintf("%d %d", cpus*cpuPeriod, cpuPeriod))
			}
			if has["pids"] {
				set(dir, "pids.max", strconv.Itoa(mostProcesses()))
			}
		}
	}
	for _, controller := range []string{"memory", "cpu", "cpuacct", "pids", "blkio"} {
		m, ok := mounts[controller]
		if !ok || has[controller] {
			continue
		}
		dir := add(filepath.Join(m[0], m[1]))
		switch {
		case dir == "":
		case controller == "memory" && memory > 0:
			set(dir, "memory.limit_in_bytes", strconv.FormatInt(memory, 10))
		case controller == "cpu" && cpus > 0:
			set(dir, "cpu.cfs_quota_us", strconv.Itoa(cpus*cpuPeriod))
		case controller == "pids":
			set(dir, "pids.max", strconv.Itoa(mostProcesses()))
		}
	}
	return dirs, err
}
