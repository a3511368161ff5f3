//go:build !windows

package client

// refused reports what the system calls a refused connection beside
// ECONNREFUSED.
func refused(error) bool { return false }
