//go:build unix

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// withRoom is an assignment that waits until the node has room for it.
func withRoom(n int64, room int, text string) protocol.WorkItem {
	item := script(n, text)
	item.Assign.Room = room
	return item
}

// giveBack asks for an assignment back, if it waits.
func giveBack(n, target int64) protocol.WorkItem {
	return protocol.WorkItem{N: n, Cancel: &protocol.Cancel{Target: target, Reason: "another node has room", IfWaiting: true}}
}

// startedNow lists the assignments that were reported as started and have not ended.
func startedNow(all []protocol.Report) (list []int64) {
	for _, r := range all {
		for _, i := range r.Items {
			if i.Started != nil {
				list = append(list, i.Started.N)
			}
		}
	}
	slices.Sort(list) // several are started side by side
	over := ends(all)
	return slices.DeleteFunc(list, func(n int64) bool {
		return slices.ContainsFunc(over, func(f protocol.Finished) bool { return f.N == n })
	})
}

// TestTurns: no more runs than the node has room for, in the order of the numbers; what waits
// can be given back, and what runs is not ended by that.
func TestTurns(t *testing.T) {
	t.Parallel()
	n := begin(t)
	wide := withRoom(4, 2, "sleep 1000")
	wide.Assign.CPUs = 2
	n.work(withRoom(1, 2, "sleep 1000"), withRoom(2, 2, "sleep 1000"), withRoom(3, 2, "true"), wide, withRoom(5, 2, "sleep 1000"),
		withRoom(6, 2, "sleep 1000"))
	running := func(want ...int64) {
		t.Helper()
		n.until(fmt.Sprintf("%v to run", want), func(all []protocol.Report) bool { return slices.Equal(startedNow(all), want) })
	}
	running(1, 2)
	n.work(giveBack(7, 1), giveBack(8, 6))
	if f := n.finished(6); f.State != string(job.AttemptCancelled) || !f.StartedAt.IsZero() {
		t.Errorf("what was given back ended as %+v", f)
	}
	running(1, 2)
	n.work(cancel(9, 1))
	if f := n.finished(3); f.State != string(job.AttemptSucceeded) { // it has room beside 2; 4 has not
		t.Errorf("the next one ended as %+v", f)
	}
	running(2)
	n.work(cancel(10, 2))
	running(4) // it takes all; 5 waits after it
	n.work(giveBack(11, 4), giveBack(12, 5))
	n.finished(5)
	n.work(withRoom(13, 2, "true"))
	n.work(assign(14, "true")) // without room it waits for nobody
	n.finished(14)
	running(4)
	n.work(cancel(15, 4))
	n.finished(13)
}

// TestTurnAfterOneThatLeaves: what waits first is given back, and what waits after it has
// room at once.
func TestTurnAfterOneThatLeaves(t *testing.T) {
	t.Parallel()
	n := begin(t)
	wide := withRoom(2, 2, "true")
	wide.Assign.CPUs = 2
	n.work(withRoom(1, 2, "sleep 1000"), wide, withRoom(3, 2, "true"))
	n.until("the first to run", func(all []protocol.Report) bool { return slices.Equal(startedNow(all), []int64{1}) })
	n.work(giveBack(4, 2))
	if f := n.finished(3); f.State != string(job.AttemptSucceeded) {
		t.Errorf("got %+v", f)
	}
}

// TestGivenBackBeforeItCame: an assignment that comes after the request for it never starts.
func TestGivenBackBeforeItCame(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.work(giveBack(2, 1))
	n.work(withRoom(1, 2, "echo ran"))
	if f := n.finished(1); f.State != string(job.AttemptCancelled) || !f.StartedAt.IsZero() {
		t.Errorf("got %+v", f)
	}
	n.settled()
}

// TestWaitingSurviveTheAgent: an agent that was killed while sixty assignments waited starts
// each of them once, also if the pool sends them again; the two that ran are lost.
func TestWaitingSurviveTheAgent(t *testing.T) {
	t.Parallel()
	const runs, all = 2, 62
	cfg := config(t)
	left, again := []record{mine(cfg)}, []protocol.WorkItem{}
	for id := int64(1); id <= all; id++ {
		item := withRoom(id, runs, fmt.Sprintf("echo %d >> %s/order", id, cfg.Share))
		left = append(left, record{Seen: id, N: id, Assign: item.Assign})
		if again = append(again, item); id <= runs {
			left = append(left, record{N: id, Starting: true})
		}
	}
	if err := os.WriteFile(filepath.Join(cfg.InstanceDir, "journal"), lines(left...), 0o600); err != nil {
		t.Fatal(err)
	}
	n := launched(t, cfg, newBus(t))
	n.work(again...)
	for id := int64(1); id <= all; id++ {
		want := job.AttemptSucceeded
		if id <= runs {
			want = job.AttemptAgentRestarted
		}
		if f := n.finished(id); f.State != string(want) {
			t.Errorf("assignment %d ended as %+v, want %s", id, f, want)
		}
	}
	text, err := os.ReadFile(filepath.Join(cfg.Share, "order"))
	if got := len(strings.Fields(string(text))); err != nil || got != all-runs {
		t.Errorf("%d were started, %v; want %d", got, err, all-runs)
	}
	n.settled()
}

// TestGather: ends are gathered only while work waits on the node, and not without bound.
func TestGather(t *testing.T) {
	t.Parallel()
	work := func() *reporter {
		r := &reporter{notebook: &notebook{st: newState(), wake: make(chan struct{}, 1)}, reportEvery: time.Hour, startedWithin: time.Hour}
		r.st.doubt, r.out.readySent, r.holdsAt = false, true, time.Now().Add(time.Hour)
		for id := int64(1); id <= 2; id++ {
			r.record(record{N: id, Assign: withRoom(id, 1, "true").Assign})
			r.lineUp(id)
		}
		r.giveTurns()
		r.recordEnd(protocol.Finished{N: 1})
		return r
	}
	for name, c := range map[string]struct {
		change  func(*reporter)
		gathers bool
	}{
		"while one waits":        {func(*reporter) {}, true},
		"when its time is over":  {func(r *reporter) { r.out.endedAt = time.Now().Add(-gatherEnds) }, false},
		"when nothing waits":     {func(r *reporter) { r.giveTurns() }, false},
		"when all have ended":    {func(r *reporter) { r.recordEnd(protocol.Finished{N: 2}) }, false},
		"when a report is full":  {func(r *reporter) { r.out.finished = make([]int64, manyEnds) }, false},
		"when all is to be said": {func(r *reporter) { r.out.holdsDue = true }, false},
		"when the node leaves":   {func(r *reporter) { r.out.leaving = &protocol.Leaving{} }, false},
	} {
		r := work()
		r.untilDue()
		c.change(r)
		r.wakeReporter()
		if woken := len(r.wake) > 0; woken == c.gathers {
			t.Errorf("%s: the reporter is woken: %v", name, woken)
		}
		if wait := r.untilDue(); wait > gatherEnds || (wait > 0) != c.gathers {
			t.Errorf("%s: the next report is due in %s", name, wait)
		}
	}
}
