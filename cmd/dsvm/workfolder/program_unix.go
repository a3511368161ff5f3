//go:build !windows

package workfolder

import "io/fs"

// isProgram reports whether a file may be run.
func (w *walker) isProgram(_ string, mode fs.FileMode) bool { return mode&0o100 != 0 }
