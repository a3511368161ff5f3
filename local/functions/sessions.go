package functions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/bus/tolerant"
)

// acceptTime bounds one wait for a free session. The server usually ends the wait sooner;
// the bound is for a link that died without notice.
const acceptTime = 90 * time.Second

// errIdle ends a session that got no message for sessionIdleTimeout.
var errIdle = errors.New("the session is idle")

// errOutOfOrder ends a session after a batch failed. Later messages must not be delivered
// before that batch. After the session is closed, all of them come again in order.
var errOutOfOrder = errors.New("a batch of the session failed; the session is closed, and comes again in order")

// errNoSession says that no session was free for a while.
var errNoSession = errors.New("no session is free")

// sessions works on as many sessions at a time as host.json allows; in batch mode on one,
// because batches run one at a time.
func (l *busLoop) sessions(ctx context.Context) {
	var wg sync.WaitGroup
	for range l.concurrent {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
}

// openSession waits for a session that nobody holds.
func (b *buses) openSession(ctx context.Context, settings map[string]string, connection, queue string, idle time.Duration) (source, error) {
	client, err := b.client(settings, connection)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	receiver, err := client.AcceptNextSessionForQueue(bounded, queue, nil)
	var failure *azservicebus.Error
	switch {
	case errors.As(err, &failure) && failure.Code == azservicebus.CodeTimeout, errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, errNoSession
	case err != nil:
		return nil, fmt.Errorf("no session of the queue %s can be accepted: %w", queue, err)
	}
	return &sessionSource{receiver: receiver, idle: idle, dialer: &client.dialer}, nil
}

// sessionSource is one session, received with the real client. Its messages have no locks
// of their own.
type sessionSource struct {
	receiver *azservicebus.SessionReceiver
	idle     time.Duration
	dialer   *tolerant.Dialer
}

// receive asks for one message, even if there is room for more. The client gives back
// messages that arrive between two receives. If it had asked for more than one, some would
// then come again after later ones.
func (s *sessionSource) receive(ctx context.Context, _ int) ([]*delivery, error) {
	bounded, cancel := context.WithTimeout(ctx, s.idle)
	defer cancel()
	got, err := s.receiver.ReceiveMessages(bounded, 1, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: gatherTime})
	switch {
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		err = errIdle
	case err == nil && len(got) == 0 && bounded.Err() == nil:
		err = errLinkLost
	}
	out := make([]*delivery, len(got))
	for i, m := range got {
		out[i] = convert(m, s.dialer.Take(m.RawAMQPMessage.DeliveryTag))
		out[i].LockedUntil = s.receiver.LockedUntil()
	}
	return out, err
}

func (s *sessionSource) complete(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.CompleteMessage(ctx, d.handle.(*azservicebus.ReceivedMessage), nil)
}

func (s *sessionSource) abandon(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.AbandonMessage(ctx, d.handle.(*azservicebus.ReceivedMessage), nil)
}

// renew renews the lock of the session; d represents it.
func (s *sessionSource) renew(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	if err := s.receiver.RenewSessionLock(ctx, nil); err != nil {
		return err
	}
	d.LockedUntil = s.receiver.LockedUntil()
	return nil
}

func (s *sessionSource) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = s.receiver.Close(ctx)
}

// sessionLock returns a delivery that represents the session's lock.
func (s *sessionSource) sessionLock() *delivery {
	d := &delivery{}
	d.LockedUntil = s.receiver.LockedUntil()
	return d
}
