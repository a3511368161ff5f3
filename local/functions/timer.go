package functions

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"dsvmpools/shared/invoke"
	"dsvmpools/shared/wholefile"
)

// monitorFrom is the shortest interval of a timer that stores its status, as in the real
// host.
const monitorFrom = time.Minute

// longestWait is how long a timer waits before it looks at the clock again. So it notices
// within this time that the machine slept or the clock was set.
const longestWait = 10 * time.Second

// parseSchedule reads an NCRONTAB schedule: six fields with seconds, or five without. It is
// in UTC, as in the cloud.
func parseSchedule(s string) (cron.Schedule, error) {
	switch {
	case len(s) > maxSchedule:
		return nil, errors.New("it is too long")
	case strings.ContainsAny(s, "=?@"): // extensions of the cron package
		return nil, errors.New("it holds a character that no schedule has")
	case strings.Contains(s, ":"):
		return nil, errors.New("time spans are taken on App Service plans only")
	}
	parsed, err := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(s)
	if err != nil {
		return nil, err
	}
	if spec, ok := parsed.(*cron.SpecSchedule); ok {
		// A day must match both of its fields. The cron package requires both only if one
		// of them is a star, so this sets that bit.
		spec.Dow |= cronStar
		spec.Location = time.UTC
	}
	if parsed.Next(time.Now().UTC()).IsZero() {
		return nil, errors.New("it never occurs")
	}
	return parsed, nil
}

// cronStar is the bit of the cron package for a field that is a star.
const cronStar = 1 << 63

// maxSchedule bounds a schedule's text, in bytes.
const maxSchedule = 1000

// status is the state of a timer that survives restarts.
type status struct{ Last, Next, LastUpdated time.Time }

// timer runs one function at the times of its schedule, one run at a time.
type timer struct {
	f    *function
	path string // file of its status; "" = it stores none
	log  *slog.Logger
	now  func() time.Time
	wait func(context.Context, time.Duration)
	call func(context.Context, invoke.Tick) error
}

func (h *Host) newTimer(f *function) *timer {
	t := &timer{f: f, log: h.log, now: func() time.Time { return time.Now().UTC() }, wait: pause}
	t.call = func(ctx context.Context, tick invoke.Tick) error {
		inv := h.invocation(f)
		_, err := h.call(ctx, f, inv, inv.Tick(tick))
		return err
	}
	if f.isMonitored(t.now()) && h.cfg.StateDir != "" {
		t.path = filepath.Join(h.cfg.StateDir, f.name+".json")
	}
	return t
}

// isMonitored reports whether a timer stores its status: it is configured to, and its
// interval is long enough.
func (f *function) isMonitored(now time.Time) bool {
	first := f.schedule.Next(now)
	return (f.trigger.UseMonitor == nil || *f.trigger.UseMonitor) && f.schedule.Next(first).Sub(first) >= monitorFrom
}

// run runs the timer until ctx ends.
func (t *timer) run(ctx context.Context) {
	st := t.read()
	next, isLate := t.findNext(st)
	st.Next = next
	if isLate || t.f.trigger.RunOnStartup {
		st = t.runOnce(ctx, st, isLate)
		next = t.f.schedule.Next(t.now())
	}
	for ctx.Err() == nil {
		if st.Next, st.LastUpdated = next, t.now(); t.path != "" {
			t.write(st)
		}
		for d := next.Sub(t.now()); d > 0 && ctx.Err() == nil; d = next.Sub(t.now()) {
			t.wait(ctx, min(d, longestWait))
		}
		if ctx.Err() != nil {
			return
		}
		st = t.runOnce(ctx, st, false)
		next = t.nextAfter(next)
	}
}

// nextAfter returns the occurrence after another one. If a run took longer than its
// interval, that is the last occurrence that it missed: one late run follows at once.
func (t *timer) nextAfter(after time.Time) time.Time {
	next, now := t.f.schedule.Next(after), t.now()
	for {
		later := t.f.schedule.Next(next)
		if later.After(now) {
			return next
		}
		next = later
	}
}

// findNext returns the next occurrence according to the stored status, and whether the
// timer missed it. After a change of the schedule, no occurrence is late.
func (t *timer) findNext(st status) (next time.Time, isLate bool) {
	now := t.now()
	if t.path == "" || st.Next.IsZero() {
		return t.f.schedule.Next(now), false
	}
	// The stored time need not be the first occurrence after the last run, because a run
	// may take long. But it must be an occurrence of this schedule.
	if !t.f.schedule.Next(st.Next.Add(-time.Second)).Equal(st.Next) {
		return t.f.schedule.Next(now), false
	}
	return st.Next, now.After(st.Next)
}

// runOnce invokes the function and returns the new status. It logs a failure; the function
// runs again only at its next occurrence.
func (t *timer) runOnce(ctx context.Context, st status, isLate bool) status {
	began := t.now()
	tick := invoke.Tick{PastDue: isLate}
	if t.path != "" {
		tick.Last, tick.Next = st.Last, st.Next
	}
	if err := t.call(ctx, tick); err != nil {
		if ctx.Err() != nil {
			return st // it runs again, late, after the next start of the host
		}
		t.log.Error("timer invocation failed", "function", t.f.name, "error", err)
	}
	st.Last = began
	return st
}

func (t *timer) read() (st status) {
	if t.path == "" {
		return st
	}
	b, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return st
	}
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		t.log.Warn("reading timer status failed; the timer starts without one", "path", t.path, "error", err)
		return status{}
	}
	return st
}

// write replaces the file of the status in one step.
func (t *timer) write(st status) {
	b, err := json.Marshal(st)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(t.path), 0o700)
	}
	if err == nil {
		err = wholefile.Replace(t.path, b, 0o600)
	}
	if err != nil {
		t.log.Warn("writing timer status failed", "path", t.path, "error", err)
	}
}
