// Package link opens plain AMQP links to Service Bus, for what its client does not offer:
// credit that is withdrawn, messages that are given back without counting a delivery, and
// messages that the client cannot decode.
//
// It decides nothing about a message, and tries nothing again: an error ends the connection.
package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/tolerant"
)

// Times of a link.
const (
	drainTime   = 10 * time.Second // for the answer when the credit is withdrawn
	requestTime = 30 * time.Second // for a request and its answer
)

// Refused is an answer of Service Bus that says no, with a status as in HTTP.
type Refused struct {
	Status int32
	Text   string
}

func (e *Refused) Error() string {
	return fmt.Sprintf("Service Bus refuses: %s (%d)", e.Text, e.Status)
}

// Message is a message as the client read it, and its original form where that differs.
type Message struct {
	*amqp.Message
	Original *tolerant.Original // nil = the message is as the client read it
}

// Conn is a connection that is authorized for one entity, and its management node.
type Conn struct {
	Until   time.Time // the end of its token
	entity  string
	address Address
	wire    *tolerant.Conn
	conn    *amqp.Conn
	session *amqp.Session
	manages bool
}

// Open connects to a namespace and authorizes the connection for an entity: a queue, or the
// dead-letter queue of one.
func Open(ctx context.Context, a Address, entity string) (*Conn, error) {
	wire, err := tolerant.Dial(ctx, a.Host, a.Plain)
	if err != nil {
		return nil, fmt.Errorf("Service Bus cannot be reached: %w", err)
	}
	c := &Conn{entity: entity, address: a, wire: wire}
	if c.conn, err = amqp.NewConn(ctx, wire, &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous(), HostName: a.Host}); err != nil {
		wire.Close()
		return nil, fmt.Errorf("Service Bus does not answer: %w", err)
	}
	if c.session, err = c.conn.NewSession(ctx, nil); err == nil {
		c.Until, err = c.authorize(ctx, entity)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection and its links.
func (c *Conn) Close() { _ = c.conn.Close() }

// authorize puts a token for an entity.
func (c *Conn) authorize(ctx context.Context, entity string) (until time.Time, err error) {
	kind, token, until, err := c.address.makeToken(ctx, entity, time.Now())
	if err != nil {
		return until, err
	}
	_, err = c.request(ctx, "$cbs", map[string]any{
		"operation": "put-token", "type": kind, "name": c.address.audience(entity), "expiration": until,
	}, token)
	return until, err
}

// request sends a request to a node and returns the body of the answer. Its links are opened
// for it, since a connection may have one pair of them to $cbs.
func (c *Conn) request(ctx context.Context, node string, properties map[string]any, body any) (any, error) {
	answers := "answers-" + rand.Text() // as the client does, since others may ask at the same time
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	sender, err := c.session.NewSender(ctx, node, nil)
	if err != nil {
		return nil, err
	}
	defer sender.Close(ctx)
	receiver, err := c.session.NewReceiver(ctx, node, &amqp.ReceiverOptions{TargetAddress: answers, Credit: 1})
	if err != nil {
		return nil, err
	}
	defer receiver.Close(ctx)
	err = sender.Send(ctx, &amqp.Message{
		Value:                 body,
		Properties:            &amqp.MessageProperties{MessageID: "request", ReplyTo: &answers},
		ApplicationProperties: properties,
	}, nil)
	if err != nil {
		return nil, err
	}
	m, err := receiver.Receive(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := receiver.AcceptMessage(ctx, m); err != nil {
		return nil, err
	}
	first := func(names ...string) any {
		for _, name := range names {
			if v := m.ApplicationProperties[name]; v != nil {
				return v
			}
		}
		return nil
	}
	status, _ := first("statusCode", "status-code").(int32)
	if status < 200 || status > 299 {
		return nil, &Refused{status, fmt.Sprint(first("statusDescription", "status-description"))}
	}
	if status == http.StatusNoContent {
		return nil, nil
	}
	if o, ok := c.wire.Take(m.DeliveryTag); ok {
		return o.Body, nil
	}
	return m.Value, nil
}

// Peek returns up to n messages of the entity from a sequence number on, and locks none.
func (c *Conn) Peek(ctx context.Context, from int64, n int) ([]Message, error) {
	node := c.entity + "/$management"
	if !c.manages {
		if _, err := c.authorize(ctx, node); err != nil {
			return nil, err
		}
		c.manages = true
	}
	body, err := c.request(ctx, node, map[string]any{"operation": "com.microsoft:peek-message"},
		map[string]any{"from-sequence-number": from, "message-count": int32(n)})
	if err != nil {
		return nil, err
	}
	list, _ := entry(body, "messages").([]any)
	out := make([]Message, 0, len(list))
	for _, item := range list {
		encoded, ok := entry(item, "message").([]byte)
		if !ok {
			return nil, errors.New("Service Bus answers a look at messages with something else")
		}
		o := tolerant.Mend(encoded)
		m := &amqp.Message{}
		if err := m.UnmarshalBinary(encoded); err != nil {
			return nil, err
		}
		out = append(out, Message{m, o})
	}
	return out, nil
}

// entry is the value of a name in a map, in either form in which maps are read.
func entry(in any, name string) any {
	switch in := in.(type) {
	case map[string]any:
		return in[name]
	case []tolerant.Pair:
		for _, p := range in {
			if p.Key == name {
				return p.Value
			}
		}
	}
	return nil
}

// Receiver takes messages of the entity under their locks. Between calls it has no credit
// unless none came, so that other messages stay for other receivers.
type Receiver struct {
	conn     *Conn
	receiver *amqp.Receiver
	credit   int // messages that the server may still send
}

// Receiver opens a link that receives.
func (c *Conn) Receiver(ctx context.Context) (*Receiver, error) {
	r, err := c.session.NewReceiver(ctx, c.entity, &amqp.ReceiverOptions{Credit: -1, SettlementMode: amqp.ReceiverSettleModeSecond.Ptr()})
	return &Receiver{conn: c, receiver: r}, err
}

// Receive waits for a first message, takes the others that the queue has, at most so many,
// and withdraws the rest of the credit. When none comes in time it returns none, and the
// credit remains. It returns what came beside an error.
func (r *Receiver) Receive(ctx context.Context, most int, wait time.Duration) ([]Message, error) {
	if n := most - r.credit; n > 0 {
		if err := r.receiver.IssueCredit(uint32(n)); err != nil {
			return nil, err
		}
		r.credit = most
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	first, err := r.receiver.Receive(bounded, nil)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
		return nil, err
	}
	more, err := r.drain(context.WithoutCancel(ctx))
	return append([]Message{r.original(first)}, more...), err
}

// drain ends the credit: the server sends the messages that it has, up to the credit, and
// confirms.
func (r *Receiver) drain(ctx context.Context) (got []Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err = r.receiver.DrainCredit(ctx, nil)
	for m := r.receiver.Prefetched(); m != nil; m = r.receiver.Prefetched() {
		got = append(got, r.original(m))
	}
	r.credit = 0
	return got, err
}

func (r *Receiver) original(m *amqp.Message) Message {
	o, _ := r.conn.wire.Take(m.DeliveryTag)
	return Message{m, o}
}

// Complete removes a message from the queue.
func (r *Receiver) Complete(ctx context.Context, m *amqp.Message) error {
	return r.receiver.AcceptMessage(ctx, m)
}

// Abandon gives a message back and counts the delivery.
func (r *Receiver) Abandon(ctx context.Context, m *amqp.Message) error {
	return r.receiver.ModifyMessage(ctx, m, nil)
}

// Release gives a message back. The delivery does not count.
func (r *Receiver) Release(ctx context.Context, m *amqp.Message) error {
	return r.receiver.ReleaseMessage(ctx, m)
}

// Close gives back the messages that came after the last receive, and closes the link.
func (r *Receiver) Close(ctx context.Context) {
	if r.credit > 0 {
		late, _ := r.drain(ctx)
		for _, m := range late {
			_ = r.Release(ctx, m.Message)
		}
	}
	_ = r.receiver.Close(ctx)
}
