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

// What a start finds wrong is said with the way out, and nothing that was there is
// replaced by something empty.

// databases are the files of an instance's servers, in the order in which a first start
// makes them.
var databases = []string{"tables.db", "servicebus.db", "compute.db"}

// checkWhole refuses a folder of which a part has gone. A first start that was killed
// leaves the first databases without the others, and no identity, which comes last.
func checkWhole(dir string) error {
	_, err := os.Stat(identityFile(dir))
	begun := err == nil
	var there, missing []string
	for _, name := range databases {
		path := filepath.Join(dir, "data", name)
		at, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, path)
		case err != nil:
			return err
		case at.Size() == 0 && begun:
			missing = append(missing, path+" (it is empty)")
		default:
			if there = append(there, path); len(missing) > 0 {
				begun = true // what is made later is there: it is no first start
			}
		}
	}
	if begun && len(missing) > 0 {
		beside := "the instance that its folder holds"
		if len(there) > 0 {
			beside = strings.Join(there, " and ")
		}
		return fmt.Errorf("%s is missing beside %s, and together they hold one state; restore it from a copy, or begin with an empty folder (--data DIR, or move %s away)",
			strings.Join(missing, " and "), beside, dir)
	}
	share := filepath.Join(dir, "share")
	_, dangling := os.Readlink(share)
	if _, err := os.Stat(share); (begun || dangling == nil) && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing, the share with all logs and outputs; mount or restore it, or make an empty folder there to go on without them", share)
	}
	return nil
}

// servedAs says what an instance serves at a port, as a person knows it.
var servedAs = map[string]string{"url": "the HTTP API", "serviceBus": "Service Bus", "tables": "the tables", "arm": "the resource manager", "control": "faults"}

// freePorts gives up the ports that other programs have taken since the last start. It
// returns those.
func (id *identity) freePorts() map[string]int {
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

// moved says which ports are others now.
func (id *identity) moved(taken map[string]int) []string {
	var notes []string
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		what := servedAs[name]
		if what == "" {
			what = name
		}
		notes = append(notes, fmt.Sprintf("port %d, which %s had, is taken by another program; it is %d now, as instance.json says; change it where the old one is named",
			taken[name], what, id.Ports[name]))
	}
	return notes
}

// holder is who has the folder, as the file of its lock says.
func holder(lock string) string {
	b, err := os.ReadFile(lock)
	if text := strings.TrimSpace(string(b)); err == nil && text != "" && len(text) < 100 {
		return ", process " + text
	}
	return ""
}

// hold writes who has the folder. It is for people: the lock itself is the file's.
func hold(lock string) { _ = os.WriteFile(lock, fmt.Appendln(nil, os.Getpid()), 0o644) }

// startError adds the way out to what the system refuses.
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

// Bounds of how many files a process may have open. An instance without nodes has some
// 60; each node, client and follower of a log adds a few.
const (
	fewestFiles = 256
	enoughFiles = 4096
)

// RaiseFiles has this process open as many files as it is allowed to, which Go does by
// itself where it can. It returns a note when that is little, and an error when it is
// too little to start.
func RaiseFiles() (note string, err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", nil // it is not known, and the first refusal will say so
	}
	if limit.Cur < limit.Max && limit.Cur < enoughFiles {
		raised := unix.Rlimit{Cur: min(limit.Max, enoughFiles), Max: limit.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return judgeFiles(limit.Cur)
}

func judgeFiles(most uint64) (note string, err error) {
	const out = "raise that with `ulimit -n 4096`, or LimitNOFILE=4096 of a systemd unit; the hard limit is root's to raise"
	switch {
	case most < fewestFiles:
		return "", fmt.Errorf("this process may have %d files open at once, and an instance needs %d at least; %s", most, fewestFiles, out)
	case most < enoughFiles:
		return fmt.Sprintf("this process may have %d files open at once, which is enough for a few nodes; %s", most, out), nil
	}
	return "", nil
}
