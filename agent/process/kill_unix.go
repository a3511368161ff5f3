//go:build unix

package process

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Killing looks again until nothing is left: a process that is killed may just
// have started another one. The rounds are bounded, since a process can hang in
// the system.
const (
	killRounds = 200
	killPause  = 5 * time.Millisecond
)

// KillAttempts kills what is left of attempts, by key. It reports whether nothing
// is left.
func KillAttempts(attempts map[string]Process) bool {
	return len(attempts) == 0 || killUntilNone(func() []int { return Find(attempts) })
}

// KillAttempt kills what is left of one attempt, found by its key alone.
func KillAttempt(key string) bool { return KillAttempts(map[string]Process{key: {}}) }

// killUntilNone kills what find finds until it finds nothing. It reports whether
// it came to that.
func killUntilNone(find func() []int) bool {
	for range killRounds {
		found := find()
		if len(found) == 0 {
			return true
		}
		for _, pid := range found {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(killPause)
	}
	return false
}

// Reap waits for the end of a child and takes its status.
func Reap(pid int, status *syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(pid, status, 0, nil); err != syscall.EINTR {
			return
		}
	}
}
