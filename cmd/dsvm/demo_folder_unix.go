//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"dsvmpools/agent/person"
	"dsvmpools/cmd/dsvm/cli"
)

// demoPrefix begins the names of the folders of demonstrations.
const demoPrefix = "dsvm-demo-people-"

// makeDemoFolder makes the folder of a demonstration, and removes those that were left by
// demonstrations which were killed: a folder is in use as long as its lock is held, which the
// system takes from a process that ends. forget removes the folder.
func makeDemoFolder() (dir string, forget func(), err error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), demoPrefix+"*"))
	for _, old := range left {
		removeLeftDemo(old)
	}
	if dir, err = os.MkdirTemp("", demoPrefix); err != nil {
		return "", nil, err
	}
	lock := flock.New(filepath.Join(dir, demoLock))
	if err := lock.Lock(); err != nil {
		return "", nil, err
	}
	return dir, func() {
		removeDemoFolder(dir)
		_ = lock.Unlock()
	}, nil
}

// demoLock is the lock's file in the folder.
const demoLock = "demo.lock"

// removeLeftDemo removes the folder of a demonstration that was killed. A folder of somebody
// else stays, who could have written into it what is to be removed; and so does that of a
// demonstration that is just making its lock.
func removeLeftDemo(dir string) {
	at, err := os.Lstat(dir)
	if err != nil || !at.IsDir() || at.Mode().Perm()&0o022 != 0 {
		return
	}
	if sys, ok := at.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return
	}
	file := filepath.Join(dir, demoLock)
	if _, err := os.Lstat(file); err != nil {
		return
	}
	lock := flock.New(file)
	if got, err := lock.TryLock(); err != nil || !got {
		return
	}
	defer func() { _ = lock.Unlock() }()
	removeDemoFolder(dir)
}

// removeDemoFolder removes a folder, and what its sessions have outside of it: processes,
// which have lost their nodes, control groups and sockets. Accounts and mounts of a session
// are seen by its processes alone, and gone with these.
func removeDemoFolder(dir string) {
	plans, _ := filepath.Glob(filepath.Join(dir, cli.InstanceFolder, "instances", "*", "sessions", "*", person.PlanFile))
	for _, plan := range plans {
		p, err := person.Stored(filepath.Dir(plan))
		if err == nil && !person.Clear(p) {
			return // its keeper still ends: the next demonstration removes the folder
		}
	}
	os.RemoveAll(dir)
}
