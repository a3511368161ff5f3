package bus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/go-amqp"

	"dsvmpools/shared/bus/link"
	"dsvmpools/shared/bus/tolerant"
)

// Times and limits of reading dead letters.
const (
	// deadLetterWait is how long one waits for messages that were seen: another
	// client may hold them.
	deadLetterWait = 2 * time.Second
	// deadLetterMore is how long one waits for more after those that came.
	deadLetterMore = 200 * time.Millisecond
	// atOnce is how many messages are received together.
	atOnce = 100
	// deadLetterBytes bounds what is in memory at a time. The last message may go over
	// it.
	deadLetterBytes = 32 << 20
)

// deadLetterPath, after the name of a queue, names its dead-letter queue.
const deadLetterPath = "/$DeadLetterQueue"

// Dead is a message of a dead-letter queue, as a message that can be sent again:
// its body is one of bytes, whatever it was.
type Dead struct {
	Message
	Reason string // why it is dead, in the service's words
	// Unreadable says why no function can have it, for a person; the body is then its
	// content: bytes as they are, anything else as JSON. "" = one can.
	Unreadable string

	sequence int64
	size     int
}

// DeadLetters hands up to n messages of a queue's dead-letter queue to fn, in the
// order in which they were sent, and completes those that fn has taken: all but
// those whose places fn names with an error. An empty dead-letter queue is no error.
// Nothing is held open between calls.
func (b *Bus) DeadLetters(ctx context.Context, queue string, n int, fn func(ctx context.Context, dead []Dead) map[int]error) error {
	c, err := b.open(ctx, queue+deadLetterPath)
	if err != nil {
		return b.toFault(queue, err)
	}
	defer c.Close()
	// Mostly there is nothing, which a look shows at once; receiving would wait. A look
	// that fails, since it cannot read what is there, shows that there is something.
	if seen, err := c.Peek(ctx, 0, 1); err == nil && len(seen) == 0 {
		return nil
	}
	receiver, err := c.Receiver(ctx)
	if err != nil {
		return b.toFault(queue, err)
	}
	defer closeLink(ctx, receiver)
	var dead []Dead
	var received []*amqp.Message
	for size, wait := 0, deadLetterWait; len(dead) < n && size < deadLetterBytes; wait = deadLetterMore {
		got, failed := receiver.Receive(ctx, min(n-len(dead), atOnce), wait)
		for _, m := range got {
			dead, received = append(dead, newDead(m)), append(received, m.Message)
			size += dead[len(dead)-1].size
		}
		if failed != nil {
			err = b.toFault(queue, failed)
		}
		if failed != nil || len(got) == 0 {
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
		errs = append(errs, receiver.Complete(ctx, received[from]))
	}
	return errors.Join(errs...)
}

// newDead takes over a message.
func newDead(m link.Message) Dead {
	d := Dead{Message: Message{Properties: map[string]any{}}, Reason: deadReason(m)}
	if p := m.Properties; p != nil { // an id need not be a text
		d.ID, d.CorrelationID, d.ContentType = idText(p.MessageID), idText(p.CorrelationID), textOf(p.ContentType)
		d.Subject, d.To, d.ReplyTo = textOf(p.Subject), textOf(p.To), textOf(p.ReplyTo)
		d.ReplyToSessionID, d.SessionID = textOf(p.ReplyToGroupID), textOf(p.GroupID)
	}
	// The number that it had in its queue, before it died.
	d.sequence = cmp.Or(numberIn(m, "x-opt-enqueue-sequence-number"), numberIn(m, sequenceNumber))
	for name, v := range m.ApplicationProperties {
		if id, ok := v.(amqp.UUID); ok {
			v = tolerant.UUID(id)
		}
		d.Properties[name] = plainProperty(v)
	}
	if m.Original != nil {
		clear(d.Properties)
		for _, p := range m.Original.Properties {
			d.Properties[fmt.Sprint(tolerant.Plain(p.Key))] = plainProperty(p.Value)
		}
	}
	d.setBody(m)
	d.size = len(d.Body)
	return d
}

func textOf(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// sequenceNumber is the annotation with the number that a message has in its queue.
const sequenceNumber = "x-opt-sequence-number"

// numberIn is a number of the service about a message; 0 = there is none.
func numberIn(m link.Message, annotation string) int64 {
	n, _ := m.Annotations[annotation].(int64)
	return n
}

// idText is an id of any type as text; "" = there is none.
func idText(id any) string {
	switch id := id.(type) {
	case nil:
		return ""
	case amqp.UUID:
		return fmt.Sprint(tolerant.Plain(tolerant.UUID(id)))
	}
	return fmt.Sprint(tolerant.Plain(id))
}

// plainProperty is a value that may be sent as an application property.
func plainProperty(v any) any {
	switch v := v.(type) {
	case time.Time, []byte:
		return v
	case json.Number:
		return string(v)
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
func (d *Dead) setBody(m link.Message) {
	kind, value := tolerant.Data, any(bytes.Join(m.Data, nil))
	switch o := m.Original; {
	case o != nil:
		kind, value = o.Kind, o.Body
	case m.Value != nil:
		kind, value = tolerant.Value, m.Value
	case len(m.Sequence) > 0:
		lists := make([]any, len(m.Sequence))
		for i := range lists {
			lists[i] = m.Sequence[i]
		}
		kind, value = tolerant.Sequence, lists
	}
	if id, ok := value.(amqp.UUID); ok {
		value = tolerant.UUID(id)
	}
	text, isText := value.(string)
	binary, isBinary := value.([]byte)
	what := "an AMQP value of type " + tolerant.TypeName(value)
	switch {
	case isBinary && kind == tolerant.Data:
		d.Body = binary
		return
	case isText:
		d.Body = []byte(text)
		return
	case isBinary:
		d.Unreadable = unreadable(what, "")
		d.Body = binary
		return
	case kind == tolerant.Sequence:
		what = "an AMQP sequence"
	}
	d.Unreadable = unreadable(what, "it is kept as JSON; ")
	content, err := json.MarshalIndent(tolerant.Plain(value), "", "  ")
	if err != nil {
		content = fmt.Appendf(nil, "%v", value)
	}
	d.Body, d.ContentType = content, "application/json"
}

func unreadable(what, kept string) string {
	return fmt.Sprintf("the body of the message is %s, which a function cannot have; %ssend the document as bytes, or as a text", what, kept)
}

// deadReason says why a message was dead-lettered, in the service's words.
func deadReason(m link.Message) string {
	why := "no reason given"
	if reason, ok := m.ApplicationProperties["DeadLetterReason"].(string); ok {
		why = reason
	}
	if text, ok := m.ApplicationProperties["DeadLetterErrorDescription"].(string); ok && text != "" {
		why = fmt.Sprintf("%s: %s", why, text)
	}
	return why
}
