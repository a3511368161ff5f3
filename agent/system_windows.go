package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// toDisk writes the file's data to the disk.
func toDisk(f *os.File) error {
	countSync()
	return f.Sync()
}

// machineBoot names this boot of the machine, by its time; "" when it is not known. A clock that is
// set moves it: the agent then takes what waits for something that may have run.
func machineBoot() string {
	var at struct{ boot, now, bias int64 } // SYSTEM_TIMEOFDAY_INFORMATION begins so
	var whole [48]byte
	const timeOfDay = 3
	if windows.NtQuerySystemInformation(timeOfDay, unsafe.Pointer(&whole), uint32(len(whole)), nil) != nil {
		return ""
	}
	at.boot = *(*int64)(unsafe.Pointer(&whole))
	return strconv.FormatInt(at.boot, 10)
}

// seclude does nothing here: the system keeps the memory of a service from other users.
func seclude() {}

// fileSystem is the kind of a network file system at a path: cifs; "" = another.
func fileSystem(path string) string {
	volume := filepath.VolumeName(path)
	if strings.HasPrefix(volume, `\\`) {
		return "cifs"
	}
	root, err := windows.UTF16PtrFromString(volume + `\`)
	if err == nil && windows.GetDriveType(root) == windows.DRIVE_REMOTE {
		return "cifs"
	}
	return ""
}

// isMount checks that a path is on a share: a drive or a name of one.
func isMount(path string) error {
	if fileSystem(path) == "" {
		return errors.New("it is not on a share")
	}
	_, err := os.Stat(path)
	return err
}

// shareSyncCount is not possible here.
func shareSyncCount(string) error {
	return errors.New("DSVM_SYNC_COUNT is not possible on Windows; leave it out")
}

// putInPlace gives the journal's new file, which is open, its place, and returns it open. No file
// that is open can be replaced here.
func (j *journal) putInPlace(f *os.File) (*os.File, error) {
	f.Close()
	j.f.Close()
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return nil, err
	}
	return os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
}

// syncDir does nothing: a folder cannot be synced here.
func syncDir(string) error { return nil }
