package agent

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// toDisk writes the file's data to the disk; its times may wait.
func toDisk(f *os.File) error {
	countSync()
	return unix.Fdatasync(int(f.Fd()))
}

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

// openPipe makes a pipe. Who reads it is woken when something is in it; who writes to it
// waits where it is full, as for a file.
func openPipe() (read, write int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return -1, -1, err
	}
	if _, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETFL, 0); err != nil {
		unix.Close(ends[0])
		unix.Close(ends[1])
		return -1, -1, err
	}
	return ends[0], ends[1], nil
}

// pipeSize is how many bytes a pipe holds: a process that has it can change that.
func pipeSize(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0) }

// fileSystem is the kind of a network file system at a path: cifs or nfs; "" = another.
func fileSystem(path string) string {
	const smb2 = 0xfe534d42 // what the kernel's cifs says for SMB from version 2 on
	var at unix.Statfs_t
	if unix.Statfs(path, &at) != nil {
		return ""
	}
	switch uint32(at.Type) {
	case unix.CIFS_SUPER_MAGIC, smb2:
		return "cifs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	}
	return ""
}
