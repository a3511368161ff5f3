package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// enableColor asks the console to understand colours and reports whether it
// does.
func enableColor() bool {
	out := windows.Handle(os.Stdout.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(out, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(out, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
