//go:build unix

package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// folders are those of an instance that are closed to other users than its owner.
// Others may only pass through instances, where jobs of another user have their
// scratch directories.
var folders = map[string]fs.FileMode{"data": 0o700, "logs": 0o700, "instances": 0o711}

// closeFolders creates the folders with keys and logs, and removes the rights that an
// earlier release gave them.
func closeFolders(dir string) error {
	for name, mode := range folders {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}
