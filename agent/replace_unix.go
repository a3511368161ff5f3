//go:build unix

package agent

import "os"

// putInPlace gives the journal's new file, which is open, its place, and returns it open.
func (j *journal) putInPlace(f *os.File) (*os.File, error) {
	return f, os.Rename(j.path+".new", j.path)
}

// syncDir makes a rename in the directory last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	countSync()
	return d.Sync()
}
