package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dsvmpools/agent/source"
)

// TestGiveTree: everything below a directory is given away, whatever the batches, a file
// of somebody else is not, and no link is followed.
func TestGiveTree(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const from, other, to = 1_700_000_000, 1_700_000_001, 1_700_000_002
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	make := func(t *testing.T) (*os.Root, map[string]int) {
		dir := t.TempDir()
		want := map[string]int{}
		add := func(name string, uid int) {
			path := filepath.Join(dir, name)
			var err error
			switch {
			case strings.HasSuffix(name, "/"):
				err = os.Mkdir(path, 0o700)
			case strings.HasSuffix(name, "link"):
				err = os.Symlink(outside, path)
			default:
				err = os.WriteFile(path, nil, 0o600)
			}
			if err == nil {
				err = os.Lchown(path, uid, uid)
			}
			if err != nil {
				t.Fatal(err)
			}
			if want[name] = uid; uid == from {
				want[name] = to
			}
		}
		add("top/", from)
		for i := range 10 {
			add(fmt.Sprintf("top/%d", i), from)
			add(fmt.Sprintf("top/d%d/", i), from)
			add(fmt.Sprintf("top/d%d/x", i), from)
		}
		add("top/theirs/", other)
		add("top/theirs/mine", from)
		add("top/theirs/theirs", other)
		add("top/link", from)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { root.Close() })
		return root, want
	}
	uidOf := func(root *os.Root, name string) int {
		at, err := root.Lstat(strings.TrimSuffix(name, "/"))
		if err != nil {
			t.Fatal(err)
		}
		return int(at.Sys().(*syscall.Stat_t).Uid)
	}
	theirs := func(uid int) bool { return uid == from }
	for _, batch := range []int{1, 3, giveBatch} {
		root, want := make(t)
		g := newGiver(&owner{uid: to, gid: to}, theirs, time.Hour, new(atomic.Int64))
		g.batch = batch
		g.giveTree(root, "top")
		g.giveTree(root, "not there")
		for name, uid := range want {
			if got := uidOf(root, name); got != uid {
				t.Errorf("batches of %d: %s belongs to %d, want %d", batch, name, got, uid)
			}
		}
	}
	if at, err := os.Stat(outside); err != nil || at.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("what a link leads to was given away: %v, %v", at, err)
	}
	count := func(change func(*giver)) (given int) {
		root, want := make(t)
		g := newGiver(&owner{uid: to, gid: to}, theirs, time.Hour, new(atomic.Int64))
		change(g)
		g.giveTree(root, "top")
		for name := range want {
			if uidOf(root, name) == to {
				given++
			}
		}
		return given
	}
	if got := count(func(g *giver) { g.pending = 1 }); got != 1+20+1+1 { // top, what is in it, and the file of one directory
		t.Errorf("one directory may wait: got %d files given", got)
	}
	if got := count(func(g *giver) { g.end = time.Now() }); got != 1 {
		t.Errorf("no time: got %d files given, want the directory itself", got)
	}
}

// TestEndIsReportedFirst: an attempt's end does not wait until its share answers, or
// until all its files are handed over; the slot does.
func TestEndIsReportedFirst(t *testing.T) {
	t.Parallel()
	cfg := config(t) // a start may take an hour
	l := launcherOf(t, cfg)
	l.handStall = 10 * time.Millisecond
	w := *assign(1, "true").Assign
	start, err := l.prepareInTime(1, w, source.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	start.dir.close()
	end := hanging(t, cfg.Share)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.putAwayInTime(1, w, hurry{})
	}()
	select {
	case <-ended:
	case <-time.After(deadline):
		t.Fatal("the end waits for the share")
	}
	l.clean(1, w)
	if l.slots.slotOf(1) == nil {
		t.Error("the slot is free while the files are being handed over")
	}
	end()
	eventually(t, "the slot to be free", func() bool { return l.slots.slotOf(1) == nil })
}

// TestEndWaitsForTheFiles: an attempt's end waits for files that are being handed over as
// long as one after the other is, and no longer than there is time for.
func TestEndWaitsForTheFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		every, done, leaving, closing time.Duration // 0 = never
		want                          time.Duration
	}{
		"slow":          {every: 8 * time.Second, done: 4 * time.Minute, want: 4 * time.Minute},
		"hangs":         {done: 4 * time.Minute, want: handStall},
		"too slow":      {every: 25 * time.Second, done: 4 * time.Minute, want: handStall},
		"VM taken away": {every: time.Second, done: time.Hour, leaving: 30 * time.Second, want: 30*time.Second + handLeaving},
		"agent ends":    {every: time.Second, done: time.Hour, closing: 30 * time.Second, want: 30*time.Second + handClosing},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := hurry{leaving: make(chan struct{}), closing: make(chan struct{})}
				done, stop := make(chan struct{}), make(chan struct{})
				var given atomic.Int64
				closeAt := func(c chan struct{}, after time.Duration) {
					if after > 0 {
						timer := time.AfterFunc(after, func() { close(c) })
						t.Cleanup(func() { timer.Stop() })
					}
				}
				closeAt(done, test.done)
				closeAt(h.leaving, test.leaving)
				closeAt(h.closing, test.closing)
				if test.every > 0 {
					go func() {
						tick := time.NewTicker(test.every)
						defer tick.Stop()
						for {
							select {
							case <-tick.C:
								given.Add(1)
							case <-stop:
								return
							}
						}
					}()
				}
				from := time.Now()
				awaitHandOver(done, h, given.Load, handStall)
				if got := time.Since(from); got != test.want {
					t.Errorf("waited %v, want %v", got, test.want)
				}
				close(stop)
			})
		})
	}
}
