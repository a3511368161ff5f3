package agent

import (
	"os"

	"golang.org/x/sys/unix"
)

// toDisk writes the file's data to the disk.
func toDisk(f *os.File) error { return f.Sync() }

// machineBoot names this boot of the machine; "" when it is not known.
func machineBoot() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}

// seclude does nothing here: the system shows a process's environment to its
// own user.
func seclude() {}
