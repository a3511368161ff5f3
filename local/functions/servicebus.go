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

// namespaceSuffix makes the name of a connection that of a setting with the
// namespace, to be used with the developer's own identity.
const namespaceSuffix = "__fullyQualifiedNamespace"

// Times of the Service Bus client.
const (
	// gatherTime is how long a receiver waits for more after a first message. It
	// is what a single message waits, so it is far below the client's own 20 ms;
	// batches need no more, as they fill while the function runs.
	gatherTime = 100 * time.Microsecond
	// receiveTime bounds one receive, so that a link that died without a word is
	// noticed.
	receiveTime = 30 * time.Second
	// settleOne bounds one settlement. It must end before the client tries again
	// by itself, which is after some 4 s whatever its options say: that try, for a
	// message of a link that was lost, closes the connection that has taken its
	// place.
	settleOne = 3 * time.Second
)

// retries of the client are few and short: the trigger opens the queue again by
// itself, and says so.
var retries = azservicebus.RetryOptions{MaxRetries: 1, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second}

// buses are the clients, one for each connection setting.
type buses struct {
	mu  sync.Mutex
	all map[string]*client
}

// client is one client, and its connections, which know what messages really hold.
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
	c := &client{dialer: tolerant.Dialer{Host: where.host, Plain: where.plain}}
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

// namespace is the host name of Service Bus under a connection setting, without a
// port.
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

// sdkSource is a queue through the real client.
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
		err = nil // nothing came
	case err == nil && len(got) == 0 && bounded.Err() == nil:
		err = errLinkLost // the client would connect again without a word
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
