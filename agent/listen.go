package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dsvmpools/agent/person"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// Deadlines of single calls: none of them waits for anything but the network.
const (
	acceptTimeout  = 30 * time.Second
	callTimeout    = 20 * time.Second
	closeTimeout   = 5 * time.Second
	receiveTimeout = time.Minute // a link that died in silence is noticed by asking again
)

// stopTries is how often the journal is tried when the node is given up, before
// its attempts are killed anyway.
const stopTries = 2

// resetAfter is the number of failures in a row after which the connection
// itself is suspected.
const resetAfter = 3

// minRenew bounds how often a lock is renewed, and unknownRenew is used when a
// lock seems to be over as soon as it is given: then the clocks differ.
const (
	minRenew     = 300 * time.Millisecond
	unknownRenew = 10 * time.Second
)

// listener holds the node's session and acts on its messages.
type listener struct {
	*notebook
	cfg          Config
	bus          bus
	starter      *starter
	sessions     *sessions
	entries      *entries
	deadMan      *deadMan
	boot         string
	firstSession chan struct{} // closed when the session is held for the first time
	hasCounter   bool          // the pool has given its counter to this life; guarded by mu
}

// keepSession holds the node's session, taking it again whenever it is lost, until
// the context or the node's part in the pool ends.
func (l *listener) keepSession(ctx context.Context) {
	pause, failures := pauses{}, 0
	for ctx.Err() == nil && l.stopReason() == "" {
		began := time.Now()
		err := l.serveSession(ctx)
		if ctx.Err() != nil || l.stopReason() != "" {
			return
		}
		if time.Since(began) > lastPause {
			pause, failures = pauses{}, 0
		}
		l.log.Warn("taking the session has failed; trying again", "error", fmt.Sprint(err))
		if failures++; failures%resetAfter == 0 {
			l.bus.reset()
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// serveSession takes the session and works on its messages until it is lost.
func (l *listener) serveSession(ctx context.Context) error {
	acceptCtx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	s, err := l.bus.accept(acceptCtx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		s.close(ctx)
	}()
	// A pool that took the session meanwhile has written it into the state.
	state, err := s.state(acceptCtx)
	if err != nil {
		return err
	}
	if protocol.IsFenced(state) {
		l.giveUp("the pool took this node's session while it was silent, and has given it up")
		l.persist(ctx, true, stopTries)
		return nil
	}
	l.beginWork(ctx)
	life := ctx
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	var side sync.WaitGroup
	defer side.Wait()
	defer lost(nil)
	side.Go(func() { l.renewLock(ctx, s, lost) })
	for {
		receiveCtx, cancel := context.WithTimeout(ctx, receiveTimeout)
		m, err := s.receive(receiveCtx)
		cancel()
		switch {
		case m != nil:
			if !l.handleMessage(life, ctx, s, m, &side) {
				return nil
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			return errors.New("the link to the work queue has failed")
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
}

// beginWork lets reports out and starts what an earlier life of the agent was given
// and did not start, once the session is held for the first time.
func (l *listener) beginWork(ctx context.Context) {
	select {
	case <-l.firstSession:
		return
	default:
	}
	l.mu.Lock()
	var wait []int64
	if !l.st.doubt { // else when the pool has answered
		wait = l.starter.listStartable()
	}
	l.mu.Unlock()
	l.log.Info("taking work", "pool", l.cfg.Pool, "vmid", l.cfg.VMID, "cpus", l.cfg.CPUs)
	close(l.firstSession)
	l.starter.enqueue(ctx, wait)
}

// renewLock keeps the session's lock: at a third of its time, so that two tries may
// fail.
func (l *listener) renewLock(ctx context.Context, s session, lost context.CancelCauseFunc) {
	every := max(s.left()/3, minRenew)
	if s.left() <= 0 {
		every = unknownRenew
	}
	until := time.Now().Add(3 * every)
	wait := every
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		callCtx, cancel := context.WithTimeout(ctx, max(every, time.Second))
		err := s.renew(callCtx)
		cancel()
		switch {
		case err == nil:
			wait, until = every, time.Now().Add(3*every)
		case isLockLost(err) || time.Now().After(until):
			lost(fmt.Errorf("the session's lock is lost: %w", err))
			return
		default:
			wait = max(every/4, minRenew)
		}
	}
}

// handleMessage acts on one message: journal first, then start and settle side by
// side. False when there is nothing more to do with the session. Life is the
// agent's own context: what was taken is entered and started even when the
// session is lost meanwhile, since the message is ignored when it comes again.
func (l *listener) handleMessage(life, ctx context.Context, s session, m *message, side *sync.WaitGroup) bool {
	work, err := protocol.DecodeWork(m.body)
	if err != nil {
		l.log.Error("putting aside an unreadable message", "error", err.Error())
		side.Go(func() {
			l.settleMessage(ctx, func(ctx context.Context) error { return s.refuse(ctx, m, startfault.Clip(err.Error())) })
		})
		return true
	}
	l.deadMan.noteWord()
	do := l.takeItems(work.Items)
	done := func(ctx context.Context) error { return s.complete(ctx, m) }
	if do.stopped {
		// A full disk does not keep what was given up alive.
		if l.persist(life, true, stopTries) {
			l.settleMessage(ctx, done)
		}
		return false
	}
	if !l.persist(life, do.numbered, 0) {
		return false // the agent ends; not settled: it comes again
	}
	side.Go(func() { l.settleMessage(ctx, done) })
	for _, c := range do.cancels {
		c.run.end(byCancel, c.reason, l.cfg.KillGrace)
	}
	if do.sessions {
		l.sessions.end()
		l.sessions.warn()
	}
	if do.doors {
		l.sessions.renewDoors()
	}
	for _, enter := range do.enters {
		go l.entries.announce(enter)
	}
	l.sessions.askForDesktops(do.desktops)
	l.starter.enqueue(life, do.starts)
	l.wakeReporter()
	return true
}

// settleMessage ends a message. One that could not be settled comes again and changes
// nothing then.
func (l *listener) settleMessage(ctx context.Context, how func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := how(ctx); err != nil && ctx.Err() == nil {
		l.log.Warn("settling a message has failed; it comes again", "error", err.Error())
	}
}

// acts is what remains to do once a message is in the journal.
type acts struct {
	numbered bool // the message has changed what must not be forgotten
	stopped  bool
	starts   []int64
	sessions bool // one is to end, or to be warned
	doors    bool // tokens have come, in the place of those that sessions have
	desktops []protocol.Desktop
	cancels  []cancelled
	enters   []protocol.Enter // somebody comes
}

type cancelled struct {
	run    *run
	reason string
}

// takeItems enters a message's items, in their order.
func (l *listener) takeItems(items []protocol.WorkItem) acts {
	var do acts
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, item := range items {
		switch {
		case item.Stop != "":
			l.recordStop(item.Stop)
			do.stopped = true
			return do
		case item.Assign != nil:
			l.takeAssignment(item.N, *item.Assign, &do)
		case item.Cancel != nil:
			l.takeCancel(item.N, *item.Cancel, &do)
		case item.Warn != nil:
			l.takeWarning(item.N, *item.Warn, &do)
		case item.Desktop != nil:
			do.desktops = append(do.desktops, *item.Desktop)
		case item.Door != nil:
			l.record(record{Door: item.Door})
			do.doors, do.numbered = true, true
		case item.Enter != nil:
			do.enters = append(do.enters, *item.Enter)
		case item.Counter != nil:
			l.takeCounter(*item.Counter, &do)
		case len(item.Ack) > 0:
			l.record(record{Acked: item.Ack})
		}
	}
	return do
}

// takeAssignment enters an assignment. The caller holds mu.
func (l *listener) takeAssignment(n int64, w protocol.Assignment, do *acts) {
	if n <= l.st.seen {
		if l.st.held[n] == nil {
			// The pool believes that the node may still get it: say at once that
			// it will not.
			l.out.holdsDue = true
		}
		return
	}
	do.numbered = true
	if l.st.doubt {
		// It may have run already, and been forgotten. Refused, and said so, it is
		// placed again under another number.
		l.record(record{Seen: n})
		l.out.holdsDue = true
		return
	}
	if why, dropped := l.st.drops[n]; dropped {
		l.record(record{Seen: n})
		l.recordEnd(cancelledBeforeStart(n, why))
		return
	}
	if l.leaveReason != "" {
		l.record(record{Seen: n})
		l.recordEnd(evictedBeforeStart(n, l.leaveReason))
		return
	}
	l.record(record{Seen: n, N: n, Assign: &w})
	do.starts = append(do.starts, n)
	do.doors = do.doors || w.Session != nil && w.Session.Door != nil // good for the other sessions, too
}

// takeCounter takes the pool's counter, once in a life of the agent: what was given
// before, and is not held, is refused from now on. The caller holds mu.
func (l *listener) takeCounter(c protocol.Counter, do *acts) {
	if c.Boot != l.boot || l.hasCounter {
		return
	}
	l.hasCounter, do.numbered, l.out.holdsDue = true, true, true
	doubt := l.st.doubt
	l.record(record{Counter: &c.N})
	l.log.Info("counter of the pool has come", "n", c.N)
	if doubt {
		do.starts = append(do.starts, l.starter.listStartable()...)
	}
}

// takeCancel enters a cancel. The caller holds mu.
func (l *listener) takeCancel(n int64, c protocol.Cancel, do *acts) {
	if n <= l.st.seen {
		return
	}
	do.numbered = true
	reason := c.Reason
	if reason == "" {
		reason = "cancelled"
	}
	l.record(record{Seen: n})
	h := l.st.held[c.Target]
	switch {
	case h == nil && c.Target > n:
		l.record(record{N: c.Target, Drop: reason})
	case h != nil && c.IfWaiting && h.phase != waiting && h.phase != ended:
		// It has begun: the pool wants it back only if it waits.
	case h == nil:
		// It did not come before its cancel, and being older it is refused from
		// now on: that can be said at once.
		l.recordEnd(cancelledBeforeStart(c.Target, reason))
	case h.phase == waiting:
		l.recordEnd(cancelledBeforeStart(c.Target, reason))
	case h.phase == ended:
		l.addFinished(c.Target)
	case h.isSession():
		l.cancelSession(h, reason)
		do.sessions = true
	case h.run != nil:
		do.cancels = append(do.cancels, cancelled{h.run, reason})
	default:
		h.cancel = reason // its process is just being started
	}
}

// maxWarning bounds what people are told in a warning, in bytes: it is for a terminal.
const maxWarning = 400

// takeWarning enters a warning for the people of a session. The caller holds mu.
func (l *listener) takeWarning(n int64, w protocol.Warn, do *acts) {
	if n <= l.st.seen {
		return
	}
	do.numbered = true
	l.record(record{Seen: n})
	h := l.st.held[w.Target]
	if h == nil || !h.isSession() || h.phase == ended {
		return
	}
	text := w.Text
	if len(text) > maxWarning {
		text = strings.ToValidUTF8(text[:maxWarning], "") + "..."
	}
	warning := person.Warning{Number: n, Text: text}
	if w.EndsIn > 0 {
		warning.EndsAt = time.Now().Add(seconds(w.EndsIn))
	}
	l.record(record{N: h.n, Warning: &warning})
	do.sessions = true
}

func cancelledBeforeStart(n int64, reason string) protocol.Finished {
	return protocol.Finished{N: n, State: string(job.AttemptCancelled), ExitCode: job.ExitCancelled, Reason: reason, EndedAt: time.Now().UTC()}
}
