// Package wholefile replaces small files for all programs: whoever reads one finds the old text or
// the new one, whole, whenever the writer is killed.
//
// It never makes a folder, and never changes a file in place. A writer that is killed may leave a file
// that ends in ".new" beside the one that it was to replace.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Replace writes a file with these rights, whatever the umask. After a fall of the machine the file may be the
// old one, or empty.
func Replace(path string, text []byte, mode fs.FileMode) error {
	return replace(path, text, mode, func(*os.File) error { return nil })
}

// ReplaceDurably is Replace for a file that has to be there after a fall of the machine.
func ReplaceDurably(path string, text []byte, mode fs.FileMode) error {
	err := replace(path, text, mode, (*os.File).Sync)
	if err != nil || runtime.GOOS == "windows" { // where a folder cannot be synced
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func replace(path string, text []byte, mode fs.FileMode, sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // only its owner may read it
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what went wrong before says more
	}
	return err
}
