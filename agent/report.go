package agent

import (
	"cmp"
	"context"
	"net"
	"slices"
	"time"

	sharedbus "dsvmpools/shared/bus"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/version"
)

// lastTry bounds the report of an agent that ends: its VM is about to go.
const lastTry = 3 * time.Second

// maxReason bounds what a report says about one end, so that it always fits.
const maxReason = 500

// askEvery is between two times that the pool is asked for its counter: an answer
// takes a second, and may be lost.
const askEvery = 10 * time.Second

// outbox is what the next report says. It is guarded by notebook.mu.
type outbox struct {
	readySent   bool              // the pool knows that the node is ready
	askedAt     time.Time         // when the pool's counter was asked for last; zero = not
	holdsDue    bool              // the list of everything is wanted now
	sessionsDue bool              // what the sessions say has changed
	started     []int64           // starts that are not reported yet
	finished    []int64           // ends that are not reported yet, or wanted again
	endedAt     time.Time         // since when the first of them waits
	gathers     bool              // the reporter waits for more ends, and wakes by itself
	leaving     *protocol.Leaving // not reported yet
}

// reporter reports facts about this node to its pool.
type reporter struct {
	*notebook
	bus           bus
	pool, vmid    string
	ready         protocol.Ready // what the first report says, without Counter; Address "" = looked up
	listens       func(ctx context.Context) *protocol.Listens
	missing       func() map[string]string // looked up with each first report: a pool's setup may install what is missing
	reportEvery   time.Duration            // between two lists of everything
	startedWithin time.Duration            // how long a start may wait for more to report
	firstSession  <-chan struct{}

	// Used by one goroutine at a time.
	holdsAt   time.Time // when everything is listed again
	startedAt time.Time // when the oldest start began to wait; zero = none waits
	pace      reportPace
}

func newReporter(cfg Config, b *notebook, s *sessions, bus bus, boot string, firstSession <-chan struct{}) *reporter {
	return &reporter{
		notebook: b,
		bus:      bus,
		pool:     cfg.Pool,
		vmid:     cfg.VMID,
		ready: protocol.Ready{
			Name:     cfg.Node,
			Size:     cfg.Size,
			CPUs:     cfg.CPUs,
			Boot:     boot,
			Version:  version.Read().Version,
			Address:  cfg.Address,
			Features: s.features(),
			HostKeys: s.hostKeys,
			Versions: protocol.Versions(),
		},
		listens:       s.listens,
		missing:       s.missingWhereServed,
		reportEvery:   cfg.ReportEvery,
		startedWithin: cfg.StartedWithin,
		firstSession:  firstSession,
	}
}

// run sends what is due until the context, or the node's part in the pool, ends. While
// one report is sent, what is new waits for the next one.
func (r *reporter) run(ctx context.Context) {
	select {
	case <-r.firstSession:
	case <-r.stopSignal:
		return
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.stopSignal: // the node reports nothing more
			cancel()
		case <-ctx.Done():
		}
	}()
	r.ready.Listens = r.listens(ctx)
	r.holdsAt = time.Now()
	pause := pauses{}
	for failures := 0; ctx.Err() == nil; {
		if wait := r.untilDue(); wait > 0 {
			r.waitForNews(ctx, wait)
			continue
		}
		if wait := r.pace.until(time.Now()); wait > 0 && !r.isLeaving() {
			sleep(ctx, wait) // what is new meanwhile goes with it
			continue
		}
		err := r.sendReport(ctx)
		if err == nil {
			pause, failures = pauses{}, 0
			r.pace.pass(time.Now())
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if sharedbus.IsBusy(err) {
			wait := r.pace.refuse()
			r.log.Info("reporting less often, because Service Bus is busy", "wait", wait.String(), "gap", r.pace.gap.String())
			sleep(ctx, wait)
			continue
		}
		r.log.Warn("sending a report has failed; trying again", "error", err.Error())
		if failures++; failures%resetAfter == 0 {
			r.bus.reset()
		}
		pause.wait(ctx)
	}
}

// sendLastReport tries once to report what ended while the agent was ending.
func (r *reporter) sendLastReport() {
	r.mu.Lock()
	wanted := r.st.over == "" && r.out.readySent && len(r.out.finished) > 0
	r.mu.Unlock()
	if !wanted {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastTry)
	defer cancel()
	r.holdsAt = time.Now().Add(r.reportEvery)
	if err := r.sendReport(ctx); err != nil {
		r.log.Warn("sending the last report has failed; it stays in the journal", "error", err.Error())
	}
}

// untilDue is how long nothing need be sent; 0 = something is due.
func (r *reporter) untilDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.gathers = false
	if !r.out.readySent || r.out.holdsDue || r.out.sessionsDue || r.out.leaving != nil {
		return 0
	}
	now := time.Now()
	if len(r.out.finished) > 0 {
		wait := r.gathersFor(now)
		r.out.gathers = wait > 0
		return wait
	}
	wait := r.holdsAt.Sub(now)
	if r.st.doubt {
		wait = min(wait, r.out.askedAt.Add(r.askEvery()).Sub(now))
	}
	if len(r.out.started) == 0 {
		r.startedAt = time.Time{}
	} else {
		if r.startedAt.IsZero() {
			r.startedAt = now
		}
		wait = min(wait, r.startedAt.Add(r.startedWithin).Sub(now))
	}
	return max(wait, 0)
}

func (r *reporter) askEvery() time.Duration { return min(askEvery, r.reportEvery) }

// isLeaving reports whether the node goes, which the pool should know soon.
func (r *reporter) isLeaving() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.leaving != nil
}

// waitForNews waits for the time or for news.
func (r *reporter) waitForNews(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.wake:
	case <-ctx.Done():
	}
}

// sendReport reports everything that is new. After an error nothing
// counts as reported.
func (r *reporter) sendReport(ctx context.Context) error {
	report, said := r.composeReport()
	// Nothing is said that could be forgotten afterwards.
	err := r.flush(true)
	var bodies [][]byte
	if err == nil {
		bodies, err = protocol.EncodeReport(report)
	}
	for _, body := range bodies {
		if err != nil {
			break
		}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err = r.bus.send(callCtx, body)
		cancel()
	}
	if err != nil {
		r.mu.Lock()
		r.out.holdsDue = r.out.holdsDue || said.holds
		r.out.sessionsDue = r.out.sessionsDue || said.sessions
		r.mu.Unlock()
		return err
	}
	r.removeSent(said)
	return nil
}

// sentItems is what a report contains.
type sentItems struct {
	holds, ready      bool
	sessions          bool
	started, finished []int64
	leaving           *protocol.Leaving
}

// composeReport puts the report together.
func (r *reporter) composeReport() (protocol.Report, sentItems) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var items []protocol.ReportItem
	w := sentItems{started: slices.Clone(r.out.started), finished: slices.Clone(r.out.finished), leaving: r.out.leaving}
	// The list goes early with a report that is sent anyway, so that a busy node needs no
	// message for it.
	due := r.holdsAt
	if len(w.finished) > 0 {
		due = due.Add(-r.reportEvery / 2)
	}
	w.holds = !r.out.readySent || r.out.holdsDue || !time.Now().Before(due)
	w.sessions = r.out.sessionsDue || w.holds
	r.out.holdsDue, r.out.sessionsDue = false, false
	w.ready = !r.out.readySent || r.st.doubt && time.Since(r.out.askedAt) >= r.askEvery()
	if w.ready {
		ready := r.ready
		ready.Missing = r.missing()
		ready.Counter = r.st.doubt
		ready.Address = cmp.Or(ready.Address, outwardAddress())
		items = append(items, protocol.ReportItem{Ready: &ready})
	}
	if w.leaving != nil {
		items = append(items, protocol.ReportItem{Leaving: w.leaving})
	}
	for _, n := range w.started {
		// The end reports the start as well.
		if h := r.st.held[n]; h != nil && h.phase == running {
			items = append(items, protocol.ReportItem{Started: &protocol.Started{N: n, At: h.proc.At}})
		}
	}
	all := r.st.numbers()
	if w.holds {
		for _, n := range all { // an end is repeated until it is acknowledged
			if r.st.held[n].phase == ended {
				w.finished = append(w.finished, n)
			}
		}
	}
	slices.Sort(w.finished)
	w.finished = slices.Compact(w.finished)
	for _, n := range w.finished {
		if h := r.st.held[n]; h != nil {
			f := *h.result
			f.Reason = shorten(f.Reason)
			items = append(items, protocol.ReportItem{Finished: &f})
		}
	}
	if w.sessions {
		for _, state := range r.states() {
			items = append(items, protocol.ReportItem{Session: &state})
		}
	}
	if w.holds {
		items = append(items, protocol.ReportItem{Holds: &protocol.Holds{N: all, Lost: r.st.lost}})
	}
	return protocol.Report{V: protocol.Version, Pool: r.pool, VMID: r.vmid, Seen: r.st.seen, Items: items}, w
}

// removeSent takes what was sent off the outbox.
func (r *reporter) removeSent(w sentItems) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.readySent = true
	if w.ready {
		r.out.askedAt = time.Now()
	}
	r.out.started = removeNumbers(r.out.started, w.started)
	r.out.finished = removeNumbers(r.out.finished, w.finished)
	r.out.endedAt = time.Now() // of those that have come meanwhile
	if w.holds {
		r.holdsAt = time.Now().Add(r.reportEvery)
	}
	r.startedAt = time.Time{}
	if r.out.leaving == w.leaving {
		r.out.leaving = nil
	}
	r.checkAllReported()
}

// removeNumbers removes numbers that were reported. Lists are short, or alike in order.
func removeNumbers(list, sent []int64) []int64 {
	if len(list) == 0 || len(sent) == 0 {
		return list
	}
	gone := make(map[int64]bool, len(sent))
	for _, n := range sent {
		gone[n] = true
	}
	return slices.DeleteFunc(list, func(n int64) bool { return gone[n] })
}

// shorten keeps a reason within a report's bounds.
func shorten(s string) string {
	if len(s) > maxReason {
		return s[:maxReason] + "..."
	}
	return s
}

// azureInside is an address that every VM of Azure reaches without leaving the
// host. Nothing is sent to it.
const azureInside = "168.63.129.16:53"

// outwardAddress is the address of the interface that leads outside; "" = there is
// none.
func outwardAddress() string {
	c, err := net.Dial("udp4", azureInside)
	if err != nil {
		return ""
	}
	defer c.Close()
	host, _, _ := net.SplitHostPort(c.LocalAddr().String())
	return host
}
