//go:build unix

package agent

import (
	"context"
	"os/exec"
	"strings"
	"time"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// A node whose pool has died is deleted by nobody, and costs money until somebody
// looks. So an agent that has had no word from its pool for hours, and runs nothing,
// powers its machine off. A pool that lives sends every idle node a word each hour
// (`here`), so that silence of that length means there is none.

// defaultAloneAfter is longer than a bad day of a region, and shorter than a night.
const defaultAloneAfter = 6 * time.Hour

// powerOffTimeout bounds the command, which normally ends the agent as well.
const powerOffTimeout = time.Minute

// heard notes a word from the pool.
func (a *agent) heard() { a.word.Store(time.Now().UnixNano()) }

// alone powers the machine off when the time has come, and again after as long when
// that did not help. It ends with the context.
func (a *agent) alone(ctx context.Context) {
	if len(a.cfg.PowerOff) == 0 {
		return
	}
	for {
		wait := a.cfg.AloneAfter - time.Since(time.Unix(0, a.word.Load()))
		if wait <= 0 {
			if a.idle() {
				a.powerOff(ctx)
				a.heard()
			}
			wait = max(a.cfg.AloneAfter/10, time.Millisecond)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// idle reports whether nothing runs here or waits to.
func (a *agent) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.st.held {
		if h.phase != ended {
			return false
		}
	}
	return true
}

func (a *agent) powerOff(ctx context.Context) {
	a.log.Warn("this node has been alone for too long and is powered off", "after", job.Duration(a.cfg.AloneAfter), "command", strings.Join(a.cfg.PowerOff, " "))
	ctx, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, a.cfg.PowerOff[0], a.cfg.PowerOff[1:]...).CombinedOutput(); err != nil && ctx.Err() == nil {
		a.log.Error("the machine could not be powered off; check DSVM_POWER_OFF", "error", err, "output", startfault.Clip(string(out)))
	}
}
