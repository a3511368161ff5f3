package functions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/bus/tolerant"
)

// namespaceSuffix, after the name of a connection, gives the name of the setting with the
// namespace. Such a connection uses the developer's own identity.
const namespaceSuffix = "__fullyQualifiedNamespace"

// Times of the Service Bus client.
const (
	// gatherTime is how long a receiver waits for more messages after the first one. It
	// delays a single message, so it is far below the client's default of 20 ms. Batches
	// need no more: their messages arrive while the function runs.
	gatherTime = 100 * time.Microsecond
	// receiveTime bounds one receive, so that a link that died without notice is found.
	receiveTime = 30 * time.Second
	// settleOne bounds one settlement. It must end before the client tries again by
	// itself, which it does after some 4 s with any options. For a message of a lost link,
	// that try closes the new connection.
	settleOne = 3 * time.Second
)

// retries of the client are few and short, because the trigger opens the queue again
// itself, and logs it.
var retries = azservicebus.RetryOptions{MaxRetries: 1, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second}

// buses holds the clients, one for each connection setting.
type buses struct {
	mu  sync.Mutex
	all map[string]*client
}

// client is a client with its connections, which record the original form of messages.
type client struct {
	*azservicebus.Client
	dialer tolerant.Dialer
}

// open opens a queue under a connection setting.
func (b *buses) open(settings map[string]string, connection, queue string) (source, error) {
	client, err := b.client(settings, connection)
	if err != nil {
		return nil, err
	}
	receiver, err := client.NewReceiverForQueue(queue, nil)
	if err != nil {
		return nil, fmt.Errorf("the queue %s cannot be opened: %w", queue, err)
	}
	return &sdkSource{receiver, &client.dialer}, nil
}

func (b *buses) client(settings map[string]string, connection string) (*client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.all[connection]; c != nil {
		return c, nil
	}
	where, err := readAddress(settings, connection)
	if err != nil {
		return nil, err
	}
	c := &client{dialer: tolerant.Dialer{Host: where.Host, Plain: where.Plain}}
	options := &azservicebus.ClientOptions{
		RetryOptions: retries,
		NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return c.dialer.Dial(ctx)
		},
	}
	if namespace := settings[connection+namespaceSuffix]; settings[connection] == "" && namespace != "" {
		var credential *azidentity.DefaultAzureCredential
		if credential, err = azidentity.NewDefaultAzureCredential(nil); err == nil {
			c.Client, err = azservicebus.NewClient(namespace, credential, options)
		}
	} else {
		c.Client, err = azservicebus.NewClientFromConnectionString(settings[connection], options)
	}
	if err != nil {
		return nil, fmt.Errorf("the setting %s does not lead to Service Bus: %w", connection, err)
	}
	if b.all == nil {
		b.all = map[string]*client{}
	}
	b.all[connection] = c
	return c, nil
}

// namespace returns the host name of Service Bus in a connection setting, without a port.
func namespace(settings map[string]string, connection string) string {
	host, _ := tolerant.Endpoint(settings[connection])
	if host == "" {
		return settings[connection+namespaceSuffix]
	}
	host, _, _ = strings.Cut(host, ":")
	return host
}

func (b *buses) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	for _, c := range b.all {
		_ = c.Close(ctx)
	}
	b.all = nil
}

var errLinkLost = errors.New("the link to Service Bus was lost")

// sdkSource is a queue, received with the real client.
type sdkSource struct {
	receiver *azservicebus.Receiver
	dialer   *tolerant.Dialer
}

func (s *sdkSource) receive(ctx context.Context, most int) ([]*delivery, error) {
	bounded, cancel := context.WithTimeout(ctx, receiveTime)
	defer cancel()
	got, err := s.receiver.ReceiveMessages(bounded, most, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: gatherTime})
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		err = nil // no message came
	case err == nil && len(got) == 0 && bounded.Err() == nil:
		err = errLinkLost // the client would connect again without notice
	}
	out := make([]*delivery, len(got))
	for i, m := range got {
		out[i] = convert(m, s.dialer.Take(m.RawAMQPMessage.DeliveryTag))
	}
	return out, err
}

func (s *sdkSource) complete(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.CompleteMessage(ctx, d.handle.(*azservicebus.ReceivedMessage), nil)
}

func (s *sdkSource) abandon(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.AbandonMessage(ctx, d.handle.(*azservicebus.ReceivedMessage), nil)
}

func (s *sdkSource) renew(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	m := d.handle.(*azservicebus.ReceivedMessage)
	if err := s.receiver.RenewMessageLock(ctx, m, nil); err != nil {
		return err
	}
	d.LockedUntil = *m.LockedUntil
	return nil
}

func (s *sdkSource) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = s.receiver.Close(ctx)
}
