package cli

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A program that is killed leaves the folder of its login: the next one removes it, and nothing
// else.
func TestFoldersOfLoginsAreSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"entry-1": 2 * entryLife, "entry-2": entryLife / 2, "entry-of-mine": 2 * entryLife} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "door"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(dir, filepath.Join(dir, "entry-3")); err != nil {
		t.Log("no link can be made here")
	}
	sshFolder(dir).sweepEntries(now)
	left, err := filepath.Glob(filepath.Join(dir, "entry-*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	left = slices.DeleteFunc(left, func(name string) bool { return name == "entry-3" })
	if want := []string{"entry-2", "entry-of-mine"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("got %v, %v, want %v", left, err, want)
	}
}
