package workfolder

import (
	"io/fs"
	"os"
)

// isProgram reports whether a file may be run: Windows has no mark for it, so that the
// first line of a script says it.
func (w *walker) isProgram(name string, _ fs.FileMode) bool {
	f, err := os.Open(w.path(name))
	if err != nil {
		return false
	}
	defer f.Close()
	var begin [2]byte
	n, _ := f.Read(begin[:])
	return string(begin[:n]) == "#!"
}
