package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"dsvmpools/shared/backoff"
)

// Times of reports while Service Bus refuses messages. All nodes share the credits of the
// namespace: a node that reports less often, and more each time, leaves some to the others.
const (
	firstGap = 50 * time.Millisecond
	lastGap  = 10 * time.Second
	noGap    = 20 * time.Millisecond // below it, reports go at once again

	firstBusyPause = 500 * time.Millisecond
	lastBusyPause  = 30 * time.Second
)

// reportPace is the least time between two reports. It is zero until Service Bus refuses a
// report. Each refusal doubles it, and each report that passes takes an eighth away.
type reportPace struct {
	gap      time.Duration
	refusals int       // in a row
	sentAt   time.Time // of the last report that passed
}

// until is how long the next report has to wait.
func (p *reportPace) until(now time.Time) time.Duration {
	return max(p.sentAt.Add(p.gap).Sub(now), 0)
}

// pass notes that a report was sent.
func (p *reportPace) pass(now time.Time) {
	p.sentAt, p.refusals = now, 0
	if p.gap -= p.gap / 8; p.gap < noGap {
		p.gap = 0
	}
}

// refuse notes a refusal and returns how long to wait before the report is tried again:
// from half to one and a half of a time that doubles, so that many nodes that were refused
// at once do not come again at once.
func (p *reportPace) refuse() time.Duration {
	p.gap = min(max(2*p.gap, firstGap), lastGap)
	p.refusals++
	wait := backoff.After(p.refusals, firstBusyPause, lastBusyPause)
	return wait/2 + rand.N(wait)
}

// sleep waits for the time or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
