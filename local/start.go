//go:build unix

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The errors of a start name the remedy. A start never replaces missing data by something
// empty.

// databases are the files of the servers, in the order in which the first start creates
// them.
var databases = []string{"servicebus.db", "tables.db", "compute.db"}

// checkComplete returns an error if a part of the folder is missing. It accepts the folder
// of a first start that was killed: that has only the first databases and no identity,
// which a start writes last.
func checkComplete(dir string) error {
	_, err := os.Stat(identityFile(dir))
	isStarted := err == nil // a start has completed once
	var there, missing []string
	for _, name := range databases {
		path := filepath.Join(dir, "data", name)
		at, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, path)
		case err != nil:
			return err
		case at.Size() == 0 && isStarted:
			missing = append(missing, path+" (it is empty)")
		default:
			if there = append(there, path); len(missing) > 0 {
				isStarted = true // a later file exists, so this is not a first start
			}
		}
	}
	if isStarted && len(missing) > 0 {
		beside := "the instance that its folder holds"
		if len(there) > 0 {
			beside = strings.Join(there, " and ")
		}
		return fmt.Errorf("%s is missing beside %s, and together they hold one state; "+
			"restore it from a copy, or begin with an empty folder (--data DIR, or move %s away)",
			strings.Join(missing, " and "), beside, dir)
	}
	share := filepath.Join(dir, "share")
	_, dangling := os.Readlink(share)
	if _, err := os.Stat(share); (isStarted || dangling == nil) && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing, the share with all logs and outputs; "+
			"mount or restore it, or make an empty folder there to go on without them", share)
	}
	return nil
}

// portNames are the names of the ports in notes to the user.
var portNames = map[string]string{
	"url":        "the HTTP API",
	"serviceBus": "Service Bus",
	"tables":     "the tables",
	"arm":        "the resource manager",
	"relay":      "the relay",
	"prices":     "the price list",
	"control":    "faults",
	"issuer":     "the sign-in",
}

// releaseTakenPorts removes the ports that other programs use now, and returns them by name.
func (id *identity) releaseTakenPorts() map[string]int {
	taken := map[string]int{}
	for name, port := range id.Ports {
		if l, err := net.Listen("tcp", id.addr(name)); err == nil {
			l.Close()
		} else if errors.Is(err, syscall.EADDRINUSE) && port != 0 {
			taken[name], id.Ports[name] = port, 0
		}
	}
	return taken
}

// movedPorts returns a sentence for each port that has changed.
func (id *identity) movedPorts(taken map[string]int) []string {
	var notes []string
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		what := portNames[name]
		if what == "" {
			what = name
		}
		notes = append(notes, fmt.Sprintf("port %d, which %s had, is taken by another program; "+
			"it is %d now, as instance.json says; change it where the old one is named",
			taken[name], what, id.Ports[name]))
	}
	return notes
}

// lockHolder returns the process that has locked the folder, according to the lock file;
// "" = unknown.
func lockHolder(lock string) string {
	b, err := os.ReadFile(lock)
	if text := strings.TrimSpace(string(b)); err == nil && text != "" && len(text) < 100 {
		return ", process " + text
	}
	return ""
}

// writeLockHolder writes this process's id into the lock file, for the error of another
// start. It is not the lock itself.
func writeLockHolder(lock string) { _ = os.WriteFile(lock, fmt.Appendln(nil, os.Getpid()), 0o644) }

// startError adds the remedy to an error of the system.
func startError(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk that holds %s is full; free some space, or choose another folder with --data (%w)", dir, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s cannot be written by this user; choose another folder with --data, or have this one made yours (%w)", dir, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a folder; choose another with --data (%w)", dir, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("too few files may be open at once; raise that with `ulimit -n`, or LimitNOFILE= of a systemd unit (%w)", err)
	}
	return err
}

// How many files a process may have open. An instance without nodes has some 60 open;
// each node, client and reader of a log adds a few.
const (
	minFiles    = 256
	enoughFiles = 4096
)

// RaiseFiles raises the limit of open files of this process as far as the system
// allows. It returns a note when the limit is low, and an error when it is too low to
// start.
func RaiseFiles() (note string, err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", nil // the limit is not known
	}
	if limit.Cur < limit.Max && limit.Cur < enoughFiles {
		raised := unix.Rlimit{Cur: min(limit.Max, enoughFiles), Max: limit.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return judgeFiles(limit.Cur)
}

func judgeFiles(limit uint64) (note string, err error) {
	const remedy = "raise that with `ulimit -n 4096`, or LimitNOFILE=4096 of a systemd unit; the hard limit is root's to raise"
	switch {
	case limit < minFiles:
		return "", fmt.Errorf("this process may have %d files open at once, and an instance needs %d at least; %s", limit, minFiles, remedy)
	case limit < enoughFiles:
		return fmt.Sprintf("this process may have %d files open at once, which is enough for a few nodes; %s", limit, remedy), nil
	}
	return "", nil
}
