//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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

// keepSession holds the node's session, taking it again whenever it is lost, until
// the context or the node's part in the pool ends.
func (a *agent) keepSession(ctx context.Context) {
	pause, failures := pauses{}, 0
	for ctx.Err() == nil && a.stopReason() == "" {
		began := time.Now()
		err := a.serveSession(ctx)
		if ctx.Err() != nil || a.stopReason() != "" {
			return
		}
		if time.Since(began) > lastPause {
			pause, failures = pauses{}, 0
		}
		a.log.Warn("taking the session has failed; trying again", "error", fmt.Sprint(err))
		if failures++; failures%resetAfter == 0 {
			a.bus.reset()
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// serveSession takes the session and works on its messages until it is lost.
func (a *agent) serveSession(ctx context.Context) error {
	acceptCtx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	s, err := a.bus.accept(acceptCtx)
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
		a.giveUp("the pool took this node's session while it was silent, and has given it up")
		a.persist(ctx, true, stopTries)
		return nil
	}
	a.beginWork(ctx)
	life := ctx
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	var side sync.WaitGroup
	defer side.Wait()
	defer lost(nil)
	side.Go(func() { a.renewLock(ctx, s, lost) })
	for {
		receiveCtx, cancel := context.WithTimeout(ctx, receiveTimeout)
		m, err := s.receive(receiveCtx)
		cancel()
		switch {
		case m != nil:
			if !a.handleMessage(life, ctx, s, m, &side) {
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
func (a *agent) beginWork(ctx context.Context) {
	select {
	case <-a.begun:
		return
	default:
	}
	a.mu.Lock()
	var wait []int64
	if !a.st.doubt { // else when the pool has answered
		wait = a.listStartable()
	}
	a.mu.Unlock()
	a.log.Info("taking work", "pool", a.cfg.Pool, "vmid", a.cfg.VMID, "cpus", a.cfg.CPUs)
	close(a.begun)
	a.enqueue(ctx, wait)
}

// listStartable lists what waits to be started; its time runs from now on. The caller
// holds a.mu.
func (a *agent) listStartable() (wait []int64) {
	for _, n := range a.st.numbers() {
		if h := a.st.held[n]; h.phase == waiting {
			a.armStartDeadline(h)
			wait = append(wait, n)
		}
	}
	return wait
}

// enqueue hands assignments to the starters.
func (a *agent) enqueue(ctx context.Context, numbers []int64) {
	for _, n := range numbers {
		select {
		case a.starts <- n:
		case <-ctx.Done():
			return // they are in the journal
		}
	}
}

// renewLock keeps the session's lock: at a third of its time, so that two tries may
// fail.
func (a *agent) renewLock(ctx context.Context, s session, lost context.CancelCauseFunc) {
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
func (a *agent) handleMessage(life, ctx context.Context, s session, m *message, side *sync.WaitGroup) bool {
	work, err := protocol.DecodeWork(m.body)
	if err != nil {
		a.log.Error("putting aside an unreadable message", "error", err.Error())
		side.Go(func() {
			a.settleMessage(ctx, func(ctx context.Context) error { return s.refuse(ctx, m, startfault.Clip(err.Error())) })
		})
		return true
	}
	a.deadMan.noteWord()
	do := a.takeItems(work.Items)
	done := func(ctx context.Context) error { return s.complete(ctx, m) }
	if do.stopped {
		// A full disk does not keep what was given up alive.
		if a.persist(life, true, stopTries) {
			a.settleMessage(ctx, done)
		}
		return false
	}
	if !a.persist(life, do.numbered, 0) {
		return false // the agent ends; not settled: it comes again
	}
	side.Go(func() { a.settleMessage(ctx, done) })
	for _, c := range do.cancels {
		c.run.end(byCancel, c.reason, a.cfg.KillGrace)
	}
	a.enqueue(life, do.starts)
	a.wakeReporter()
	return true
}

// settleMessage ends a message. One that could not be settled comes again and changes
// nothing then.
func (a *agent) settleMessage(ctx context.Context, how func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := how(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("settling a message has failed; it comes again", "error", err.Error())
	}
}

// acts is what remains to do once a message is in the journal.
type acts struct {
	numbered bool // the message has changed what must not be forgotten
	stopped  bool
	starts   []int64
	cancels  []cancelled
}

type cancelled struct {
	run    *run
	reason string
}

// takeItems enters a message's items, in their order.
func (a *agent) takeItems(items []protocol.WorkItem) acts {
	var do acts
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, item := range items {
		switch {
		case item.Stop != "":
			if a.st.over == "" {
				a.record(record{Over: item.Stop})
				close(a.ended)
			}
			do.stopped = true
			return do
		case item.Assign != nil:
			a.takeAssignment(item.N, *item.Assign, &do)
		case item.Cancel != nil:
			a.takeCancel(item.N, *item.Cancel, &do)
		case item.Counter != nil:
			a.takeCounter(*item.Counter, &do)
		case len(item.Ack) > 0:
			a.record(record{Acked: item.Ack})
		}
	}
	return do
}

// takeAssignment enters an assignment. The caller holds a.mu.
func (a *agent) takeAssignment(n int64, w protocol.Assignment, do *acts) {
	if n <= a.st.seen {
		if a.st.held[n] == nil {
			// The pool believes that the node may still get it: say at once that
			// it will not.
			a.out.holdsDue = true
		}
		return
	}
	do.numbered = true
	if a.st.doubt {
		// It may have run already, and been forgotten. Refused, and said so, it is
		// placed again under another number.
		a.record(record{Seen: n})
		a.out.holdsDue = true
		return
	}
	if why, dropped := a.st.drops[n]; dropped {
		a.record(record{Seen: n})
		a.recordEnd(cancelledBeforeStart(n, why))
		return
	}
	if a.leaving != "" {
		a.record(record{Seen: n})
		a.recordEnd(evictedBeforeStart(n, a.leaving))
		return
	}
	a.record(record{Seen: n, N: n, Assign: &w})
	a.armStartDeadline(a.st.held[n])
	do.starts = append(do.starts, n)
}

// takeCounter takes the pool's counter, once in a life of the agent: what was given
// before, and is not held, is refused from now on. The caller holds a.mu.
func (a *agent) takeCounter(c protocol.Counter, do *acts) {
	if c.Boot != a.boot || a.counted {
		return
	}
	a.counted, do.numbered, a.out.holdsDue = true, true, true
	doubt := a.st.doubt
	a.record(record{Counter: &c.N})
	a.log.Info("counter of the pool has come", "n", c.N)
	if doubt {
		do.starts = append(do.starts, a.listStartable()...)
	}
}

// takeCancel enters a cancel. The caller holds a.mu.
func (a *agent) takeCancel(n int64, c protocol.Cancel, do *acts) {
	if n <= a.st.seen {
		return
	}
	do.numbered = true
	reason := c.Reason
	if reason == "" {
		reason = "cancelled"
	}
	a.record(record{Seen: n})
	h := a.st.held[c.Target]
	switch {
	case h == nil && c.Target > n:
		a.record(record{N: c.Target, Drop: reason})
	case h == nil:
		// It did not come before its cancel, and being older it is refused from
		// now on: that can be said at once.
		a.recordEnd(cancelledBeforeStart(c.Target, reason))
	case h.phase == waiting:
		a.recordEnd(cancelledBeforeStart(c.Target, reason))
	case h.phase == ended:
		a.out.finished = append(a.out.finished, c.Target)
	case h.run != nil:
		do.cancels = append(do.cancels, cancelled{h.run, reason})
	default:
		h.cancel = reason // its process is just being started
	}
}

func cancelledBeforeStart(n int64, reason string) protocol.Finished {
	return protocol.Finished{N: n, State: string(job.AttemptCancelled), ExitCode: job.ExitCancelled, Reason: reason, EndedAt: time.Now().UTC()}
}
