// Package dsvmpools carries what the function app consists of besides its
// executable, so that one binary is complete. It runs nothing.
package dsvmpools

import (
	"embed"
	"io"
	"io/fs"
	"strings"
)

// Files is host.json and functions/<Function>/function.json, as they lie in the
// repository.
//
//go:embed host.json functions
var Files embed.FS

// Root is the same in the layout that the Functions host wants: host.json and
// the functions' folders beside each other.
func Root() fs.FS { return root{} }

const folder = "functions"

type root struct{}

func (root) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	file, err := Files.Open(under(name))
	if name != "." || err != nil {
		return file, err
	}
	entries, err := root{}.ReadDir(".")
	return &top{file.(fs.ReadDirFile), entries}, err
}

// ReadDir lists a folder, sorted by name.
func (root) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(Files, under(name))
	if name != "." || err != nil {
		return entries, err
	}
	own, err := fs.ReadDir(Files, ".")
	for _, e := range own {
		if e.Name() != folder {
			entries = append(entries, e) // host.json: its small letter sorts behind the functions
		}
	}
	return entries, err
}

// under is where a name of the root lies in Files.
func under(name string) string {
	switch {
	case name == ".":
		return folder
	case strings.HasSuffix(name, ".json") && !strings.Contains(name, "/"):
		return name
	}
	return folder + "/" + name
}

// top is the root's own folder, open.
type top struct {
	fs.ReadDirFile
	rest []fs.DirEntry
}

// Stat says that it is the root.
func (t *top) Stat() (fs.FileInfo, error) { return fs.Stat(Files, ".") }

// ReadDir hands out the entries, n at a time if n is above 0.
func (t *top) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(t.rest) {
		if n > 0 && len(t.rest) == 0 {
			return nil, io.EOF
		}
		n = len(t.rest)
	}
	out := t.rest[:n]
	t.rest = t.rest[n:]
	return out, nil
}
