//go:build unix

package functions

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"dsvmpools/shared/invoke"

	"github.com/robfig/cron/v3"
)

// ncrontab reads six fields with seconds, or five without.
var ncrontab = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// status is what a timer remembers across restarts.
type status struct{ Last, Next, LastUpdated time.Time }

// tick runs a timer: one occurrence at a time, a missed one once and late. A
// schedule of under a minute keeps no status.
func (h *Host) tick(f function) {
	schedule, err := ncrontab.Parse(f.trigger.Schedule)
	if err != nil {
		h.log.Error("a timer's schedule cannot be read", "function", f.name, "schedule", f.trigger.Schedule, "error", err)
		return
	}
	now := time.Now().UTC()
	first := schedule.Next(now)
	monitored := (f.trigger.UseMonitor == nil || *f.trigger.UseMonitor) && schedule.Next(first).Sub(first) >= time.Minute
	path := filepath.Join(h.cfg.StateDir, f.name+".json")
	var st status
	if monitored {
		st = readStatus(path)
	}
	if pastDue := monitored && !st.Next.IsZero() && now.After(st.Next); pastDue || f.trigger.RunOnStartup {
		st = h.occur(f, schedule, st, pastDue, monitored, path)
	}
	for {
		next := schedule.Next(time.Now().UTC())
		if monitored && st.Next != next {
			st.Next, st.LastUpdated = next, time.Now().UTC()
			h.writeStatus(path, st)
		}
		h.pause(time.Until(next))
		if h.ctx.Err() != nil {
			return
		}
		st = h.occur(f, schedule, st, false, monitored, path)
	}
}

// occur invokes the function. One that fails is not repeated before its next
// occurrence.
func (h *Host) occur(f function, schedule cron.Schedule, st status, pastDue, monitored bool, path string) status {
	now := time.Now().UTC()
	t := invoke.Tick{PastDue: pastDue}
	if monitored {
		t.Last, t.Next = st.Last, st.Next
	}
	id := newID()
	if _, err := h.call(f, id, invoke.EncodeTimer(f.name, f.trigger.Name, id, now, t)); err != nil && h.ctx.Err() == nil {
		h.log.Error("a timer's invocation failed", "function", f.name, "error", err)
	}
	st.Last, st.Next, st.LastUpdated = now, schedule.Next(time.Now().UTC()), now
	if monitored {
		h.writeStatus(path, st)
	}
	return st
}

func readStatus(path string) (st status) {
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &st) != nil {
		return status{}
	}
	return st
}

// writeStatus replaces the status in one move.
func (h *Host) writeStatus(path string, st status) {
	b, err := json.Marshal(st)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		h.log.Warn("a timer's status could not be stored", "path", path, "error", err)
	}
}
