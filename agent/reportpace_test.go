//go:build unix

package agent

import (
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

func TestReportPace(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var p reportPace
	if wait := p.until(now); wait != 0 {
		t.Errorf("before a refusal a report waits %s", wait)
	}
	for _, want := range []time.Duration{firstBusyPause, 2 * firstBusyPause, 4 * firstBusyPause} {
		if wait := p.refuse(); wait < want/2 || wait > want*3/2 {
			t.Errorf("a refused report waits %s, want %s to %s", wait, want/2, want*3/2)
		}
	}
	p.pass(now)
	gap := 4*firstGap - 4*firstGap/8
	if wait := p.until(now.Add(time.Millisecond)); wait != gap-time.Millisecond {
		t.Errorf("the report after three refusals waits %s, want %s", wait, gap-time.Millisecond)
	}
	if wait := p.refuse(); wait > firstBusyPause*3/2 {
		t.Errorf("the first refusal after a report that passed makes the next one wait %s", wait)
	}
	for range 30 {
		p.pass(now)
	}
	if wait := p.until(now); wait != 0 {
		t.Errorf("after 30 reports that passed, one waits %s", wait)
	}
	for range 20 {
		p.refuse()
	}
	if p.gap != lastGap {
		t.Errorf("the gap is %s, want %s at most", p.gap, lastGap)
	}
}

// TestBusyBus has Service Bus refuse a report. It comes later, and nothing is lost.
func TestBusyBus(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.change(func() { n.busy = 1 })
	n.work(assign(1, "true"))
	if f := n.finished(1); f.State != string(job.AttemptSucceeded) {
		t.Errorf("it ended as %+v", f)
	}
	n.until("reports, one of them after a refusal", func([]protocol.Report) bool { return n.busy == 0 })
}

// TestListRidesAlong: a report of an end takes the list of everything along when half of its
// time has passed, and not before.
func TestListRidesAlong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		due     time.Duration // until the list is sent anyway
		ended   bool
		carries bool
	}{
		{"an end, soon after the last list", 50 * time.Minute, true, false},
		{"an end, when half of the time has passed", 29 * time.Minute, true, true},
		{"no end", 29 * time.Minute, false, false},
		{"the time has passed", -time.Second, false, true},
	} {
		r := &reporter{notebook: &notebook{st: newState(), wake: make(chan struct{}, 1)}, reportEvery: time.Hour}
		r.out.readySent, r.st.doubt = true, false
		r.holdsAt = time.Now().Add(c.due)
		if c.ended {
			r.st.held[1] = &held{n: 1, phase: ended, result: &protocol.Finished{N: 1}}
			r.out.finished = []int64{1}
		}
		if _, said := r.composeReport(); said.holds != c.carries {
			t.Errorf("%s: it carries the list: %v, want %v", c.name, said.holds, c.carries)
		}
	}
}
