//go:build unix

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheckComplete: a start continues from what a killed first start has left, and
// refuses a folder that was complete and has lost a part.
func TestCheckComplete(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		there string
		want  string // "" = it is taken
	}{
		{"", ""}, {"servicebus", ""}, {"tables servicebus", ""}, {"tables servicebus compute share", ""},
		{"tables servicebus compute identity share", ""},
		{"tables compute share", "servicebus.db is missing"}, {"compute share", "tables.db is missing"},
		{"servicebus compute share", "tables.db is missing beside"},
		{"tables servicebus identity share", "compute.db is missing"}, {"identity share", "servicebus.db and "},
		{"tables servicebus compute identity", "the share with all logs"},
		{"tables servicebus compute identity share/link", "the share with all logs"}, {"share/link", "the share with all logs"},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(test.there) {
			var err error
			switch name {
			case "share":
				err = os.Mkdir(filepath.Join(dir, "share"), 0o700)
			case "share/link":
				err = os.Symlink(filepath.Join(dir, "not-mounted"), filepath.Join(dir, "share"))
			case "identity":
				err = os.WriteFile(identityFile(dir), []byte("{}"), 0o600)
			default:
				err = os.WriteFile(filepath.Join(dir, "data", name+".db"), []byte("x"), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		err := checkComplete(dir)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("with %q: got %v, want %q", test.there, err, test.want)
		}
	}
}

func TestStartError(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]string{
		syscall.ENOSPC: "the disk that holds /d is full", syscall.EDQUOT: "is full", fs.ErrPermission: "cannot be written by this user",
		syscall.EACCES: "cannot be written",
		syscall.EROFS:  "cannot be written", syscall.ENOTDIR: "is not a folder", syscall.EMFILE: "ulimit -n", syscall.ENFILE: "ulimit -n",
		errors.New("another"): "another",
	} {
		err := startError("/d", fmt.Errorf("the local tables: %w", &fs.PathError{Op: "write", Path: "/d/x", Err: cause}))
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", cause, err, want)
		}
	}
	if err := startError("/d", nil); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestJudgeFiles(t *testing.T) {
	t.Parallel()
	for most, want := range map[uint64]struct {
		note string
		fine bool
	}{100: {"", false}, 255: {"", false}, 256: {"256 files", true}, 1024: {"enough for a few nodes", true}, 4096: {"", true}, 1 << 20: {"", true}} {
		note, err := judgeFiles(most)
		if (err == nil) != want.fine || want.note == "" && note != "" || !strings.Contains(note, want.note) {
			t.Errorf("%d: got %q, %v", most, note, err)
		}
	}
}
