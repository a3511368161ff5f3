// Package bus is Service Bus as this project uses it, through the azservicebus
// client: it sends work to nodes, events to pools and refused messages to the
// `rejected` queue, takes the session of a silent node, and over links of its own looks at
// messages, takes dead ones and removes single ones. It receives nothing else: on the
// functions' side the Functions host does that.
package bus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/bus/link"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

// sendTimeout bounds one send, retries included: well inside the lock of the
// message that a function is working on.
const sendTimeout = 20 * time.Second

// fenceTimeout bounds the try to take a session: a session that is free is
// given at once, and one that is not is refused at once.
const fenceTimeout = 10 * time.Second

// closeTimeout bounds closing a receiver: the session is given back anyway when
// its link is gone.
const closeTimeout = 5 * time.Second

// Queues are the names of the deployment's queues.
type Queues struct {
	Jobs, Pools, PoolEvents, NodeEvents, Work, Rejected string
}

// DefaultQueues are the names in docs/settings.md.
var DefaultQueues = Queues{
	Jobs: "jobs", Pools: "pools", PoolEvents: "pool-events",
	NodeEvents: protocol.NodeEventsQueue, Work: protocol.WorkQueue, Rejected: "rejected",
}

// Config says where the namespace is: ConnectionString, or Namespace (fully
// qualified) with Credential.
type Config struct {
	ConnectionString string
	Namespace        string
	Credential       azcore.TokenCredential
	Queues           Queues
}

// Message is what is sent to a plain queue.
type Message struct {
	ID          string
	Body        []byte
	ContentType string
	Labels
	Properties map[string]any // what a message cannot hold is sent as text
	At         time.Time      // when it is to arrive; zero = now
}

// Labels are what a sender writes on a message for its receivers. This project reads none
// of it and passes it on. "" = not set.
type Labels struct {
	CorrelationID, Subject, To, ReplyTo, ReplyToSessionID, SessionID string
}

// Bus holds one client that sends, with a sender for each queue, and one for the rest. Its
// methods may be called concurrently. It owns the retries of sends: see pace.go.
type Bus struct {
	client  *azservicebus.Client
	queues  Queues
	cfg     Config
	senders senders
	pace    backoff.Pace // credits of the namespace that this process knows of
}

// Open connects lazily: nothing is sent until the first call.
func Open(cfg Config) (*Bus, error) {
	client, err := cfg.Client(options())
	if err != nil {
		return nil, err
	}
	return &Bus{
		client:  client,
		cfg:     cfg,
		queues:  cfg.Queues,
		senders: senders{cfg: cfg},
		pace:    backoff.Pace{Floor: slowestPace},
	}, nil
}

// Client makes a client of the namespace, with the options of the caller. It connects
// when it is used for the first time. The error has code Invalid.
func (c Config) Client(opts *azservicebus.ClientOptions) (client *azservicebus.Client, err error) {
	switch {
	case c.ConnectionString != "":
		client, err = azservicebus.NewClientFromConnectionString(c.ConnectionString, opts)
	case c.Namespace != "" && c.Credential != nil:
		client, err = azservicebus.NewClient(c.Namespace, c.Credential, opts)
	default:
		return nil, fault.New(fault.Invalid, "ServiceBusConnection",
			"set ServiceBusConnection to a connection string, or ServiceBusConnection__fullyQualifiedNamespace to the namespace")
	}
	if err != nil {
		// The cause may quote the connection string, so it is not passed on.
		return nil, fault.New(fault.Invalid, "ServiceBusConnection", "the Service Bus connection cannot be used; check its form")
	}
	return client, nil
}

// options are those of the client that does not send.
func options() *azservicebus.ClientOptions {
	return &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 5 * time.Second},
	}
}

// Queues returns the names of the queues.
func (b *Bus) Queues() Queues { return b.queues }

// Send sends messages to a plain queue. Either all arrive or the error says
// that some may not have.
func (b *Bus) Send(ctx context.Context, queue string, messages ...Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if len(messages) == 1 {
		m := toSDK(messages[0])
		return b.paced(ctx, queue, 1, func(ctx context.Context, sender *azservicebus.Sender) error {
			return sender.SendMessage(ctx, m, nil)
		})
	}
	var batch *azservicebus.MessageBatch
	begin := func(ctx context.Context, sender *azservicebus.Sender) (err error) {
		batch, err = sender.NewMessageBatch(ctx, nil)
		return err
	}
	flush := func() error {
		if batch == nil || batch.NumMessages() == 0 {
			return nil
		}
		err := b.paced(ctx, queue, int(batch.NumMessages()), func(ctx context.Context, sender *azservicebus.Sender) error {
			return sender.SendMessageBatch(ctx, batch, nil)
		})
		batch = nil
		return err
	}
	for _, m := range messages {
		for {
			if batch == nil {
				if err := b.paced(ctx, queue, 0, begin); err != nil {
					return err
				}
			}
			err := batch.AddMessage(toSDK(m), nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) && batch.NumMessages() > 0 {
				if err := flush(); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return b.toFault(queue, err)
			}
			break
		}
	}
	return flush()
}

// Work sends items to a node's session on `work`, in their order, in as few
// messages as the size allows.
func (b *Bus) Work(ctx context.Context, session string, items []protocol.WorkItem) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	bodies, err := protocol.EncodeWork(items)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		m := &azservicebus.Message{Body: body, SessionID: &session, ContentType: to.Ptr("application/json")}
		err := b.paced(ctx, b.queues.Work, 1, func(ctx context.Context, sender *azservicebus.Sender) error {
			return sender.SendMessage(ctx, m, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Fence tries to take a node's session. When it is taken, the session is marked
// so that an agent that comes back stops, and true is returned; false means
// that the node's agent holds it.
func (b *Bus) Fence(ctx context.Context, session string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	receiver, err := b.client.AcceptSessionForQueue(ctx, b.queues.Work, session, nil)
	var sbErr *azservicebus.Error
	if errors.As(err, &sbErr) && sbErr.Code == azservicebus.CodeTimeout || isHeld(err) {
		return false, nil
	}
	if err != nil {
		return false, b.toFault(b.queues.Work, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		receiver.Close(ctx)
	}()
	if err := receiver.SetSessionState(ctx, protocol.FencedState(), nil); err != nil {
		return false, b.toFault(b.queues.Work, err)
	}
	return true, nil
}

// Close gives up the connections.
func (b *Bus) Close(ctx context.Context) error {
	return errors.Join(b.senders.close(ctx), b.client.Close(ctx))
}

// toFault turns an SDK error into one of the project's codes.
func (b *Bus) toFault(queue string, err error) error {
	if err == nil {
		return nil
	}
	var sbErr *azservicebus.Error
	if errors.As(err, &sbErr) {
		switch sbErr.Code {
		case azservicebus.CodeNotFound:
			message := fmt.Sprintf("queue %q does not exist; create it as infra/ describes", queue)
			return &fault.Error{Code: fault.NotFound, Message: message, Err: err}
		case azservicebus.CodeUnauthorizedAccess:
			message := fmt.Sprintf("no right to use queue %q; check the role or the key", queue)
			return &fault.Error{Code: fault.Invalid, Field: "ServiceBusConnection", Message: message, Err: err}
		}
	}
	var refused *link.Refused
	if errors.As(err, &refused) {
		switch refused.Status {
		case http.StatusNotFound:
			return b.toFault(queue, notFound)
		case http.StatusUnauthorized, http.StatusForbidden:
			return b.toFault(queue, &azservicebus.Error{Code: azservicebus.CodeUnauthorizedAccess})
		}
	}
	if IsBusy(err) {
		return busyFault(queue, err)
	}
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return &fault.Error{Code: fault.Invalid, Message: "the message is larger than the queue allows", Err: err}
	}
	return &fault.Error{Code: fault.Internal, Message: fmt.Sprintf("queue %q cannot be reached", queue), Err: err}
}

// IsTooLarge reports whether a message was not sent since it is larger than its queue allows.
func IsTooLarge(err error) bool { return errors.Is(err, azservicebus.ErrMessageTooLarge) }

// toSDK is a message as the client sends it. The client refuses texts that are not UTF-8,
// which others may have sent.
func toSDK(m Message) *azservicebus.Message {
	out := &azservicebus.Message{Body: m.Body}
	if m.Properties != nil {
		out.ApplicationProperties = make(map[string]any, len(m.Properties))
		for name, v := range m.Properties {
			v = plainProperty(v)
			if text, ok := v.(string); ok {
				v = validText(text)
			}
			out.ApplicationProperties[validText(name)] = v
		}
	}
	for _, label := range []struct {
		text string
		into **string
	}{
		{m.CorrelationID, &out.CorrelationID},
		{m.Subject, &out.Subject},
		{m.To, &out.To},
		{m.ReplyTo, &out.ReplyTo},
		{m.ReplyToSessionID, &out.ReplyToSessionID},
		{m.SessionID, &out.SessionID},
		{m.ID, &out.MessageID},
		{m.ContentType, &out.ContentType},
	} {
		if label.text != "" {
			*label.into = new(validText(label.text))
		}
	}
	if !m.At.IsZero() {
		out.ScheduledEnqueueTime = &m.At
	}
	return out
}

func validText(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

// isHeld reports whether a session was refused because another client has it.
// The SDK has no code of its own for that and hands the AMQP error through.
func isHeld(err error) bool {
	var refused *amqp.Error
	return errors.As(err, &refused) && refused.Condition == "com.microsoft:session-cannot-be-locked"
}
