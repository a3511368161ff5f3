//go:build !unix

package disk

import "os/exec"

// separate does nothing here: stores are opened on Linux and macOS.
func separate(*exec.Cmd) {}
