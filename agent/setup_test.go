//go:build unix

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSetupLogStaysInPlace: what a job has put on the way of the setup's log leads the agent
// neither into the files of another job nor into a wait.
func TestSetupLogStaysInPlace(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(share, theirs string) error{
		"a link in the place of the log": func(share, theirs string) error {
			return errors.Join(os.MkdirAll(filepath.Join(share, "nodes/p/n"), 0o755),
				os.Symlink("../../../theirs/stdout.log", filepath.Join(share, "nodes/p/n/setup.log")))
		},
		"another name of their file": func(share, theirs string) error {
			return errors.Join(os.MkdirAll(filepath.Join(share, "nodes/p/n"), 0o755),
				os.Link(theirs, filepath.Join(share, "nodes/p/n/setup.log")))
		},
		"a link in the place of a folder": func(share, theirs string) error {
			return errors.Join(os.MkdirAll(filepath.Join(share, "nodes/p"), 0o755),
				os.Rename(theirs, filepath.Join(share, "theirs/setup.log")),
				os.Symlink("../../theirs", filepath.Join(share, "nodes/p/n")))
		},
		"a pipe": func(share, theirs string) error {
			return errors.Join(os.MkdirAll(filepath.Join(share, "nodes/p/n"), 0o755),
				unix.Mkfifo(filepath.Join(share, "nodes/p/n/setup.log"), 0o666))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			theirs := filepath.Join(share, "theirs", "stdout.log")
			err := errors.Join(os.Mkdir(filepath.Dir(theirs), 0o755), os.WriteFile(theirs, []byte("theirs"), 0o644), plant(share, theirs))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- writeOnShare(share, "nodes/p/n", "setup.log", []byte("ours")) }()
			select {
			case err := <-done:
				if err == nil {
					t.Error("the log was written to another place, and no error says so")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the agent waits for the reader of a pipe")
			}
			files, err := filepath.Glob(filepath.Join(share, "theirs", "*"))
			if err != nil || len(files) != 1 {
				t.Fatalf("the folder of the other job has %v, %v", files, err)
			}
			if text, err := os.ReadFile(files[0]); string(text) != "theirs" {
				t.Errorf("the file of the other job has %q, %v", text, err)
			}
		})
	}
}
