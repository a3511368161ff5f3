//go:build unix

package doctor

import (
	"os"
	"path/filepath"
	"syscall"
)

// isMounted reports whether another file system is mounted at a path.
func isMounted(path string) bool {
	here, err := os.Stat(path)
	if err != nil {
		return false
	}
	above, err := os.Stat(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return false
	}
	a, ok := here.Sys().(*syscall.Stat_t)
	b, same := above.Sys().(*syscall.Stat_t)
	return ok && same && a.Dev != b.Dev
}
