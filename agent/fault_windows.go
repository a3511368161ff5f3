package agent

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// Errors of starting a program, by what they mean.
var (
	tooLong   = []syscall.Errno{windows.ERROR_FILENAME_EXCED_RANGE}
	noProgram = []syscall.Errno{windows.ERROR_BAD_EXE_FORMAT, windows.ERROR_EXE_MACHINE_TYPE_MISMATCH, windows.ERROR_INVALID_EXE_SIGNATURE}
	denied    = []syscall.Errno{windows.ERROR_ACCESS_DENIED, windows.ERROR_PRIVILEGE_NOT_HELD}
	missing   = []syscall.Errno{windows.ERROR_FILE_NOT_FOUND, windows.ERROR_PATH_NOT_FOUND}
)

// canUseDir reports whether the attempt's directory is there.
func (s *launch) canUseDir() bool {
	at, err := os.Stat(s.attr.Dir)
	return err == nil && at.IsDir()
}
