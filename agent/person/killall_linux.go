package person

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobodysUID is the number of no person: see maxUID.
const nobodysUID = maxUID + 1

// processesOf lists the processes of a user.
func processesOf(uid int) (all []int) {
	eachProcess(func(pid int, s processStatus) {
		if s.uid == uid {
			all = append(all, pid)
		}
	})
	return all
}

// killAllOf kills all processes of a user in one call. A list of them is old once it is
// there: what forks and ends faster than it is read would live for ever. Nothing else of the
// machine is touched.
func killAllOf(uid int) error {
	if uid < minUID || uid > maxUID {
		return fmt.Errorf("%d is no person's number", uid)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := killAsUser(uid)
		if _, _, failed := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); failed == 0 {
			runtime.UnlockOSThread() // a thread that is not root's any more ends with this function
		}
		done <- err
	}()
	return <-done
}

// killAsUser has the calling thread alone be the user for signals: effective, so that it
// reaches the user's processes, and not real, so that none of those reaches it.
func killAsUser(uid int) error {
	if _, _, failed := syscall.RawSyscall(unix.SYS_SETRESUID, nobodysUID, uintptr(uid), 0); failed != 0 {
		return failed
	}
	// Had the thread kept root's rights, the call would end the machine.
	if err := syscall.Kill(1, 0); !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("the thread may still signal what is not the person's: %v", err)
	}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return nil
}
