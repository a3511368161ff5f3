package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	sharedbus "dsvmpools/shared/bus"
	"dsvmpools/shared/protocol"
)

// bus is Service Bus as an agent needs it. Its methods may be called
// concurrently, and end with their context; the agent owns the retries.
type bus interface {
	// accept takes the node's session. An error may mean that another
	// agent still has it.
	accept(ctx context.Context) (session, error)
	// send puts one report on the queue. After an error it may be there or not.
	send(ctx context.Context, body []byte) error
	// reset makes a new connection at the next call.
	reset()
	close(ctx context.Context)
}

// session is the node's session on `work`. renew and left are called from one
// goroutine, the others from any.
type session interface {
	state(ctx context.Context) ([]byte, error)
	// receive waits for a message; nil without an error: the link has failed.
	receive(ctx context.Context) (*message, error)
	complete(ctx context.Context, m *message) error
	refuse(ctx context.Context, m *message, reason string) error
	renew(ctx context.Context) error
	left() time.Duration // until the lock ends
	close(ctx context.Context)
}

// message is what came on `work`.
type message struct {
	body   []byte
	origin *azservicebus.ReceivedMessage // nil in tests
}

// firstOnly is the number of messages asked for at once. The client gives a
// full answer back without waiting for more, and has no credit left with the
// service then: a message that arrives while the agent is busy stays in the
// queue instead of being handed out and given back. A pool sends a node's items
// in lists, so one message at a time is enough.
const firstOnly = 1

// afterFirst is how long the client may wait for more after a first message,
// should firstOnly ever be raised: hardly, since an attempt waits for it.
const afterFirst = time.Millisecond

// serviceBus is the real one.
type serviceBus struct {
	cfg Config

	mu     sync.Mutex
	client *azservicebus.Client
	sender *azservicebus.Sender
}

// openServiceBus checks the settings; nothing is sent until the first call.
func openServiceBus(cfg Config) (*serviceBus, error) {
	b := &serviceBus{cfg: cfg}
	_, _, err := b.open()
	return b, err
}

// open returns the client and the sender, made when there are none.
func (b *serviceBus) open() (*azservicebus.Client, *azservicebus.Sender, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		return b.client, b.sender, nil
	}
	namespace := sharedbus.Config{ConnectionString: b.cfg.ServiceBus, Namespace: b.cfg.ServiceBusNamespace, Credential: b.cfg.identity}
	client, err := namespace.Client(&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{
		MaxRetries: 1, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second, // the agent retries by itself, with what is new since
	}})
	if err != nil {
		return nil, nil, err
	}
	sender, err := client.NewSender(b.cfg.NodeEventsQueue, nil)
	if err != nil {
		return nil, nil, err
	}
	b.client, b.sender = client, sender
	return client, sender, nil
}

func (b *serviceBus) accept(ctx context.Context) (session, error) {
	client, _, err := b.open()
	if err != nil {
		return nil, err
	}
	r, err := client.AcceptSessionForQueue(ctx, b.cfg.WorkQueue, protocol.SessionID(b.cfg.Pool, b.cfg.VMID), nil)
	if err != nil {
		return nil, err
	}
	return &busSession{r}, nil
}

func (b *serviceBus) send(ctx context.Context, body []byte) error {
	_, sender, err := b.open()
	if err != nil {
		return err
	}
	return sender.SendMessage(ctx, &azservicebus.Message{Body: body, ContentType: to.Ptr("application/json")}, nil)
}

func (b *serviceBus) reset() {
	b.mu.Lock()
	old := b.client
	b.client, b.sender = nil, nil
	b.mu.Unlock()
	if old == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		old.Close(ctx)
	}()
}

func (b *serviceBus) close(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		b.client.Close(ctx)
		b.client, b.sender = nil, nil
	}
}

// busSession is a session that the real bus gave.
type busSession struct{ r *azservicebus.SessionReceiver }

func (s *busSession) state(ctx context.Context) ([]byte, error) { return s.r.GetSessionState(ctx, nil) }

func (s *busSession) receive(ctx context.Context) (*message, error) {
	got, err := s.r.ReceiveMessages(ctx, firstOnly, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: afterFirst})
	if err != nil || len(got) == 0 {
		return nil, err
	}
	return &message{body: got[0].Body, origin: got[0]}, nil
}

func (s *busSession) complete(ctx context.Context, m *message) error {
	return s.r.CompleteMessage(ctx, m.origin, nil)
}

func (s *busSession) refuse(ctx context.Context, m *message, reason string) error {
	return s.r.DeadLetterMessage(ctx, m.origin, &azservicebus.DeadLetterOptions{Reason: to.Ptr("unreadable"), ErrorDescription: &reason})
}

func (s *busSession) renew(ctx context.Context) error { return s.r.RenewSessionLock(ctx, nil) }

func (s *busSession) left() time.Duration { return time.Until(s.r.LockedUntil()) }

func (s *busSession) close(ctx context.Context) { s.r.Close(ctx) }

// isLockLost reports whether an error says that the session is not ours any more.
func isLockLost(err error) bool {
	var e *azservicebus.Error
	return errors.As(err, &e) && e.Code == azservicebus.CodeLockLost
}
