package bus

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// accessSession is a session that belongs to no node.
const accessSession = "access"

// Queue is what Service Bus says about a queue.
type Queue struct {
	Sessions      bool
	Lock          time.Duration // of a message, or of a session; 0 = not said
	MaxDeliveries int
	Active, Dead  int // messages that wait, and that are dead
}

// Inspect reads the settings and the counts of a queue, which takes the right to manage it.
// fault.NotFound: there is no such queue.
func (b *Bus) Inspect(ctx context.Context, queue string) (Queue, error) {
	client, err := b.cfg.administration()
	if err != nil {
		return Queue{}, err
	}
	got, err := client.GetQueue(ctx, queue, nil)
	if err != nil {
		return Queue{}, b.refused(queue, err)
	}
	counts, err := client.GetQueueRuntimeProperties(ctx, queue, nil)
	if err != nil {
		return Queue{}, b.refused(queue, err)
	}
	if got == nil || counts == nil {
		return Queue{}, b.refused(queue, &azcore.ResponseError{StatusCode: http.StatusNotFound})
	}
	q := Queue{Active: int(counts.ActiveMessageCount), Dead: int(counts.DeadLetterMessageCount)}
	if got.RequiresSession != nil {
		q.Sessions = *got.RequiresSession
	}
	if got.MaxDeliveryCount != nil {
		q.MaxDeliveries = int(*got.MaxDeliveryCount)
	}
	if got.LockDuration != nil {
		if d, err := isoDuration(*got.LockDuration); err == nil {
			q.Lock = d
		}
	}
	return q, nil
}

// isoDuration reads a lock's duration, which has days at most: PT5M, PT30S, P1DT2H.
func isoDuration(text string) (time.Duration, error) {
	d, err := job.ParseDuration(strings.ToLower(strings.NewReplacer("P", "", "T", "").Replace(text)))
	return time.Duration(d), err
}

// TestAccess opens the links that sending to a queue and receiving from it take, and sends and
// takes nothing. Of a queue with sessions it takes a session that belongs to no node, and
// gives it back.
func (b *Bus) TestAccess(ctx context.Context, queue string, sessions bool) error {
	err := b.paced(ctx, queue, 0, func(ctx context.Context, sender *azservicebus.Sender) error {
		_, err := sender.NewMessageBatch(ctx, nil)
		return err
	})
	if err != nil {
		return err
	}
	var receiver interface{ Close(context.Context) error }
	if sessions {
		receiver, err = b.client.AcceptSessionForQueue(ctx, queue, accessSession, nil)
	} else {
		var plain *azservicebus.Receiver
		if plain, err = b.client.NewReceiverForQueue(queue, nil); err == nil {
			receiver = plain
			_, err = plain.PeekMessages(ctx, 1, nil)
		}
	}
	if err != nil && receiver == nil {
		return b.toFault(queue, err)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return b.toFault(queue, errors.Join(err, receiver.Close(closing)))
}

// administration makes a client that manages queues.
func (c Config) administration() (*admin.Client, error) {
	opts := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: 1}}}
	if c.ConnectionString == "" {
		return admin.NewClient(c.Namespace, c.Credential, opts)
	}
	if strings.Contains(strings.ToLower(c.ConnectionString), "usedevelopmentemulator=true") {
		opts.Transport = plainHTTP{}
	}
	client, err := admin.NewClientFromConnectionString(c.ConnectionString, opts)
	if err != nil { // the cause may quote the connection string
		return nil, fault.New(fault.Invalid, "ServiceBusConnection", "the Service Bus connection cannot be used; check its form")
	}
	return client, nil
}

// plainHTTP sends requests without TLS, to a Service Bus on this machine.
type plainHTTP struct{}

func (plainHTTP) Do(r *http.Request) (*http.Response, error) {
	plain := r.Clone(r.Context())
	plain.URL.Scheme = "http"
	return http.DefaultClient.Do(plain)
}

// refused turns an error of the administration into one of the project's codes.
func (b *Bus) refused(queue string, err error) error {
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return b.toFault(queue, err)
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return b.toFault(queue, notFound)
	case http.StatusUnauthorized, http.StatusForbidden:
		return &fault.Error{Code: fault.Invalid, Field: "ServiceBusConnection", Err: err,
			Message: "no right to manage queue \"" + queue + "\"; check the role or the key"}
	}
	return b.toFault(queue, err)
}

// notFound is the service's own error for a queue that is not there.
var notFound = &azservicebus.Error{Code: azservicebus.CodeNotFound}
