package service_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRetainNodes: what a node keeps on the share goes with the node, and not before.
func TestRetainNodes(t *testing.T) {
	t.Parallel()
	h, share, at := newRetention(t, defaultKeep)
	h.run("good")
	write(t, share, "cpu", "good")
	of := func(names ...string) {
		t.Helper()
		for _, name := range names {
			dir := filepath.Join(share, "jobs", name)
			if err := os.MkdirAll(filepath.Join(dir, "boot.1/1/wd"), 0o700); err != nil {
				t.Fatal(err)
			}
			if old := time.Now().Add(-2 * time.Hour); filepath.Base(name) != "+new" {
				if err := os.Chtimes(dir, old, old); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	const lives, gone, other = "cpu/+vm-1", "cpu/+vm-7", "deleted/+vm-1"
	of(lives, gone, "cpu/+new", "cpu/+probe.vm-7", other)
	at(0)
	for name, want := range map[string]bool{
		lives:             true,
		gone:              false,
		"cpu/+new":        true,
		"cpu/+probe.vm-7": false,
		other:             false,
		"cpu/good":        true,
	} {
		if _, err := os.Lstat(filepath.Join(share, "jobs", name)); (err == nil) != want {
			t.Errorf("%s: it is there %v, want %v", name, err == nil, want)
		}
	}
	of(gone)
	at(0.9)
	if !there(share, "cpu", "+vm-7") {
		t.Error("it looks more than once a day")
	}
	at(1.1)
	if there(share, "cpu", "+vm-7") || !there(share, "cpu", "+vm-1") {
		t.Error("it does not look the next day, or removes what a node has")
	}
}
