package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// deadLetterWait is how long messages that were seen are waited for: somebody else
// may hold them.
const deadLetterWait = 2 * time.Second

// DeadLetters hands up to n messages of a queue's dead-letter queue to fn, with
// the reason why each is there, and completes those that fn has taken. An empty
// dead-letter queue is no error. Nothing is held open between calls.
func (b *Bus) DeadLetters(ctx context.Context, queue string, n int, fn func(ctx context.Context, m Message, reason string) error) error {
	receiver, err := b.client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return b.check(queue, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		receiver.Close(ctx)
	}()
	// Mostly there is nothing, which a look tells at once; receiving would wait.
	if seen, err := receiver.PeekMessages(ctx, 1, nil); err != nil || len(seen) == 0 {
		return b.check(queue, err)
	}
	wait, cancel := context.WithTimeout(ctx, deadLetterWait)
	defer cancel()
	messages, err := receiver.ReceiveMessages(wait, n, nil)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return b.check(queue, err)
	}
	var errs []error
	for _, m := range messages {
		out := Message{ID: m.MessageID, Body: m.Body, Properties: m.ApplicationProperties}
		if m.ContentType != nil {
			out.ContentType = *m.ContentType
		}
		if err := fn(ctx, out, reason(m)); err != nil {
			errs = append(errs, err, receiver.AbandonMessage(ctx, m, nil))
			continue
		}
		errs = append(errs, receiver.CompleteMessage(ctx, m, nil))
	}
	return errors.Join(errs...)
}

// reason says why a message was dead-lettered, in the service's words.
func reason(m *azservicebus.ReceivedMessage) string {
	why := "no reason given"
	if m.DeadLetterReason != nil {
		why = *m.DeadLetterReason
	}
	if m.DeadLetterErrorDescription != nil && *m.DeadLetterErrorDescription != "" {
		why = fmt.Sprintf("%s: %s", why, *m.DeadLetterErrorDescription)
	}
	return why
}
