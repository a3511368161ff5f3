// Package wholefile replaces small files for all programs: whoever reads one finds the old text or
// the new one, whole, whenever the writer is killed.
//
// It never makes a folder, and never changes a file in place. A writer that is killed may leave a file
// that ends in ".new" beside the one that it was to replace; the first replacement of that file by a later
// program removes it.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
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

func replace(path string, text []byte, mode fs.FileMode, flush func(*os.File) error) error {
	if _, again := swept.LoadOrStore(path, true); !again {
		sweep(path, time.Now().Add(-leftAfter))
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+suffix) // only its owner may read it
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = flush(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what went wrong before says more
	}
	return err
}

// suffix is how the names of files end that are to replace others.
const suffix = ".new"

// leftAfter is how old such a file is when its writer was surely killed: writing takes a moment.
const leftAfter = time.Hour

// swept has the files that this process has swept.
var swept sync.Map

// sweep removes what writers of a file have left that were killed before a time. What it cannot see
// or remove stays: it harms nobody.
func sweep(path string, before time.Time) {
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, entry := range entries {
		number, isOurs := strings.CutPrefix(entry.Name(), filepath.Base(path)+".")
		number, isNew := strings.CutSuffix(number, suffix)
		if _, err := strconv.ParseUint(number, 10, 64); !isOurs || !isNew || err != nil || !entry.Type().IsRegular() {
			continue
		}
		if at, err := entry.Info(); err == nil && at.ModTime().Before(before) {
			_ = os.Remove(filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
}
