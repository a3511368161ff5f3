package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/patience"
)

// serverBusy is the condition with which Service Bus refuses messages when the namespace has
// used its credits of the second.
const serverBusy = "com.microsoft:server-busy"

// slowestPace is the rate, in credits per second, that refusals cannot push this process
// below: all nodes and senders share the 1,000 credits of a Standard namespace.
const slowestPace = 50

// Tries of a send.
const (
	sendTries  = 5
	firstPause = 250 * time.Millisecond
	maxPause   = 2 * time.Second // what the service asks for in its refusal
)

// IsBusy reports whether Service Bus refused a request because there were too many.
func IsBusy(err error) bool {
	var refused *amqp.Error
	return errors.As(err, &refused) && refused.Condition == serverBusy
}

// Took counts messages that were received from a queue. Messages that bring new work wait
// here while the namespace refuses requests, so that the credits suffice for the messages
// between pools and nodes: those end work and make room, and do not wait. The error is
// that of ctx.
func (b *Bus) Took(ctx context.Context, queue string, messages int) error {
	switch queue {
	case b.queues.NodeEvents:
		b.pace.Spend(time.Now(), 2*messages) // a node has sent each
	case b.queues.Jobs:
		return patience.Wait(ctx, b.pace.Reserve(time.Now(), messages)) // some seconds at most, far inside a message's lock
	default:
		b.pace.Spend(time.Now(), messages)
	}
	return nil
}

// paced sends messages with the queue's sender and tries again when that may help. After a
// refusal it waits longer each time, and the pace of this process slows down; after other
// failures it opens a new connection.
func (b *Bus) paced(ctx context.Context, queue string, messages int, send func(context.Context, *azservicebus.Sender) error) error {
	credits := messages
	if queue == b.queues.Work {
		credits *= 2 // a node receives each
	}
	for try := 1; ; try++ {
		sender, client, err := b.senders.of(queue)
		if err == nil {
			b.pace.Spend(time.Now(), credits)
			err = send(ctx, sender)
		}
		switch {
		case err == nil:
			return nil
		case IsBusy(err):
			b.pace.Refuse(time.Now(), credits)
		case !isTransient(err):
			return b.toFault(queue, err)
		default:
			b.senders.replace(client)
		}
		if try == sendTries {
			return b.toFault(queue, err)
		}
		wait := backoff.After(try, firstPause, maxPause)
		if patience.Wait(ctx, wait+rand.N(wait/2)) != nil {
			return b.toFault(queue, err)
		}
	}
}

// isTransient reports whether a send that failed like this may succeed when it is repeated.
func isTransient(err error) bool {
	var known *azservicebus.Error
	if errors.As(err, &known) && (known.Code == azservicebus.CodeNotFound || known.Code == azservicebus.CodeUnauthorizedAccess) {
		return false
	}
	var setting *fault.Error
	if errors.As(err, &setting) || errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return false
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// busyFault is the error of a send that the service refused each time.
func busyFault(queue string, err error) error {
	return &fault.Error{
		Code:       fault.Throttled,
		Message:    fmt.Sprintf("Service Bus takes no more messages for queue %q now: the namespace has used its credits of the second", queue),
		RetryAfter: maxPause,
		Err:        err,
	}
}
