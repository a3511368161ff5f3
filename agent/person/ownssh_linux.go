package person

import (
	"errors"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// CheckOwnSSH says why the system's SSH server cannot serve the account of this process,
// which is not root; nil = it can. Such a server lets in its own account alone, and cannot
// give a terminal to the group tty: it has to be that group's from the start, as the mount
// option gid of /dev/pts has it on most machines, and not in every container.
func CheckOwnSSH() error {
	if _, err := FindSSHD(); err != nil {
		return err
	}
	group, err := user.LookupGroup("tty")
	if err != nil {
		return nil // sshd leaves terminals as they are
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.New("no terminal can be opened on this machine; mount /dev/pts")
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return errors.New("no terminal can be opened on this machine; mount /dev/pts")
	}
	var at unix.Stat_t
	if err := unix.Stat("/dev/pts/"+strconv.Itoa(number), &at); err != nil || strconv.Itoa(int(at.Gid)) != group.Gid {
		return errors.New("terminals do not belong to the group tty, and an SSH server without root cannot give them to it; " +
			"mount /dev/pts with gid=" + group.Gid)
	}
	return nil
}
