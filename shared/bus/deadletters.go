package bus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/tolerant"
)

// Times and limits of reading dead letters.
const (
	// deadLetterWait is how long one waits for messages that were seen: another
	// client may hold them.
	deadLetterWait = 2 * time.Second
	// deadLetterMore is how long one waits for more after those that came.
	deadLetterMore = 200 * time.Millisecond
	// deadLetterBytes bounds what is in memory at a time. The last message may go over
	// it.
	deadLetterBytes = 32 << 20
)

// Dead is a message of a dead-letter queue, as a message that can be sent again:
// its body is one of bytes, whatever it was.
type Dead struct {
	Message
	Reason string // why it is dead, in the service's words
	// Unreadable says why no function can have it, for a person; the body is then its
	// content as JSON. "" = one can.
	Unreadable string

	sequence int64
	size     int
}

// DeadLetters hands up to n messages of a queue's dead-letter queue to fn, in the
// order in which they were sent, and completes those that fn has taken: all but
// those whose places fn names with an error. An empty dead-letter queue is no error.
// Nothing is held open between calls.
func (b *Bus) DeadLetters(ctx context.Context, queue string, n int, fn func(ctx context.Context, dead []Dead) map[int]error) (err error) {
	defer func() {
		if p := recover(); p != nil { // the client, over a message that is like none it knows
			err = fmt.Errorf("the dead letters of %q cannot be read: %v", queue, p)
		}
	}()
	client, dialer, err := b.deadLetterClient()
	if err != nil {
		return err
	}
	receiver, err := client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return b.toFault(queue, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		receiver.Close(ctx)
	}()
	// Mostly there is nothing, which a look shows at once; receiving would wait. A look
	// that fails, since it cannot read what is there, shows that there is something.
	if seen, err := receiver.PeekMessages(ctx, 1, nil); err == nil && len(seen) == 0 {
		return nil
	}
	var dead []Dead
	var received []*azservicebus.ReceivedMessage
	for size, wait := 0, deadLetterWait; len(dead) < n && size < deadLetterBytes; wait = deadLetterMore {
		bounded, cancel := context.WithTimeout(ctx, wait)
		got, failed := receiver.ReceiveMessages(bounded, min(n-len(dead), 100), nil)
		cancel()
		for _, m := range got {
			dead, received = append(dead, newDead(m, dialer.Take(m.RawAMQPMessage.DeliveryTag))), append(received, m)
			size += dead[len(dead)-1].size
		}
		if failed != nil {
			if !errors.Is(failed, context.DeadlineExceeded) || ctx.Err() != nil {
				err = b.toFault(queue, failed)
			}
			break
		}
	}
	if len(dead) == 0 {
		return err
	}
	order := make([]int, len(dead))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(dead[i].sequence, dead[j].sequence) })
	sorted := make([]Dead, len(dead))
	for to, from := range order {
		sorted[to] = dead[from]
	}
	failed := fn(ctx, sorted)
	errs := []error{err}
	for to, from := range order {
		if cause := failed[to]; cause != nil {
			// Its lock runs out. Given back, it would come to this receiver again, and be
			// locked for longer.
			errs = append(errs, cause)
			continue
		}
		errs = append(errs, receiver.CompleteMessage(ctx, received[from], nil))
	}
	return errors.Join(errs...)
}

// deadLetterClient is the client that reads dead letters. It has connections of its own, over
// which every message can be read; nothing else depends on them.
func (b *Bus) deadLetterClient() (*azservicebus.Client, *tolerant.Dialer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead != nil {
		return b.dead, &b.dialer, nil
	}
	b.dialer.Host = b.cfg.Namespace
	if b.cfg.ConnectionString != "" {
		b.dialer.Host, b.dialer.Plain = tolerant.Endpoint(b.cfg.ConnectionString)
	}
	client, err := b.cfg.Client(options(func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
		return b.dialer.Dial(ctx)
	}))
	if err != nil {
		return nil, nil, err
	}
	b.dead = client
	return client, &b.dialer, nil
}

// newDead takes over a message; o is what it really holds, or nil.
func newDead(m *azservicebus.ReceivedMessage, o *tolerant.Original) Dead {
	d := Dead{Message: Message{ID: m.MessageID, Properties: map[string]any{}}, Reason: deadReason(m)}
	if m.ContentType != nil {
		d.ContentType = *m.ContentType
	}
	// The number that it had in its queue, before it died.
	for _, n := range []*int64{m.EnqueuedSequenceNumber, m.SequenceNumber} {
		if n != nil && d.sequence == 0 {
			d.sequence = *n
		}
	}
	raw := m.RawAMQPMessage
	if raw.Properties != nil && d.ID == "" {
		switch id := raw.Properties.MessageID.(type) { // an id need not be a text
		case nil:
		case amqp.UUID:
			d.ID = fmt.Sprint(tolerant.Plain(tolerant.UUID(id)))
		default:
			d.ID = fmt.Sprint(tolerant.Plain(id))
		}
	}
	for name, v := range m.ApplicationProperties {
		if id, ok := v.(amqp.UUID); ok {
			v = tolerant.UUID(id)
		}
		d.Properties[name] = plainProperty(v)
	}
	if o != nil {
		clear(d.Properties)
		for _, p := range o.Properties {
			d.Properties[fmt.Sprint(tolerant.Plain(p.Key))] = plainProperty(p.Value)
		}
	}
	d.setBody(raw.Body, o)
	d.size = len(d.Body)
	return d
}

// plainProperty is a value that may be sent as an application property.
func plainProperty(v any) any {
	switch v.(type) {
	case time.Time, []byte:
		return v
	}
	switch plain := tolerant.Plain(v).(type) {
	case map[string]any, []any:
		text, _ := json.Marshal(plain)
		return string(text)
	default:
		return plain
	}
}

// setBody makes bytes of a body: several parts are one, and a text in an AMQP value
// is the text. Of anything else the content is kept as JSON.
func (d *Dead) setBody(body azservicebus.AMQPAnnotatedMessageBody, o *tolerant.Original) {
	kind, value := tolerant.Data, any(bytes.Join(body.Data, nil))
	switch {
	case o != nil:
		kind, value = o.Kind, o.Body
	case body.Value != nil:
		kind, value = tolerant.Value, body.Value
	case len(body.Sequence) > 0:
		lists := make([]any, len(body.Sequence))
		for i := range lists {
			lists[i] = body.Sequence[i]
		}
		kind, value = tolerant.Sequence, lists
	}
	if id, ok := value.(amqp.UUID); ok {
		value = tolerant.UUID(id)
	}
	switch v := value.(type) {
	case []byte:
		if kind == tolerant.Data {
			d.Body = v
			return
		}
	case string:
		d.Body = []byte(v)
		return
	}
	what := "an AMQP value of type " + tolerant.TypeName(value)
	if kind == tolerant.Sequence {
		what = "an AMQP sequence"
	}
	d.Unreadable = fmt.Sprintf("the body of the message is %s, which a function cannot have; it is kept as JSON. "+
		"Send the document as bytes, or as a text", what)
	text, err := json.MarshalIndent(tolerant.Plain(value), "", "  ")
	if err != nil {
		text = fmt.Appendf(nil, "%v", value)
	}
	d.Body, d.ContentType = text, "application/json"
}

// deadReason says why a message was dead-lettered, in the service's words.
func deadReason(m *azservicebus.ReceivedMessage) string {
	why := "no reason given"
	if m.DeadLetterReason != nil {
		why = *m.DeadLetterReason
	}
	if m.DeadLetterErrorDescription != nil && *m.DeadLetterErrorDescription != "" {
		why = fmt.Sprintf("%s: %s", why, *m.DeadLetterErrorDescription)
	}
	return why
}
