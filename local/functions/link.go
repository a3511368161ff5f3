package functions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/link"
)

// Times of a link.
const (
	// openTime bounds the opening of a connection: a few round trips.
	openTime = 30 * time.Second
	// tokenMargin is how long before the end of its token a queue is opened again.
	tokenMargin = 10 * time.Minute
)

// readAddress returns the namespace and the credential of a connection setting. A setting
// with a namespace alone uses the developer's own identity.
func readAddress(settings map[string]string, connection string) (link.Address, error) {
	text := settings[connection]
	a := link.ParseAddress(text)
	if text == "" {
		a.Host = settings[connection+namespaceSuffix]
	}
	if a.Host == "" {
		return a, fmt.Errorf("the setting %s does not lead to Service Bus: it has no Endpoint", connection)
	}
	if a.Key == "" && a.Token == "" {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return a, err
		}
		a.Credential = credential
	}
	return a, nil
}

// linkSource is a queue, received over its own link. The link has credit only during a
// receive, so other messages stay in the queue for other receivers.
type linkSource struct {
	conn     *link.Conn
	receiver *link.Receiver
}

// openLink opens a queue for batches.
func openLink(ctx context.Context, settings map[string]string, connection, queue string) (source, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	a, err := readAddress(settings, connection)
	if err != nil {
		return nil, err
	}
	s := &linkSource{}
	if s.conn, err = link.Open(ctx, a, queue); err != nil {
		return nil, fmt.Errorf("the queue %s cannot be opened: %w", queue, err)
	}
	if s.receiver, err = s.conn.Receiver(ctx); err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("the queue %s cannot be opened: %w", queue, err)
	}
	return s, nil
}

// errTokenAge makes the loop open the queue again, with a new token.
var errTokenAge = errors.New("the token for Service Bus ends soon")

func (s *linkSource) receive(ctx context.Context, most int) ([]*delivery, error) {
	if time.Until(s.conn.Until) < tokenMargin {
		return nil, errTokenAge
	}
	got, err := s.receiver.Receive(ctx, most, receiveTime)
	out := make([]*delivery, len(got))
	for i, m := range got {
		out[i] = newDelivery(m.Message, m.Original)
	}
	return out, err
}

func (s *linkSource) complete(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.Complete(ctx, d.handle.(*amqp.Message))
}

func (s *linkSource) abandon(ctx context.Context, d *delivery) error {
	ctx, cancel := context.WithTimeout(ctx, settleOne)
	defer cancel()
	return s.receiver.Abandon(ctx, d.handle.(*amqp.Message))
}

// renew is not supported: this mode renews no locks.
func (s *linkSource) renew(context.Context, *delivery) error { return errors.ErrUnsupported }

// close gives back the messages that came after the last receive.
func (s *linkSource) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	s.receiver.Close(ctx)
	s.conn.Close()
}
