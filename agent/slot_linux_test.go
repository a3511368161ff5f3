package agent

import (
	"fmt"
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
	l.slots.groups = &hierarchies{v2: &nodeDir{path: filepath.Join(cfg.InstanceDir, "missing", "groups")}}
	for range count + 1 {
		if _, err := l.slots.take(1, protocol.Assignment{}); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("got %v, want that the group's parent is missing", err)
		}
	}
}

// TestShareIsNotASlots: a share that a slot's thread opens again is that of the agent, not what
// the slot sees, where other attempts are covered.
func TestShareIsNotASlots(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"with owners":    func(*Config) {},
		"without owners": func(c *Config) { c.ownerless = asAzureFiles },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := launcherOf(t, reachable(t, change))
			k, err := l.slots.take(1, protocol.Assignment{CPUs: 1})
			if err != nil {
				t.Fatal(err)
			}
			if k.view == nil {
				t.Skip("slots have no views here")
			}
			_, first, err := l.share.open()
			if err != nil {
				t.Fatal(err)
			}
			l.share.forget()
			var again *os.File
			k.runOnThread(func() { _, again, err = l.share.open() })
			if err != nil {
				t.Fatal(err)
			}
			if got, want := mountOf(t, again), mountOf(t, first); again == first || got != want {
				t.Errorf("it is on the mount %s, before it was on %s", got, want)
			}
		})
	}
}

// mountOf is the number of the mount that a file was opened on.
func mountOf(t *testing.T, f *os.File) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "mnt_id:")
	return strings.Fields(after)[0]
}
