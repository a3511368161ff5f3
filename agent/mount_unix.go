//go:build unix

package agent

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// isMount checks that another file system begins at a path.
func isMount(path string) error {
	var here, above unix.Stat_t
	if err := unix.Stat(path, &here); err != nil {
		return err
	}
	if err := unix.Stat(filepath.Dir(path), &above); err != nil {
		return err
	}
	if here.Dev == above.Dev {
		return errors.New("it is not mounted")
	}
	return nil
}
