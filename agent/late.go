package agent

import (
	"errors"
	"os"
	"time"

	"dsvmpools/agent/source"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// Nothing that is assigned waits without end: the share that its files are on may
// hang, and with it every starter. An attempt that has not begun in time ends as
// one that this node could not start, and the pool places it on another.

// armStartDeadline gives an assignment whose turn it is its time to begin. The caller holds
// mu.
func (s *starter) armStartDeadline(h *held) {
	n := h.n
	h.late = time.AfterFunc(s.cfg.StartWithin, func() { s.endLateStart(n) })
}

// listStartable lists what waits to be started, oldest first. The caller holds mu.
func (s *starter) listStartable() (wait []int64) {
	for _, n := range s.st.numbers() {
		if h := s.st.held[n]; h.phase == waiting {
			wait = append(wait, n)
		}
	}
	return wait
}

// stopStartDeadline ends the waiting. The caller holds mu.
func (h *held) stopStartDeadline() {
	if h.late != nil {
		h.late.Stop()
	}
}

// endLateStart ends an assignment that has not begun in time. One whose process is
// just being made cannot be reported yet: there may be one. It is killed when it
// is known.
func (s *starter) endLateStart(n int64) {
	s.mu.Lock()
	h := s.st.held[n]
	if h == nil || h.run != nil || h.phase == ended || s.closing {
		s.mu.Unlock()
		return
	}
	if h.phase != waiting {
		h.tooLate = true
		s.mu.Unlock()
		return
	}
	work := h.work
	f := startFailure(n, errStartLate(s.cfg.StartWithin))
	s.recordEnd(f)
	s.mu.Unlock()
	s.log.Error("starting attempt has taken too long",
		"n", n, "job", startfault.Clip(work.Job), "attempt", work.Attempt, "cause", f.Cause, "hangingCalls", s.launcher.calls.Left())
	s.logUnsaved(s.flush(false))
	s.wakeReporter()
	s.startNext()
}

// isStartedLate reports whether an assignment's process has come too late.
func (s *starter) isStartedLate(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.stopStartDeadline()
	return h.tooLate
}

// prepareInTime is prepare with a bound.
func (l *launcher) prepareInTime(n int64, w protocol.Assignment, tree source.Tree) (*launch, error) {
	call := func() (*launch, error) { return l.prepare(n, w, tree) }
	start, err := callWithin(l, l.calls, l.cfg.StartWithin, n, call, (*launch).drop)
	return start, explainHanging(err, l.cfg.StartWithin)
}

// explainHanging replaces the error of a call that hangs with a sentence for the job's owner.
func explainHanging(err error, within time.Duration) error {
	if errors.Is(err, patience.ErrTooLong) || errors.Is(err, patience.ErrTooMany) {
		return errStartLate(within)
	}
	return err
}

// makeAttemptDir makes an attempt's directory and gives it its slot, with a bound.
func (l *launcher) makeAttemptDir(n int64, w protocol.Assignment) (*slot, *attemptDir, error) {
	type place struct {
		slot *slot
		dir  *attemptDir
	}
	p, err := callWithin(l, l.calls, l.cfg.StartWithin, n, func() (place, error) {
		k, err := l.slots.take(n, w)
		if err != nil {
			return place{}, err
		}
		k.admit(w)
		dir, err := l.share.makeAttemptDir(w, k.owner)
		k.made = err == nil
		return place{k, dir}, err
	}, func(p place) { p.dir.close() })
	return p.slot, p.dir, explainHanging(err, l.cfg.StartWithin)
}

// writeNote writes a text into an attempt's stderr.log. A share that hangs does not
// get it.
func (l *launcher) writeNote(d *attemptDir, w protocol.Assignment, o owner, text string) {
	patience.Do(l.calls, l.cfg.StartWithin, func() (int, error) {
		f, err := openFileAt(d.dir, job.LogFile("stderr", rankOf(w)), os.O_APPEND, 0o644)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		_ = o.giveFile(f)
		return f.WriteString(text)
	}, nil)
}

// underway is what is left to do for an attempt when no call for it is under way any
// more: a call that hangs on the share still has the attempt's slot, and goes on with
// it when the share answers again. Nobody else may have the slot until then.
type underway struct {
	calls int
	after func() // nil = the attempt goes on
}

// callWithin makes a call for an attempt that may hang on the share, with a bound. Late
// gets what it brings too late; nil = nothing has to be put away.
func callWithin[T any](l *launcher, c *patience.Calls, within time.Duration, n int64, call func() (T, error), late func(T)) (T, error) {
	l.beginCall(n)
	value, err := patience.Do(c, within, func() (T, error) {
		defer l.endCall(n)
		return call()
	}, late)
	if errors.Is(err, patience.ErrTooMany) { // it was never made
		l.endCall(n)
	}
	return value, err
}

func (l *launcher) beginCall(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under[n] == nil {
		l.under[n] = &underway{}
	}
	l.under[n].calls++
}

func (l *launcher) endCall(n int64) {
	l.mu.Lock()
	u := l.under[n]
	if u.calls--; u.calls > 0 {
		l.mu.Unlock()
		return
	}
	delete(l.under, n)
	l.mu.Unlock()
	if u.after != nil {
		u.after()
	}
}

// isBusy reports whether a call for an attempt is under way.
func (l *launcher) isBusy(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.under[n] != nil
}

// postpone leaves something to the end of the calls that are under way for an attempt.
// It reports whether there are any.
func (l *launcher) postpone(n int64, after func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.under[n]
	if u != nil {
		u.after = after
	}
	return u != nil
}
