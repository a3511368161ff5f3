package agent

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/protocol"
)

// TestOnThread takes more threads than there are, so that the process's first would
// be among them.
func TestOnThread(t *testing.T) {
	t.Parallel()
	const many = 200
	var running, over sync.WaitGroup
	running.Add(many)
	over.Add(1)
	ids := make(chan int, many)
	for range many {
		onThread(func() {
			ids <- unix.Gettid()
			running.Done()
			over.Wait()
		})
	}
	running.Wait()
	over.Done()
	seen := map[int]bool{}
	for range many {
		id := <-ids
		if id == os.Getpid() || seen[id] {
			t.Errorf("got the thread %d, which is the first or was given before", id)
		}
		seen[id] = true
	}
}

// TestUnmadeSlot: a slot that cannot be made keeps nothing, its user least of all.
func TestUnmadeSlot(t *testing.T) {
	t.Parallel()
	// More than one, since a process that is just being forked holds a claim for a moment.
	const count = 8
	n := secluded(t, func(c *Config) { c.UIDs.count = count })
	cfg := n.cfg
	cfg.InstanceDir = t.TempDir()
	l, err := newLauncher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.slots.close()
	l.slots.deciding.Do(func() {})
	l.slots.users = &users{uidRange: cfg.UIDs}
	l.slots.groups = &hierarchies{v2: filepath.Join(cfg.InstanceDir, "missing")}
	for range count + 1 {
		if _, err := l.slots.take(1, protocol.Assignment{}); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("got %v, want that the group's parent is missing", err)
		}
	}
}
