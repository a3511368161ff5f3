package functions

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/invoke"
)

// Times and counts of the Service Bus side.
const (
	// settleAtOnce bounds the concurrent settlements. Each takes a round trip, and a batch
	// has up to 1,000.
	settleAtOnce = 64
	// settleTime bounds the settlement of a batch. Messages that are not settled by then
	// come again.
	settleTime = 20 * time.Second
	// maxFailedFirst is how many settlements may fail before one succeeds. After them, the
	// rest of the batch is not tried, because the server does not answer.
	maxFailedFirst = 8
	// firstReopen and longestReopen bound the pause before a queue that failed is
	// opened again; see shared/backoff.
	firstReopen   = 100 * time.Millisecond
	longestReopen = 5 * time.Second
	// lockMargin is how much of a message's lock must be left when an invocation starts
	// with it.
	lockMargin = time.Second
)

// source is an open queue.
type source interface {
	// receive waits for messages and returns 1 to most of them; or none, without an error,
	// when none came for a while. After an error the source cannot be used, not even for
	// settlements.
	receive(ctx context.Context, most int) ([]*delivery, error)
	complete(ctx context.Context, d *delivery) error
	abandon(ctx context.Context, d *delivery) error
	renew(ctx context.Context, d *delivery) error // sets d.LockedUntil
	close()
}

// sessionLocker is a source for one session. Its messages have no locks of their own, but
// the common lock that sessionLock returns.
type sessionLocker interface{ sessionLock() *delivery }

var _ sessionLocker = (*sessionSource)(nil)

// busLoop brings the messages of one queue to one function.
type busLoop struct {
	f          *function
	log        *slog.Logger
	open       func(context.Context) (source, error)
	ready      func(context.Context) error // waits for the handler
	call       func(ctx context.Context, inv invoke.Invocation, body []byte) error
	begin      func() invoke.Invocation
	most       int // messages of a batch, or calls at a time (in a session, of that session)
	session    bool
	concurrent int // sessions at a time
	keep       bool
	renewal    time.Duration
	namespace  string
	life       context.Context // of the calls of batches; nil = that of the loop
}

func (h *Host) newBusLoop(f *function) *busLoop {
	sb := h.file.Extensions.ServiceBus
	l := &busLoop{
		f:       f,
		log:     h.log.With("function", f.name, "queue", f.trigger.QueueName),
		renewal: sb.MaxAutoLockRenewalDuration.or(defaultMaxLockRenewal),
	}
	l.session, l.concurrent = f.trigger.IsSessionsEnabled, 1
	switch {
	case f.takesBatches():
		l.most = firstPositive(f.trigger.MaxMessageBatchSize, firstPositive(sb.MaxMessageBatchSize, defaultMaxMessageBatchSize))
	case l.session:
		l.most = firstPositive(sb.MaxConcurrentCallsPerSession, defaultMaxConcurrentCallsPerSession)
		l.concurrent = firstPositive(sb.MaxConcurrentSessions, defaultMaxConcurrentSessions)
	default:
		l.most = firstPositive(sb.MaxConcurrentCalls, defaultMaxConcurrentCalls*runtime.NumCPU())
	}
	for _, auto := range []*bool{sb.AutoCompleteMessages, f.trigger.AutoCompleteMessages} {
		if auto != nil {
			l.keep = !*auto
		}
	}
	l.namespace = namespace(h.cfg.Settings, f.trigger.Connection)
	l.open = func(ctx context.Context) (source, error) {
		if l.session {
			idle := sb.SessionIdleTimeout.or(sb.ClientRetryOptions.TryTimeout.or(defaultSessionIdle))
			return h.buses.openSession(ctx, h.cfg.Settings, f.trigger.Connection, f.trigger.QueueName, idle)
		}
		if f.takesBatches() {
			return openLink(ctx, h.cfg.Settings, f.trigger.Connection, f.trigger.QueueName)
		}
		return h.buses.open(h.cfg.Settings, f.trigger.Connection, f.trigger.QueueName)
	}
	l.begin = func() invoke.Invocation { return h.invocation(f) }
	l.call = func(ctx context.Context, inv invoke.Invocation, body []byte) error {
		_, err := h.call(ctx, f, inv, body)
		return err
	}
	if h.cfg.Real {
		l.life = h.ctx
	}
	l.ready = func(ctx context.Context) error {
		if h.cfg.Real {
			return nil // messages are taken while there is no handler yet
		}
		if _, err := h.worker.await(ctx, true); err != errExited {
			return err
		}
		return nil // messages are still received, and their invocations fail
	}
	return l
}

// firstPositive returns n if it is above 0, and otherwise the default.
func firstPositive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// run receives until ctx ends. It opens the queue again after a failure, and the next
// session after the end of one.
func (l *busLoop) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		src, err := l.open(ctx)
		if err == nil {
			worked := false
			if l.f.takesBatches() {
				worked, err = l.batches(ctx, src)
			} else {
				worked, err = l.singles(ctx, src)
			}
			src.close()
			if worked {
				failures = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errIdle) || errors.Is(err, errNoSession) || errors.Is(err, errOutOfOrder) || errors.Is(err, errTokenAge) {
			failures = 0
			continue
		}
		failures++
		wait := backoff.After(failures, firstReopen, longestReopen)
		l.log.Warn("reopening queue", "error", err, "pause", wait)
		pause(ctx, wait)
	}
}

// batches invokes the function with all messages in the queue, one batch at a time. It
// asks for none while the function runs, so new messages stay in the queue for other
// receivers. As in the real host, this mode renews no locks.
func (l *busLoop) batches(ctx context.Context, src source) (worked bool, err error) {
	for {
		if err := cmp.Or(l.ready(ctx), ctx.Err()); err != nil {
			return worked, err
		}
		got, err := src.receive(ctx, l.most)
		if got = withLiveLock(got, time.Now()); len(got) > 0 {
			worked = true
			if failed := l.batch(ctx, context.WithoutCancel(ctx), src, got); failed != nil && l.session {
				return worked, errOutOfOrder
			}
		}
		if err != nil {
			return worked, err
		}
	}
}

// withLiveLock returns the messages whose lock lasts long enough to start with them.
func withLiveLock(batch []*delivery, now time.Time) []*delivery {
	live := batch[:0]
	for _, d := range batch {
		if d.LockedUntil.IsZero() || d.LockedUntil.After(now.Add(lockMargin)) {
			live = append(live, d)
		}
	}
	return live
}

// batch invokes the function with messages, and settles all of them in the same way.
func (l *busLoop) batch(ctx, link context.Context, src source, batch []*delivery) error {
	inv := l.begin()
	inv.Namespace = l.namespace
	messages := make([]invoke.Delivery, len(batch))
	var bindErrors []error // one error fails the whole batch
	for i, d := range batch {
		messages[i] = d.Delivery
		bindErrors = append(bindErrors, d.checkBinding(l.f.isBinary()))
	}
	err := errors.Join(bindErrors...)
	if l.life != nil {
		ctx = l.life
	}
	if err == nil {
		err = l.call(ctx, inv, inv.Batch(messages, l.f.isBinary()))
	} else {
		err = errors.Join(errUnbound, err)
	}
	if err != nil && ctx.Err() == nil {
		l.log.Error("invocation failed; its messages come again", "invocation", inv.ID, "messages", len(batch), "error", err)
	}
	l.settle(link, src, batch, err == nil)
	return err
}

// singles invokes the function once for each message, several at a time, and renews their
// locks while it runs.
func (l *busLoop) singles(ctx context.Context, src source) (worked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	link, lose := context.WithCancel(context.WithoutCancel(ctx))
	defer lose()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if s, ok := src.(sessionLocker); ok { // as long as the session is open, even when it is idle
		wg.Go(func() { l.renew(ctx, src, s.sessionLock()) })
	}
	slots := make(chan struct{}, l.most)
	for {
		select { // wait for one free slot; receive then uses all free ones
		case slots <- struct{}{}:
			<-slots
		case <-ctx.Done():
			return worked, ctx.Err()
		}
		if err := l.ready(ctx); err != nil {
			return worked, err
		}
		got, err := src.receive(ctx, cap(slots)-len(slots))
		for _, d := range got {
			worked = true
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				l.single(ctx, link, src, d)
			})
		}
		if errors.Is(err, errIdle) {
			for range cap(slots) { // calls that still run end first
				slots <- struct{}{}
			}
			return worked, err
		}
		if err != nil {
			if ctx.Err() == nil {
				lose()
			}
			return worked, err
		}
	}
}

func (l *busLoop) single(ctx, link context.Context, src source, d *delivery) {
	inv := l.begin()
	inv.Namespace = l.namespace
	body := inv.Single(d.Delivery, l.f.isBinary()) // before a renewal changes LockedUntil
	renewing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if !l.session { // a session's lock is renewed as a whole
		wg.Go(func() { l.renew(renewing, src, d) })
	}
	err := d.checkBinding(l.f.isBinary())
	if err == nil {
		err = l.call(ctx, inv, body)
	} else {
		err = errors.Join(errUnbound, err)
	}
	stop()
	wg.Wait()
	if err != nil && ctx.Err() == nil {
		l.log.Error("invocation failed; its message comes again", "invocation", inv.ID, "message", d.ID, "error", err)
	}
	l.settle(link, src, []*delivery{d}, err == nil)
}

// renew renews the lock of a message or a session, for as long as host.json allows.
func (l *busLoop) renew(ctx context.Context, src source, d *delivery) {
	for until := time.Now().Add(l.renewal); !d.LockedUntil.IsZero(); {
		pause(ctx, time.Until(d.LockedUntil)/2)
		if ctx.Err() != nil || time.Now().After(until) {
			return
		}
		if err := src.renew(ctx, d); err != nil {
			if ctx.Err() == nil {
				l.log.Warn("renewing lock failed", "message", d.ID, "error", err)
			}
			return
		}
	}
}

// settle completes or abandons messages as long as their link is open, also while the host
// ends. Messages whose settlement fails come again after their lock ends.
func (l *busLoop) settle(link context.Context, src source, batch []*delivery, succeeded bool) {
	one := src.abandon
	if succeeded {
		if l.keep {
			return
		}
		one = src.complete
	}
	ctx, cancel := context.WithTimeout(link, settleTime)
	defer cancel()
	var next, worked, failed atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range min(settleAtOnce, len(batch)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(batch) && ctx.Err() == nil; i = next.Add(1) - 1 {
				err := one(ctx, batch[i])
				if err == nil {
					worked.Add(1)
					continue
				}
				first.CompareAndSwap(nil, &err)
				if failed.Add(1) >= maxFailedFirst && worked.Load() == 0 {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if n := int64(len(batch)) - worked.Load(); n > 0 {
		err := context.Cause(ctx)
		if p := first.Load(); p != nil {
			err = *p
		}
		l.log.Warn("settling messages failed; they come again", "messages", n, "succeeded", succeeded, "error", err)
	}
}
