package api

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/fault"
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
	s := &server{backend: newOneJob(ended), share: share, now: time.Now, pace: pace{share: 50 * time.Millisecond, most: 1 << 20}}
	for _, follow := range []string{"", "?follow=true"} {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout"+follow, nil))
		if w.Code != 500 {
			t.Errorf("follow %q: got %d %s", follow, w.Code, w.Body)
		}
	}
	j, _ := s.backend.Job(t.Context(), "j")
	if _, err := s.openLog(j, logRequest{stream: "stdout", attempt: 1}); !errors.Is(err, patience.ErrTooLong) || !strings.Contains(err.Error(), "look at its mount") {
		t.Errorf("got %v", err)
	}
}

// TestLogIsReplacedWhileItIsOpened swaps the log for a pipe and for a link, again
// and again: no reading may hang, or lead elsewhere.
func TestLogIsReplacedWhileItIsOpened(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	writeLog(t, share, "stdout", "mine")
	secret := filepath.Join(share, "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(share, "jobs", "cpu", "j", "1")
	var over atomic.Bool
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		for i := 0; !over.Load(); i++ {
			next := filepath.Join(dir, "next")
			switch i % 3 {
			case 0:
				syscall.Mkfifo(next, 0o600)
			case 1:
				os.Symlink("../../../../secret", next)
			default:
				os.WriteFile(next, []byte("mine"), 0o600)
			}
			os.Rename(next, filepath.Join(dir, "stdout.log"))
		}
	}()
	s := &server{backend: newOneJob(ended), share: share, now: time.Now, pace: pace{share: 20 * time.Second, most: 1 << 20}}
	var good, bad int
	for range 3000 {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout", nil))
		switch body := w.Body.String(); {
		case strings.Contains(body, "hunter2"), w.Code >= 500:
			t.Fatalf("got %d %s", w.Code, body)
		case w.Code == 200:
			good++
		default:
			bad++
		}
	}
	over.Store(true)
	<-swapped
	if good == 0 || bad == 0 {
		t.Errorf("got %d whole and %d refused answers, want both", good, bad)
	}
	if err := errShare(os.ErrNotExist); !errors.Is(err, os.ErrNotExist) || errors.As(err, new(*fault.Error)) {
		t.Errorf("another error became %v", err)
	}
}
