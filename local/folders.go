//go:build unix

package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// folders are the folders of an instance that other users may not read. They may pass
// through the folder instances, because jobs of another user have their scratch
// directories in it.
var folders = map[string]fs.FileMode{"data": 0o700, "logs": 0o700, "instances": 0o711}

// closeFolders creates the folders, and removes the rights that an earlier release gave to
// other users.
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
