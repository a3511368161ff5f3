package agent

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// toDisk writes the file's data to the disk; its times may wait.
func toDisk(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// machineBoot names this boot of the machine; "" when it is not known.
func machineBoot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// seclude keeps what the agent knows from processes of its own user: its memory
// and its environment, where the connection string is, and files that its parent left
// open.
func seclude() {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
}
