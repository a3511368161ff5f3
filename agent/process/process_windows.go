package process

import (
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// BirthOf is the start time of a process; "" = there is no such process.
func BirthOf(pid int) string {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return ""
	}
	defer windows.CloseHandle(h)
	var from, to, kernel, user windows.Filetime
	if windows.GetProcessTimes(h, &from, &to, &kernel, &user) != nil {
		return ""
	}
	return strconv.FormatInt(from.Nanoseconds()/int64(time.Microsecond), 10)
}

// KillAttempts has nothing to kill: attempts end with the agent, as their Jobs do, and what is left
// of a Job is killed when another one of its name is made.
func KillAttempts(map[string]Process) bool { return true }

// KillAttempt has nothing to kill; see KillAttempts.
func KillAttempt(string) bool { return true }

// KillAll has nothing to kill; see KillAttempts.
func KillAll(string) bool { return true }
