//go:build !linux

package disk

import "os"

// syncData waits until a file is on disk.
func syncData(f *os.File) error { return f.Sync() }
