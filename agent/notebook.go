package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/shared/protocol"
)

// notebook is what the node holds, in memory and in its journal: every change of the
// state is a record, applied first and then written. What must not be forgotten is on
// the disk before the agent acts on it. It also has what is not reported yet. All parts
// of the agent share it.
type notebook struct {
	log     *slog.Logger
	within  time.Duration // how long the journal may fail to be written: then the agent ends
	journal *journal
	unsaved atomic.Int64 // since when the journal is not written, in Unix nanoseconds; 0 = it is

	mu     sync.Mutex // never held over I/O
	st     *state
	buffer []byte // records that are applied and not in the file yet
	out    outbox
	turns  turns // of what waits and what runs; see turn.go

	// Not in the journal: of this life of the agent only.
	closing     bool      // nothing is started any more
	leaveReason string    // why the VM is about to go; "" = it is not
	killAt      time.Time // when attempts of a node that leaves are killed

	hurry       hurry
	wake        chan struct{} // something to report; one token
	stopSignal  chan struct{} // closed when the node is to do nothing any more
	allReported chan struct{} // closed when the node leaves and everything of it is reported
}

func newNotebook(cfg Config, log *slog.Logger, j *journal, st *state) *notebook {
	return &notebook{
		log:         log,
		within:      cfg.StartWithin,
		journal:     j,
		st:          st,
		hurry:       hurry{leaving: make(chan struct{}), closing: make(chan struct{})},
		wake:        make(chan struct{}, 1),
		stopSignal:  make(chan struct{}),
		allReported: make(chan struct{}),
	}
}

// record changes the state; flush brings the change to the journal. The caller
// holds mu.
func (b *notebook) record(r record) {
	b.st.apply(r)
	b.buffer = appendLine(b.buffer, r)
}

// flush writes what was recorded; durable: also against a fall of the machine.
func (b *notebook) flush(durable bool) error {
	b.unsaved.CompareAndSwap(0, time.Now().UnixNano())
	err := b.writeJournal(durable)
	if err == nil {
		b.unsaved.Store(0)
	}
	return err
}

func (b *notebook) writeJournal(durable bool) error {
	err := b.journal.write(func() []byte {
		b.mu.Lock()
		defer b.mu.Unlock()
		lines := b.buffer
		b.buffer = nil
		return lines
	}, func() []record {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.st.records()
	})
	if err != nil || !durable {
		return err
	}
	return b.journal.sync()
}

// errUnsaved is the end of an agent whose journal is not written.
var errUnsaved = errors.New("the journal cannot be written, so that nothing can be taken, ended or reported; " +
	"free or check the disk of DSVM_INSTANCE_DIR")

// watchUnsaved ends the work of an agent whose journal is not written for too long: it
// could neither take nor report anything, while its session shows that it lives.
// Without the session the pool gives the node up and places its work elsewhere.
func (b *notebook) watchUnsaved(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(max(b.within/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if since := b.unsaved.Load(); since != 0 && time.Since(time.Unix(0, since)) > b.within {
			b.log.Error(errUnsaved.Error())
			end(errUnsaved)
			return
		}
	}
}

// persist flushes until it has worked, since nothing may be done before. Tries
// 0 = without end. False when the context, or the tries, end first.
func (b *notebook) persist(ctx context.Context, durable bool, tries int) bool {
	pause := pauses{}
	for i := 1; ; i++ {
		err := b.flush(durable)
		if err == nil {
			return true
		}
		b.logUnsaved(err)
		if i == tries || !pause.wait(ctx) {
			return false
		}
	}
}

func (b *notebook) logUnsaved(err error) {
	if err != nil {
		b.log.Error(err.Error())
	}
}

// recordEnd records an end and has it reported. The caller holds mu.
func (b *notebook) recordEnd(f protocol.Finished) {
	if h := b.st.held[f.N]; h != nil && h.phase == ended {
		return
	}
	b.record(record{Finished: &f})
	b.st.held[f.N].stopStartDeadline()
	b.st.held[f.N].run = nil
	b.leaveTurn(b.st.held[f.N])
	b.addFinished(f.N)
}

// giveUp ends the node's part in the pool for good.
func (b *notebook) giveUp(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recordStop(why)
}

// recordStop records that the node is to do nothing any more. The caller holds mu.
func (b *notebook) recordStop(why string) {
	if b.st.over == "" {
		b.record(record{Over: why})
		close(b.stopSignal)
	}
}

// stopReason says why the node is to do nothing any more; "" = it works.
func (b *notebook) stopReason() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.st.over
}

// wakeReporter wakes the reporter, unless it gathers ends and has nothing to do before.
func (b *notebook) wakeReporter() {
	b.mu.Lock()
	gathers := b.out.gathers && b.gathersFor(time.Now()) > 0 && !b.out.holdsDue && b.out.leaving == nil
	b.mu.Unlock()
	if gathers {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// isIdle reports whether nothing runs on the node or waits to, but sessions that nobody has
// used for long.
func (b *notebook) isIdle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.st.held {
		if h.phase != ended && !h.isForgotten() {
			return false
		}
	}
	return true
}

// checkAllReported closes allReported when the node leaves and everything of it is reported. The
// caller holds mu.
func (b *notebook) checkAllReported() {
	if b.leaveReason == "" || b.out.leaving != nil || len(b.out.finished) > 0 {
		return
	}
	for _, h := range b.st.held {
		if h.phase != ended {
			return
		}
	}
	select {
	case <-b.allReported:
	default:
		close(b.allReported)
	}
}
