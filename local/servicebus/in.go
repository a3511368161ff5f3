package servicebus

import (
	"fmt"
	"sync"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// linkCredit is how many deliveries a client may have under way on a link.
const linkCredit = 1000

// gather bounds the deliveries that one commit takes in, by number and by size.
const (
	gatherMessages = 256
	gatherBytes    = 4 << 20
)

// batchFormat marks a delivery that holds several messages.
const batchFormat = 0x80013700

// inLink is a link on which the client sends.
type inLink struct {
	session *session
	handle  uint32
	name    string
	take    func(*inLink, []delivery)

	partial    *delivery // being received in several frames; reader only
	count      uint32    // deliveries so far; reader only
	granted    uint32    // up to this count the client has credit; reader only
	deliveries chan delivery

	once sync.Once
}

// delivery is what a client has sent.
type delivery struct {
	id      uint32
	format  uint32
	settled bool
	payload []byte
}

// transfer takes in one frame of a delivery.
func (l *inLink) transfer(f amqp.Frame) error {
	d := l.partial
	if d == nil {
		id, ok := amqp.Field[uint32](f.Fields, 1)
		if !ok {
			return fmt.Errorf("%w: a delivery without an id", amqp.ErrMalformed)
		}
		d = &delivery{id: id, format: amqp.FieldOr(f.Fields, 3, uint32(0)), settled: amqp.FieldOr(f.Fields, 4, false)}
	}
	if len(d.payload) <= maxMessageSize { // beyond that it will be refused; it need not be kept
		d.payload = append(d.payload, f.Payload...)
	}
	if amqp.FieldOr(f.Fields, 5, false) {
		l.partial = d
		return nil
	}
	l.partial = nil
	if amqp.FieldOr(f.Fields, 9, false) {
		return nil // aborted
	}
	if l.count == l.granted {
		return fmt.Errorf("%w: a delivery beyond the link's credit", amqp.ErrMalformed)
	}
	l.count++
	l.deliveries <- *d // has room for all the credit there is
	if l.granted-l.count < linkCredit/2 {
		l.top()
	}
	return nil
}

// top gives the client credit again, as far as there is room for it.
func (l *inLink) top() {
	l.granted = l.count + uint32(linkCredit-len(l.deliveries))
	l.session.sendFlow([]any{l.handle, l.count, l.granted - l.count})
}

// work hands deliveries on, as many at a time as have gathered.
func (l *inLink) work() {
	for first := range l.deliveries {
		group, size := append(make([]delivery, 0, 8), first), len(first.payload)
	more:
		for len(group) < gatherMessages && size < gatherBytes {
			select {
			case d, ok := <-l.deliveries:
				if !ok {
					break more
				}
				group, size = append(group, d), size+len(d.payload)
			default:
				break more
			}
		}
		l.take(l, group)
	}
}

func (l *inLink) close() { l.once.Do(func() { close(l.deliveries) }) }

// settled tells the client what became of a delivery.
func (l *inLink) settled(d delivery, state amqp.Described) {
	if !d.settled {
		l.session.conn.send(l.session.channel, amqp.Composite(amqp.CodeDisposition, true, d.id, d.id, true, state))
	}
}

// enqueue stores deliveries with one commit, and answers each.
func (l *inLink) enqueue(q *queue.Queue, group []delivery) {
	var all []queue.New
	taken := group[:0]
	for _, d := range group {
		messages, refusal := read(q, d)
		if refusal != nil {
			l.settled(d, *refusal)
			continue
		}
		all = append(all, messages...)
		taken = append(taken, d)
	}
	if len(taken) == 0 {
		return
	}
	if _, err := q.Send(all...); err != nil {
		l.session.conn.srv.log.Error("messages could not be stored", "queue", q.Name(), "error", err)
		for _, d := range taken {
			l.settled(d, rejected("amqp:internal-error", "the message could not be stored"))
		}
		return
	}
	l.session.conn.srv.sent.Add(int64(len(all)))
	for _, d := range taken {
		l.settled(d, accepted)
	}
}

// read makes messages of a delivery, or says why it is refused.
func read(q *queue.Queue, d delivery) ([]queue.New, *amqp.Described) {
	refuse := func(condition, format string, args ...any) ([]queue.New, *amqp.Described) {
		r := rejected(condition, fmt.Sprintf(format, args...))
		return nil, &r
	}
	if len(d.payload) > maxMessageSize {
		return refuse("amqp:link:message-size-exceeded", "the message is larger than %d bytes", maxMessageSize)
	}
	encoded := [][]byte{d.payload}
	if d.format == batchFormat {
		envelope, err := amqp.ParseMessage(d.payload)
		if err == nil {
			encoded, err = envelope.Batch()
		}
		if err != nil {
			return refuse("amqp:decode-error", "%v", err)
		}
	}
	out := make([]queue.New, 0, len(encoded))
	for _, raw := range encoded {
		m, err := amqp.ParseMessage(raw)
		if err != nil {
			return refuse("amqp:decode-error", "%v", err)
		}
		n, condition, why := admit(q, m, raw)
		if why != "" {
			return refuse(condition, "%s", why)
		}
		out = append(out, n)
	}
	return out, nil
}

// admit checks one message against the service's limits.
func admit(q *queue.Queue, m *amqp.Message, raw []byte) (n queue.New, condition, why string) {
	n.Raw, n.TTL = raw, m.TTL
	n.SessionID, n.HasSession = m.SessionID()
	n.HasSession = n.HasSession && q.Options().Sessions
	id := m.ID()
	switch {
	case m.PropertyBytes() > maxPropertyBytes:
		return n, "amqp:link:message-size-exceeded", fmt.Sprintf("the properties are larger than %d bytes", maxPropertyBytes)
	case len(id) > maxIDLength:
		return n, "com.microsoft:argument-error", fmt.Sprintf("the message id is longer than %d characters", maxIDLength)
	case len(n.SessionID) > maxIDLength:
		return n, "com.microsoft:argument-error", fmt.Sprintf("the session id is longer than %d characters", maxIDLength)
	case q.Options().Sessions && !n.HasSession:
		return n, "amqp:not-allowed", "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have session support enabled can only receive messages that have the SessionId set to a valid value."
	}
	if at, ok := m.Annotations.Get("x-opt-scheduled-enqueue-time").(time.Time); ok {
		n.ScheduledAt = at
	}
	if id == "" {
		m.SetID(newMessageID())
		n.Raw = m.Append(nil)
	}
	return n, "", ""
}
