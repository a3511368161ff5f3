package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/source"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// hanging mounts a file system over a directory whose server never answers, as a
// share does whose network is gone: every call on it waits in the kernel. The
// function ends that, with errors for all who wait.
func hanging(t *testing.T, dir string) (end func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts a file system")
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no file system can be made to hang here: %v", err)
	}
	if err := unix.Mount("hanging", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		unix.Close(fd)
		t.Skipf("no file system can be made to hang here: %v", err)
	}
	t.Cleanup(func() { emptied(filepath.Join(dir, "jobs")) })
	end = sync.OnceFunc(func() {
		unix.Close(fd) // what hangs fails now
		// What was under way lets go before the share is there again: it would make
		// directories in it, also when the test is over.
		for until := time.Now().Add(deadline / 2); unix.Unmount(dir, 0) == unix.EBUSY && time.Now().Before(until); {
			<-time.After(time.Millisecond)
		}
		unix.Unmount(dir, unix.MNT_DETACH)
	})
	t.Cleanup(end)
	return end
}

// emptied removes a directory until nobody makes it again: calls that had hung go on
// when the share is there, also after their agent.
func emptied(dir string) {
	const quiet = 50 // looks in a row, a few milliseconds apart
	until := time.Now().Add(deadline)
	for n := 0; n < quiet && time.Now().Before(until); n++ {
		if _, err := os.Lstat(dir); err == nil {
			n = 0
			_ = os.RemoveAll(dir)
		}
		<-time.After(4 * time.Millisecond)
	}
}

// TestHangingShare: a share that stops to answer holds no attempt for ever, nor
// the agent, and the node is to blame. When it answers again, all goes on.
func TestHangingShare(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.StartWithin = 300 * time.Millisecond
	n := launched(t, cfg, newBus(t))
	n.work(assign(1, "true"))
	n.finished(1)
	end := hanging(t, cfg.Share)
	const jobs = 3 * starters
	var items []protocol.WorkItem
	for id := int64(2); id < 2+jobs; id++ {
		items = append(items, assign(id, "true"))
	}
	items[1].Assign.TimeoutSeconds = 3600
	items[2].Assign.Workdir = cfg.Share + "/x"
	items[3].Assign.Source = &job.Source{Repository: "file:///nowhere", Commit: strings.Repeat("a", 40)}
	n.work(items...)
	for id := int64(2); id < 2+jobs; id++ {
		if f := n.finished(id); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseShare ||
			!strings.Contains(f.Reason, "does not answer") {
			t.Errorf("%d: got %+v", id, f)
		}
	}
	// Another life finds the share hanging from its beginning, and can be ended.
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	again := launched(t, cfg, newBus(t))
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	if again.accepts > 0 {
		t.Error("a node without its share took work")
	}
	end()
	more := launched(t, cfg, newBus(t))
	more.work(assign(100, "true"))
	if f := more.finished(100); f.State != string(job.AttemptSucceeded) {
		t.Errorf("afterwards: got %+v", f)
	}
}

// TestShareComesBack: the calls that hung end with the share's return, and what
// they bring is put away; the same life of the agent works on.
func TestShareComesBack(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.StartWithin = 300 * time.Millisecond
	l := launcherOf(t, cfg)
	end := hanging(t, cfg.Share)
	for id := range int64(maxCalls + 2) {
		_, err := l.prepareInTime(id, *assign(id, "true").Assign, source.Tree{})
		if causeOf(err) != job.CauseShare {
			t.Errorf("%d: got %v", id, err)
		}
	}
	// What those calls have is theirs until they end, and nobody waits for them.
	for id := range int64(maxCalls + 2) {
		l.putAwayInTime(id, *assign(id, "true").Assign, hurry{})
		l.clean(id, *assign(id, "true").Assign)
	}
	if l.calls.Left() != maxCalls {
		t.Errorf("calls that hang: got %d, want %d", l.calls.Left(), maxCalls)
	}
	end()
	eventually(t, "the calls to end", func() bool { return l.calls.Left() == 0 })
	start, err := l.prepareInTime(100, *assign(100, "true").Assign, source.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	start.dir.close()
}

// TestHangingCallKeepsItsSlot: an attempt whose start hangs has ended for the pool, and
// its call still has the slot. Nobody else gets it before the call has ended.
func TestHangingCallKeepsItsSlot(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.StartWithin = 2 * time.Second
	l := launcherOf(t, cfg)
	work := func(id int64) protocol.Assignment { return *assign(id, "true").Assign }
	first, err := l.prepareInTime(1, work(1), source.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	first.dir.close()
	l.clean(1, work(1))
	end := hanging(t, cfg.Share)
	if _, err := l.prepareInTime(2, work(2), source.Tree{}); causeOf(err) != job.CauseShare {
		t.Fatalf("got %v", err)
	}
	l.putAwayInTime(2, work(2), hurry{})
	l.clean(2, work(2))
	if l.slots.slotOf(2) != first.slot {
		t.Error("the slot was given back while a call has it")
	}
	other, err := l.slots.take(3, work(3))
	if err != nil || other == first.slot {
		t.Errorf("another got %p, %v; %p is taken", other, err, first.slot)
	}
	end()
	eventually(t, "the slot to be free", func() bool { return l.slots.slotOf(2) == nil && l.calls.Left() == 0 })
	if again, err := l.slots.take(4, work(4)); err != nil || again != first.slot {
		t.Errorf("afterwards: got %p, %v, want %p", again, err, first.slot)
	}
}

// TestWaitsForAStarter: what waits behind starters that hang ends in its own time,
// not in the time of those before it.
func TestWaitsForAStarter(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.StartWithin = time.Second
	n := launched(t, cfg, newBus(t))
	n.work(assign(1, "true"))
	n.finished(1)
	hanging(t, cfg.Share)
	began := time.Now()
	var items []protocol.WorkItem
	const jobs = 10 * starters
	for id := int64(2); id < 2+jobs; id++ {
		items = append(items, assign(id, "true"))
	}
	n.work(items...)
	for id := int64(2); id < 2+jobs; id++ {
		n.finished(id)
	}
	if took, most := time.Since(began), jobs/starters*cfg.StartWithin/2; took > most {
		t.Errorf("all ended after %s, want less than %s", took, most)
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

// TestLateProcess: an attempt whose process is just being made is not told of as
// ended, since there may be one; when it has come, it is known to be late.
func TestLateProcess(t *testing.T) {
	t.Parallel()
	h := &held{n: 1, phase: starting}
	s := &starter{notebook: &notebook{st: newState()}}
	s.st.held[1] = h
	s.endLateStart(1)
	if !h.tooLate || h.phase != starting || !s.isStartedLate(h) {
		t.Errorf("got %+v", h)
	}
	h.phase, h.run = running, &run{}
	h.tooLate = false
	if s.endLateStart(1); h.tooLate {
		t.Error("one that runs was called late")
	}
}

// TestTimeoutCountsFromTheStart: what the share took of it is gone.
func TestTimeoutCountsFromTheStart(t *testing.T) {
	t.Parallel()
	r := &run{from: time.Now().Add(-time.Hour), timeout: time.Hour, stop: func() {}}
	r.armTimeout()
	eventually(t, "the timeout", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.cause == byTimeout
	})
}

// TestHungWording: what hangs says who hangs.
func TestHungWording(t *testing.T) {
	t.Parallel()
	for _, err := range []error{patience.ErrTooLong, patience.ErrTooMany} {
		if got := explainHanging(fmt.Errorf("x: %w", err), 2*time.Minute); causeOf(got) != job.CauseShare ||
			!strings.Contains(got.Error(), "2m") {
			t.Errorf("got %v", got)
		}
	}
	if got := explainHanging(os.ErrNotExist, time.Minute); !errors.Is(got, os.ErrNotExist) {
		t.Errorf("another error: got %v", got)
	}
	if _, err := os.Stat(filepath.Join(t.TempDir(), "x")); explainHanging(err, 0) == nil {
		t.Error("an error was lost")
	}
}
