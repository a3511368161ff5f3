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
)

// monitorFrom is the shortest period of a timer that keeps a status, as in the
// real host.
const monitorFrom = time.Minute

// longestWait is how long a timer waits before it looks at the clock again: a
// machine that slept, or whose clock was set, is noticed within it.
const longestWait = 10 * time.Second

// ncrontab reads a schedule of six fields with seconds, or of five without. It
// is in UTC, as in the cloud.
func ncrontab(s string) (cron.Schedule, error) {
	switch {
	case len(s) > maxSchedule:
		return nil, errors.New("it is too long")
	case strings.ContainsAny(s, "=?@"): // the reader's own additions
		return nil, errors.New("it holds a character that no schedule has")
	case strings.Contains(s, ":"):
		return nil, errors.New("time spans are taken on App Service plans only")
	}
	parsed, err := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(s)
	if err != nil {
		return nil, err
	}
	if spec, ok := parsed.(*cron.SpecSchedule); ok {
		// A day must fit both of its fields. The reader takes it so only if one of
		// them is a star, which this makes it believe.
		spec.Dow |= cronStar
		spec.Location = time.UTC
	}
	if parsed.Next(time.Now().UTC()).IsZero() {
		return nil, errors.New("it never occurs")
	}
	return parsed, nil
}

// cronStar is the bit by which the reader of schedules remembers a star.
const cronStar = 1 << 63

// maxSchedule bounds a schedule's text.
const maxSchedule = 1000

// status is what a timer remembers across restarts.
type status struct{ Last, Next, LastUpdated time.Time }

// timer runs one function by its schedule, an occurrence at a time.
type timer struct {
	f    *function
	path string // of its status; "" = it keeps none
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
	if f.monitored(t.now()) && h.cfg.StateDir != "" {
		t.path = filepath.Join(h.cfg.StateDir, f.name+".json")
	}
	return t
}

// monitored reports whether a timer keeps a status: it wants to, and its
// occurrences are not too close together.
func (f *function) monitored(now time.Time) bool {
	first := f.schedule.Next(now)
	return (f.trigger.UseMonitor == nil || *f.trigger.UseMonitor) && f.schedule.Next(first).Sub(first) >= monitorFrom
}

// run runs the timer until ctx ends.
func (t *timer) run(ctx context.Context) {
	st := t.read()
	next, late := t.expected(st)
	st.Next = next
	if late || t.f.trigger.RunOnStartup {
		st = t.occur(ctx, st, late)
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
		st = t.occur(ctx, st, false)
		next = t.following(next)
	}
}

// following is the occurrence after one. A run that outlasted its interval is
// followed by one late run at once, for the last of those that it missed.
func (t *timer) following(after time.Time) time.Time {
	next, now := t.f.schedule.Next(after), t.now()
	for {
		later := t.f.schedule.Next(next)
		if later.After(now) {
			return next
		}
		next = later
	}
}

// expected is the next occurrence by what the timer remembers, and whether it
// has been missed. A schedule that was changed since is not late.
func (t *timer) expected(st status) (next time.Time, late bool) {
	now := t.now()
	if t.path == "" || st.Next.IsZero() {
		return t.f.schedule.Next(now), false
	}
	// What was written need not be the first occurrence after the last run, since
	// a run may take long; but it must be one of this schedule.
	if !t.f.schedule.Next(st.Next.Add(-time.Second)).Equal(st.Next) {
		return t.f.schedule.Next(now), false
	}
	return st.Next, now.After(st.Next)
}

// occur invokes the function. One that fails is logged, and not repeated before
// its next occurrence.
func (t *timer) occur(ctx context.Context, st status, late bool) status {
	began := t.now()
	tick := invoke.Tick{PastDue: late}
	if t.path != "" {
		tick.Last, tick.Next = st.Last, st.Next
	}
	if err := t.call(ctx, tick); err != nil {
		if ctx.Err() != nil {
			return st // it comes again, late, when the host is back
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

// write replaces the status in one move.
func (t *timer) write(st status) {
	b, err := json.Marshal(st)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(t.path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(t.path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(t.path+".new", t.path)
	}
	if err != nil {
		t.log.Warn("writing timer status failed", "path", t.path, "error", err)
	}
}
