//go:build !windows

package cli

// enableColor reports whether a terminal understands colours.
func enableColor() bool { return true }
