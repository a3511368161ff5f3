// Package dsvmpools holds the files that the function app consists of besides
// its executable: host.json and the bindings of the functions. `dsvm` embeds
// them, so that one binary can lay the app out. The package runs nothing.
package dsvmpools

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files is host.json and functions/<Function>/function.json, as they lie in the
// repository. The Functions host wants the functions' folders beside host.json:
// Layout writes them so.
//
//go:embed host.json functions
var Files embed.FS

// Layout writes the script root of a Functions host: host.json, and one folder for
// each function. It does not write the executable.
func Layout(root string) error {
	return fs.WalkDir(Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := Files.ReadFile(name)
		if err != nil {
			return err
		}
		to := filepath.Join(root, filepath.FromSlash(strings.TrimPrefix(name, "functions/")))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
}
