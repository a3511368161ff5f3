package wholefile

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(string, []byte, fs.FileMode) error{"Replace": Replace, "ReplaceDurably": ReplaceDurably} {
		path := filepath.Join(t.TempDir(), "state.json")
		for _, mode := range []fs.FileMode{0o600, 0o644, 0o440} {
			if err := write(path, []byte("text"), mode); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			at, err := os.Stat(path)
			if err != nil || at.Size() != 4 || runtime.GOOS != "windows" && at.Mode() != mode {
				t.Errorf("%s: got %v, %v; want rights %v", name, at, err, mode)
			}
		}
		wantAlone(t, path)
	}
}

// What cannot be put in its place leaves nothing behind, and what is there stays.
func TestReplaceFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder")
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("text"), 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	wantAlone(t, path)
	if err := Replace(filepath.Join(path, "none", "file"), nil, 0o600); err == nil {
		t.Error("a folder was made")
	}
}

// Writers side by side: readers find the whole text of one of them.
func TestWritersSideBySide(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a file that is open cannot be replaced there")
	}
	path := filepath.Join(t.TempDir(), "file")
	const size = 10_000
	if err := Replace(path, []byte(strings.Repeat("-", size)), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, letter := range []string{"a", "b"} {
		writers.Go(func() {
			for range 50 {
				if err := Replace(path, []byte(strings.Repeat(letter, size)), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		text, err := os.ReadFile(path)
		if err != nil || len(text) != size || strings.Trim(string(text), string(text[:1])) != "" {
			t.Fatalf("got %d bytes, %v, want those of one writer", len(text), err)
		}
	}
	writers.Wait()
	wantAlone(t, path)
}

// What killed writers have left goes with the next replacement; what may be in use, and files of
// others, stay.
func TestReplaceSweeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := time.Now().Add(-2 * leftAfter)
	for name, isOld := range map[string]bool{
		"state.json.123.new": true, "state.json.124.new": false, "state.json.mine.new": true, "state.json.new": true, "other.5.new": true,
	} {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, nil, 0o600)
		if err == nil && isOld {
			err = os.Chtimes(path, long, long)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(filepath.Join(dir, "state.json"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	var left []string
	found, err := os.ReadDir(dir)
	for _, entry := range found {
		left = append(left, entry.Name())
	}
	want := []string{"other.5.new", "state.json", "state.json.124.new", "state.json.mine.new", "state.json.new"}
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("got %q, %v, want %q", left, err, want)
	}
}

func wantAlone(t *testing.T, path string) {
	t.Helper()
	found, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(found) != 1 {
		t.Errorf("beside the file: %v, %v", found, err)
	}
}
