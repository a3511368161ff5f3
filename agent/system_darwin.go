package agent

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// toDisk writes the file's data to the disk.
func toDisk(f *os.File) error {
	countSync()
	return f.Sync()
}

// machineBoot names this boot of the machine; "" when it is not known.
func machineBoot() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}

// seclude does nothing here: the system shows a process's environment to its
// own user.
func seclude() {}

// openPipe makes a pipe. Who reads it is woken when something is in it; who writes to it
// waits where it is full, as for a file.
func openPipe() (read, write int, err error) {
	var ends [2]int
	syscall.ForkLock.RLock() // no process is started before both ends are closed for it
	if err = unix.Pipe(ends[:]); err == nil {
		unix.CloseOnExec(ends[0])
		unix.CloseOnExec(ends[1])
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		if err = unix.SetNonblock(ends[0], true); err == nil {
			return ends[0], ends[1], nil
		}
		unix.Close(ends[0])
		unix.Close(ends[1])
	}
	return -1, -1, err
}

// pipeSize is not known here, and nobody can change it.
func pipeSize(int) (int, error) { return 0, nil }

// fileSystem is the kind of a network file system at a path: cifs or nfs; "" = another.
func fileSystem(path string) string {
	var at unix.Statfs_t
	if unix.Statfs(path, &at) != nil {
		return ""
	}
	switch unix.ByteSliceToString(at.Fstypename[:]) {
	case "smbfs":
		return "cifs"
	case "nfs":
		return "nfs"
	}
	return ""
}
