//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDemoFoldersThatWereLeft: the folder of a demonstration that was killed goes with the next
// one, and no other does.
func TestDemoFoldersThatWereLeft(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	inUse, forget, err := makeDemoFolder()
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(os.TempDir(), demoPrefix+"left")
	open := filepath.Join(os.TempDir(), demoPrefix+"open")
	other := filepath.Join(os.TempDir(), demoPrefix+"other")
	for dir, mode := range map[string]os.FileMode{left: 0o700, open: 0o777, other: 0o700} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if dir != other { // which has no lock: it may be just made
			if err := os.WriteFile(filepath.Join(dir, demoLock), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	second, forgetSecond, err := makeDemoFolder()
	if err != nil {
		t.Fatal(err)
	}
	for dir, stays := range map[string]bool{inUse: true, second: true, left: false, open: true, other: true} {
		if _, err := os.Stat(dir); (err == nil) != stays {
			t.Errorf("%s is there: %t, want %t", filepath.Base(dir), err == nil, stays)
		}
	}
	forget()
	forgetSecond()
	for _, dir := range []string{inUse, second} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
}
