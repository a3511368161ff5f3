//go:build unix

package agent

import (
	"errors"
	"time"

	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// Nothing that is assigned waits without end: the share that its files are on may
// hang, and with it every starter. An attempt that has not begun in time ends as
// one that this node could not start, and the pool places it on another.

// expect gives an assignment its time to begin. The caller holds a.mu.
func (a *agent) expect(h *held) {
	n := h.n
	h.late = time.AfterFunc(a.cfg.StartWithin, func() { a.tooLate(n) })
}

// begun ends the waiting. The caller holds a.mu.
func (h *held) begun() {
	if h.late != nil {
		h.late.Stop()
	}
}

// tooLate ends an assignment that has not begun in time. One whose process is
// just being made cannot be told of yet: there may be one. It is killed when it
// is known.
func (a *agent) tooLate(n int64) {
	a.mu.Lock()
	h := a.st.held[n]
	if h == nil || h.run != nil || h.phase == ended || a.closing {
		a.mu.Unlock()
		return
	}
	if h.phase != waiting {
		h.tooLate = true
		a.mu.Unlock()
		return
	}
	work := h.work
	f := notStarted(n, errStartLate(a.cfg.StartWithin))
	a.finish(f)
	a.mu.Unlock()
	a.log.Error("an attempt could not be started in time", "n", n, "job", clip(work.Job), "attempt", work.Attempt, "cause", f.Cause, "hanging", a.launcher.calls.Left())
	a.logFlush(a.flush(false))
	a.signal()
}

// startedLate reports whether an assignment's process has come too late.
func (a *agent) startedLate(h *held) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.begun()
	return h.tooLate
}

// prepare is the launcher's, with a bound.
func (a *agent) prepare(n int64, w protocol.Assignment, tree string) (*launch, error) {
	l, err := patience.Do(a.launcher.calls, a.cfg.StartWithin, func() (*launch, error) { return a.launcher.prepare(n, w, tree) }, func(l *launch) {
		l.dir.close()
		a.launcher.clean(n, w)
	})
	return l, hung(err, a.cfg.StartWithin)
}

// hung words what hangs.
func hung(err error, within time.Duration) error {
	if errors.Is(err, patience.ErrTooLong) || errors.Is(err, patience.ErrTooMany) {
		return errStartLate(within)
	}
	return err
}

// attemptDir makes an attempt's directory, with a bound.
func (l *launcher) attemptDir(w protocol.Assignment) (*attemptDir, error) {
	d, err := patience.Do(l.calls, l.cfg.StartWithin, func() (*attemptDir, error) { return l.share.make(w, l.owner) }, (*attemptDir).close)
	return d, hung(err, l.cfg.StartWithin)
}

// note writes a text into an attempt's stderr.log. A share that hangs does not
// get it.
func (l *launcher) note(d *attemptDir, text string) {
	patience.Do(l.calls, l.cfg.StartWithin, func() (int, error) { return d.stderr.WriteString(text) }, nil)
}
