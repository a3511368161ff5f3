package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/patience"
)

// TestLogOfAHangingShare: a share that stops to answer does not keep the answer.
// The file system that is mounted here has no server, so that every call waits.
func TestLogOfAHangingShare(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts a file system")
	}
	share := t.TempDir()
	writeLog(t, share, "stdout", "so far")
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no file system can be made to hang here: %v", err)
	}
	if err := syscall.Mount("hanging", share, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		syscall.Close(fd)
		t.Skipf("no file system can be made to hang here: %v", err)
	}
	t.Cleanup(func() { syscall.Close(fd); syscall.Unmount(share, syscall.MNT_DETACH) })
	s := &server{
		Services: Services{Jobs: newOneJob(ended)},
		log:      slog.New(slog.DiscardHandler),
		share:    share,
		now:      time.Now,
		pace:     pace{share: 50 * time.Millisecond, most: 1 << 20},
	}
	for _, follow := range []string{"", "?follow=true"} {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout"+follow, nil))
		if w.Code != 500 {
			t.Errorf("follow %q: got %d %s", follow, w.Code, w.Body)
		}
	}
	j, _ := s.Jobs.Job(t.Context(), "j")
	if _, err := s.openFile(j, logRequest{stream: "stdout", attempt: 1}, "stdout.log"); !errors.Is(err, patience.ErrTooLong) ||
		!strings.Contains(err.Error(), "look at its mount") {
		t.Errorf("got %v", err)
	}
}

// TestLogIsReplacedWhileItIsOpened puts something else in the log's place between
// the look and the opening: it may neither hang nor lead elsewhere.
func TestLogIsReplacedWhileItIsOpened(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(at, secret string) error{
		"a pipe":       func(at, _ string) error { return syscall.Mkfifo(at, 0o600) },
		"a link":       func(at, secret string) error { return os.Symlink(filepath.Base(secret), at) },
		"another file": func(at, secret string) error { return os.Rename(secret, at) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			at, secret := filepath.Join(dir, "stdout.log"), filepath.Join(dir, "secret")
			for _, file := range []string{at, secret} {
				if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			found, err := root.Lstat("stdout.log")
			if err != nil {
				t.Fatal(err)
			}
			if f, err := openFound(root, "stdout.log", found); err != nil {
				t.Fatalf("as it is: got %v", err)
			} else {
				f.Close()
			}
			if err := os.Rename(at, at+".old"); err != nil { // its number stays in use
				t.Fatal(err)
			}
			if err := replace(at, secret); err != nil {
				t.Fatal(err)
			}
			_, err = patience.Do(
				patience.New(1),
				10*time.Second,
				func() (*os.File, error) { return openFound(root, "stdout.log", found) },
				nil,
			)
			if !errors.Is(err, errNoFile) {
				t.Errorf("got %v", err)
			}
		})
	}
}
