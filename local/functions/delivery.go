package functions

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/invoke"
)

// delivery is a message that is locked for this host.
type delivery struct {
	invoke.Delivery
	handle any           // the message in the form of its source
	kind   tolerant.Kind // of its body
	isText bool          // an AMQP value that is a string
}

// checkBinding returns an error if a message's body cannot be converted to the type that
// the function wants. Such a message fails its whole batch.
func (d *delivery) checkBinding(binary bool) error {
	switch {
	case d.kind == tolerant.Data, d.isText && !binary:
		return nil
	case binary:
		return fmt.Errorf("the body of message %q is no data section and cannot be bound to bytes", d.ID)
	}
	return fmt.Errorf("the body of message %q is an AMQP sequence or value and cannot be bound to a string", d.ID)
}

// errUnbound fails an invocation that is not sent to the handler.
var errUnbound = errors.New("the handler was not called")

// newDelivery copies the fields of a message that an invocation contains. o is the
// original form of the message, or nil.
func newDelivery(m *amqp.Message, o *tolerant.Original) *delivery {
	d := &delivery{handle: m}
	setBody(d, m.Data, m.Value, m.Sequence, o)
	if h := m.Header; h != nil {
		d.DeliveryCount = int(h.DeliveryCount)
	}
	d.DeliveryCount++
	if p := m.Properties; p != nil {
		d.ID, d.CorrelationID = nameOf(p.MessageID), nameOf(p.CorrelationID)
		d.ContentType, d.Subject, d.SessionID = value(p.ContentType), value(p.Subject), value(p.GroupID)
		d.To, d.ReplyTo, d.ReplyToSessionID = value(p.To), value(p.ReplyTo), value(p.ReplyToGroupID)
	}
	if d.Properties = plainProperties(m.ApplicationProperties); o != nil {
		setProperties(d, o)
	}
	at := func(name string) time.Time { t, _ := m.Annotations[name].(time.Time); return t }
	text := func(name string) string { s, _ := m.Annotations[name].(string); return s }
	d.EnqueuedAt, d.LockedUntil = at("x-opt-enqueued-time"), at("x-opt-locked-until")
	d.SequenceNumber, _ = m.Annotations["x-opt-sequence-number"].(int64)
	d.PartitionKey, d.DeadLetterSource = text("x-opt-partition-key"), text("x-opt-deadletter-source")
	if h := m.Header; h != nil && h.TTL > 0 {
		d.ExpiresAt = d.EnqueuedAt.Add(h.TTL)
	}
	if len(m.DeliveryTag) == 16 {
		d.LockToken = guid(m.DeliveryTag)
	}
	return d
}

// guid returns the text of 16 bytes in the order of .NET.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:])
}

// nameOf returns an id of any type as text.
func nameOf(id any) string {
	switch id := id.(type) {
	case nil:
		return ""
	case amqp.UUID:
		return fmt.Sprint(tolerant.Plain(tolerant.UUID(id)))
	}
	return fmt.Sprint(tolerant.Plain(id))
}

func setBody(d *delivery, data [][]byte, single any, lists [][]any, o *tolerant.Original) {
	if o != nil {
		d.kind = o.Kind
		text, isText := o.Body.(string)
		d.isText = isText && o.Kind == tolerant.Value
		if b, ok := o.Body.([]byte); ok && o.Kind == tolerant.Data {
			d.Body = b
		} else if d.isText {
			d.Body = []byte(text)
		}
		return
	}
	switch text, isText := single.(string); {
	case isText:
		d.kind, d.isText, d.Body = tolerant.Value, true, []byte(text)
	case single != nil:
		d.kind = tolerant.Value
	case len(lists) > 0:
		d.kind = tolerant.Sequence
	default:
		for _, part := range data { // several parts are one body
			d.Body = append(d.Body, part...)
		}
	}
}

func setProperties(d *delivery, o *tolerant.Original) {
	d.Properties = make(map[string]any, len(o.Properties))
	for _, p := range o.Properties {
		d.Properties[fmt.Sprint(tolerant.Plain(p.Key))] = toHostForm(p.Value)
	}
}

// toHostForm returns a property in the form that the host sends: a decimal is a number.
func toHostForm(v any) any {
	if n, ok := v.(tolerant.Decimal); ok {
		return number(fmt.Sprint(tolerant.Plain(n)))
	}
	return tolerant.Plain(v)
}

// number is a text that is written into JSON unchanged.
type number string

// MarshalJSON writes the number; values that JSON does not have are in quotes.
func (n number) MarshalJSON() ([]byte, error) {
	if n == "NaN" || n == "Infinity" || n == "-Infinity" {
		return []byte(`"` + string(n) + `"`), nil
	}
	return []byte(n), nil
}

// plainProperties converts properties from the client's types to the forms of the host.
func plainProperties(in map[string]any) map[string]any {
	out := make(map[string]any, len(in))
	for name, v := range in {
		if id, ok := v.(amqp.UUID); ok {
			v = tolerant.UUID(id)
		}
		out[name] = tolerant.Plain(v)
	}
	return out
}

// convert is newDelivery for a message of the Service Bus client.
func convert(m *azservicebus.ReceivedMessage, o *tolerant.Original) *delivery {
	raw := m.RawAMQPMessage
	d := &delivery{handle: m, Delivery: invoke.Delivery{
		Message: invoke.Message{ID: m.MessageID, ContentType: value(m.ContentType), Subject: value(m.Subject),
			To: value(m.To), ReplyTo: value(m.ReplyTo), ReplyToSessionID: value(m.ReplyToSessionID),
			CorrelationID: value(m.CorrelationID), SessionID: value(m.SessionID), SequenceNumber: value(m.SequenceNumber),
			DeliveryCount: int(m.DeliveryCount), EnqueuedAt: value(m.EnqueuedTime), Properties: plainProperties(m.ApplicationProperties)},
		LockToken:        fmt.Sprintf("%x-%x-%x-%x-%x", m.LockToken[:4], m.LockToken[4:6], m.LockToken[6:8], m.LockToken[8:10], m.LockToken[10:]),
		PartitionKey:     value(m.PartitionKey),
		DeadLetterSource: value(m.DeadLetterSource), LockedUntil: value(m.LockedUntil),
	}}
	setBody(d, raw.Body.Data, raw.Body.Value, raw.Body.Sequence, o)
	if raw.Properties != nil {
		d.ID, d.CorrelationID = nameOf(raw.Properties.MessageID), nameOf(raw.Properties.CorrelationID)
	}
	if o != nil {
		setProperties(d, o)
	}
	if ttl := value(m.TimeToLive); ttl > 0 {
		d.ExpiresAt = d.EnqueuedAt.Add(ttl)
	}
	return d
}

func value[T any](p *T) T {
	var v T
	if p != nil {
		v = *p
	}
	return v
}
