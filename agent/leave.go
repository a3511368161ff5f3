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

// leaver watches for the end of the node's VM, and lets the node leave its pool in time.
type leaver struct {
	*notebook
	sessions *sessions
	metadata string // address of the metadata endpoint; "" = nobody announces events
	node     string // name of the VM
}

// watch looks for the event that ends this node, and leaves the pool when it
// finds one.
func (l *leaver) watch(ctx context.Context) {
	if l.metadata == "" {
		return
	}
	m := newMetadata(l.metadata)
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
			l.log.Warn("reading Scheduled Events has failed; trying again", "error", err.Error())
		}
		for _, e := range list {
			if e.endsNode(l.node) {
				l.leavePool(ctx, m, e)
				return
			}
		}
		select {
		case <-tick.C:
		case <-l.stopSignal:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leavePool ends what the node runs before the VM is taken away, reports to the pool, and
// then lets the VM go at once.
func (l *leaver) leavePool(ctx context.Context, m *metadata, e scheduledEvent) {
	now := time.Now()
	left := max(e.at(now).Sub(now), 0)
	grace := left - min(leaveMargin, left/3)
	why := "its VM is deleted by a scheduled event"
	if e.EventType == "Preempt" {
		why = "its Spot VM is evicted"
	}
	l.log.Warn("leaving the pool: the VM is taken away", "event", e.EventType, "in", left.Round(time.Second).String())
	l.mu.Lock()
	l.leaveReason, l.killAt = why, now.Add(grace)
	close(l.hurry.leaving)
	l.out.leaving = &protocol.Leaving{Event: e.EventType, At: now.Add(left).UTC().Truncate(time.Second), Reason: why}
	var all []*run
	for _, n := range l.st.numbers() {
		switch h := l.st.held[n]; {
		case h.phase == waiting:
			l.recordEnd(evictedBeforeStart(n, why))
		case h.isSession():
			l.cancelSession(h, why)
		case h.run != nil:
			all = append(all, h.run)
		}
	}
	l.mu.Unlock()
	for _, r := range all {
		r.end(byEviction, why, grace)
	}
	l.logUnsaved(l.flush(true))
	l.sessions.end()
	l.wakeReporter()

	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-l.allReported:
	case <-l.stopSignal:
	case <-t.C:
	case <-ctx.Done():
		return
	}
	if err := m.approve(ctx, e.EventID); err != nil && ctx.Err() == nil {
		l.log.Warn("acknowledging the scheduled event has failed; it takes place at its time", "error", err.Error())
	}
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
