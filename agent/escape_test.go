//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// escape plays the programs that a job starts to get away from its agent. The first
// word names the program, the second is in the command line of all of them, and the
// third is a file that says that it runs.
func escape(args []string) bool {
	if len(args) < 3 {
		return false
	}
	kind, mark, up := args[0], args[1], args[2]
	again := func(kind string, attr *syscall.SysProcAttr) {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			os.Exit(1)
		}
		self, _ := os.Executable()
		if _, err := syscall.ForkExec(self, []string{"x", kind, mark, up}, &syscall.ProcAttr{Dir: "/", Env: []string{}, Sys: attr,
			Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}); err != nil {
			os.Exit(1)
		}
	}
	switch kind {
	case "linger": // does nothing for an hour
		os.WriteFile(up, nil, 0o644)
		time.Sleep(time.Hour)
	case "daemon": // as daemon(3): a session of its own, and then no parent
		again("daemon2", &syscall.SysProcAttr{Setsid: true})
	case "daemon2":
		again("linger", &syscall.SysProcAttr{})
	case "hop": // is never the same process for long, nor in the same session
		os.WriteFile(up, nil, 0o644)
		time.Sleep(10 * time.Millisecond)
		again("hop", &syscall.SysProcAttr{Setsid: true})
	case "spread": // a crowd of them
		for i := range 20 {
			again("linger", &syscall.SysProcAttr{Setsid: i%2 == 0})
		}
		os.WriteFile(filepath.Clean(up), nil, 0o644)
		time.Sleep(time.Hour)
	default:
		return false
	}
	return true
}
