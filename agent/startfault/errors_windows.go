package startfault

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// Errors of the system, by what they mean.
// Source: https://learn.microsoft.com/windows/win32/debug/system-error-codes.
var (
	exhausted = []syscall.Errno{windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_OUTOFMEMORY, windows.ERROR_TOO_MANY_OPEN_FILES,
		windows.ERROR_NO_SYSTEM_RESOURCES, windows.ERROR_COMMITMENT_LIMIT, windows.ERROR_NOT_ENOUGH_QUOTA}
	unreachable = []syscall.Errno{windows.ERROR_IO_DEVICE, windows.ERROR_NOT_READY, windows.ERROR_REM_NOT_LIST, windows.ERROR_BAD_NETPATH,
		windows.ERROR_DEV_NOT_EXIST, windows.ERROR_UNEXP_NET_ERR, windows.ERROR_NETNAME_DELETED, windows.ERROR_BAD_NET_NAME,
		windows.ERROR_SEM_TIMEOUT, windows.ERROR_NETWORK_UNREACHABLE, windows.ERROR_HOST_UNREACHABLE, windows.ERROR_CONNECTION_ABORTED}
	full = []syscall.Errno{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_WRITE_PROTECT,
		windows.ERROR_DISK_QUOTA_EXCEEDED}
)
