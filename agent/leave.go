//go:build unix

package agent

import (
	"context"
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// eventsEvery is between two looks at the Scheduled Events: the end of a Spot
// VM is announced 30 seconds before, and the vendor's advice is to look every second.
const eventsEvery = time.Second

// leaveMargin is the part of an event's notice in which the ends are reported; if the
// notice is short, it is a third.
const leaveMargin = 5 * time.Second

// watchEvents looks for the event that ends this node, and leaves the pool when it
// finds one.
func (a *agent) watchEvents(ctx context.Context) {
	if a.cfg.Metadata == "" {
		return
	}
	m := newMetadata(a.cfg.Metadata)
	defer m.http.CloseIdleConnections()
	tick := time.NewTicker(eventsEvery)
	defer tick.Stop()
	timeout, silent := firstEvents, false
	for {
		list, err := m.events(ctx, timeout)
		if err == nil {
			timeout, silent = metadataTimeout, false
		} else if ctx.Err() == nil && !silent {
			silent = true
			a.log.Warn("reading Scheduled Events has failed; trying again", "error", err.Error())
		}
		for _, e := range list {
			if e.endsNode(a.cfg.Node) {
				a.leavePool(ctx, m, e)
				return
			}
		}
		select {
		case <-tick.C:
		case <-a.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leavePool ends what the node runs before the VM is taken away, reports to the pool, and
// then lets the VM go at once.
func (a *agent) leavePool(ctx context.Context, m *metadata, e scheduledEvent) {
	now := time.Now()
	left := max(e.at(now).Sub(now), 0)
	grace := left - min(leaveMargin, left/3)
	why := "its VM is deleted by a scheduled event"
	if e.EventType == "Preempt" {
		why = "its Spot VM is evicted"
	}
	a.log.Warn("leaving the pool: the VM is taken away", "event", e.EventType, "in", left.Round(time.Second).String())
	a.leaveBy.Store(now.Add(grace).UnixNano())
	a.mu.Lock()
	a.leaving = why
	a.out.leaving = &protocol.Leaving{Event: e.EventType, At: now.Add(left).UTC().Truncate(time.Second), Reason: why}
	var all []*run
	for _, n := range a.st.numbers() {
		switch h := a.st.held[n]; {
		case h.phase == waiting:
			a.recordEnd(evictedBeforeStart(n, why))
		case h.run != nil:
			all = append(all, h.run)
		}
	}
	a.mu.Unlock()
	for _, r := range all {
		r.end(byEviction, why, grace)
	}
	a.logUnsaved(a.flush(true))
	a.wakeReporter()

	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-a.cleared:
	case <-a.ended:
	case <-t.C:
	case <-ctx.Done():
		return
	}
	if err := m.approve(ctx, e.EventID); err != nil && ctx.Err() == nil {
		a.log.Warn("acknowledging the scheduled event has failed; it takes place at its time", "error", err.Error())
	}
}

// remainingGrace is the grace that is left on a node that leaves.
func (a *agent) remainingGrace() time.Duration {
	return time.Until(time.Unix(0, a.leaveBy.Load()))
}

// evictedBeforeStart is the end of an assignment that never started on a node that leaves.
func evictedBeforeStart(n int64, why string) protocol.Finished {
	return protocol.Finished{
		N:        n,
		State:    string(job.AttemptEvicted),
		ExitCode: job.ExitEvicted,
		Reason:   fmt.Sprintf("not started: %s", why),
		EndedAt:  time.Now().UTC(),
	}
}

// closeIfCleared closes cleared when the node leaves and everything of it is reported. The
// caller holds a.mu.
func (a *agent) closeIfCleared() {
	if a.leaving == "" || a.out.leaving != nil || len(a.out.finished) > 0 {
		return
	}
	for _, h := range a.st.held {
		if h.phase != ended {
			return
		}
	}
	select {
	case <-a.cleared:
	default:
		close(a.cleared)
	}
}
