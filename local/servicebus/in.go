package servicebus

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// linkCredit is how many deliveries a client may have under way on a link.
const linkCredit = 1000

// Bounds of the deliveries in one commit.
const (
	gatherDeliveries = 256
	gatherBytes      = 4 << 20
)

// backlogBytes is how much a client may have sent on a link before it is stored.
// Above it the server does not read the connection; the credit alone would allow
// linkCredit messages of the largest size.
const backlogBytes = 16 << 20

// batchSlack is how many bytes a batch may be larger than the limit of its link. Clients
// fill a batch up to the limit and do not count all bytes of its envelope, which has the
// annotations and properties of the first message.
const batchSlack = 4 << 10

// batchFormat marks a delivery that holds several messages.
const batchFormat = 0x80013700

// inLink is a link on which the client sends.
type inLink struct {
	session *session
	handle  uint32
	name    string
	take    func(*inLink, []delivery)
	entity  *entity // nil for $cbs and $management
	limit   int     // bytes of a delivery

	partial    *delivery // being received in several frames; reader only
	count      uint32    // deliveries so far; reader only
	granted    uint32    // up to this count the client has credit; reader only
	deliveries chan delivery

	mu     sync.Mutex
	space  *sync.Cond
	bytes  int // waiting in deliveries
	closed bool
	forced bool // ended from this side; later frames are dropped
}

// delivery is one delivery of a client.
type delivery struct {
	id      uint32
	format  uint32
	settled bool
	payload []byte
}

// transfer takes in one frame of a delivery.
func (l *inLink) transfer(f amqp.Frame) error {
	if l.isForced() {
		return nil
	}
	d := l.partial
	if d == nil {
		id, ok := amqp.Field[uint32](f.Fields, 1)
		if !ok {
			return fmt.Errorf("%w: a delivery without an id", amqp.ErrMalformed)
		}
		d = &delivery{id: id, format: amqp.FieldOr(f.Fields, 3, uint32(0)), settled: amqp.FieldOr(f.Fields, 4, false)}
	}
	switch {
	case d.payload == nil:
		d.payload = f.Payload // most come in one frame, and the frame owns its memory
	case len(d.payload) <= l.limit+batchSlack: // a larger one is refused, so its bytes are not needed
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
	l.mu.Lock()
	for l.bytes > backlogBytes {
		l.space.Wait()
	}
	l.bytes += len(d.payload)
	l.mu.Unlock()
	l.deliveries <- *d // has room for the whole credit
	if l.granted-l.count < linkCredit/2 {
		l.topUpCredit()
	}
	return nil
}

// topUpCredit gives the client new credit for the free places.
func (l *inLink) topUpCredit() {
	if l.isForced() {
		return
	}
	l.granted = l.count + uint32(linkCredit-len(l.deliveries))
	l.session.sendFlow(l.handle, l.count, l.granted-l.count)
}

// handleDeliveries handles deliveries, as many at a time as have gathered.
func (l *inLink) handleDeliveries() {
	for first := range l.deliveries {
		group, size := append(make([]delivery, 0, 8), first), len(first.payload)
	more:
		for len(group) < gatherDeliveries && size < gatherBytes {
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
		l.mu.Lock()
		l.bytes -= size
		l.space.Signal()
		l.mu.Unlock()
	}
}

func (l *inLink) close() (notify bool) {
	if l.closed { // by the reader only, as is its use
		return false
	}
	l.closed = true
	close(l.deliveries)
	l.entity.removeLink(l)
	c := l.session.conn
	c.mu.Lock()
	if c.cbs[false] == l {
		delete(c.cbs, false)
	}
	c.mu.Unlock()
	return !l.isForced()
}

// force ends the link from this side.
func (l *inLink) force(condition, description string) {
	l.mu.Lock()
	again := l.forced
	l.forced = true
	l.mu.Unlock()
	if !again {
		l.session.conn.send(l.session.channel, amqp.Composite(amqp.CodeDetach, l.handle, true, amqpError(condition, description)))
	}
}

func (l *inLink) isForced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forced
}

// sendOutcome sends the client the outcome of deliveries; consecutive ones share a
// frame.
func (l *inLink) sendOutcome(ds []delivery, state amqp.Described) {
	for from := 0; from < len(ds); {
		to := from + 1
		for to < len(ds) && ds[to].id == ds[to-1].id+1 && ds[to].settled == ds[from].settled {
			to++
		}
		if !ds[from].settled {
			l.session.conn.send(l.session.channel, amqp.Composite(amqp.CodeDisposition, true, ds[from].id, ds[to-1].id, true, state))
		}
		from = to
	}
}

// storeDeliveries stores deliveries in one commit, and answers each.
func (l *inLink) storeDeliveries(group []delivery) {
	srv, e := l.session.conn.srv, l.entity
	var all []queue.New
	taken := make([]delivery, 0, len(group))
	lose := false
	for _, d := range group {
		messages, refusal := readMessages(e, d, l.limit)
		if refusal == nil && !srv.rates.spendOn(ofSends, len(messages)) {
			refusal = busyState(srv)
		}
		if refusal == nil && srv.cfg.Chaos != nil {
			var gone bool
			if gone, lose, refusal = l.injectFailure(lose); gone {
				return
			}
		}
		if refusal != nil {
			l.sendOutcome([]delivery{d}, *refusal)
			continue
		}
		all = append(all, messages...)
		taken = append(taken, d)
	}
	if len(taken) == 0 {
		return
	}
	_, err := e.queue.Send(all...)
	if lose {
		l.session.conn.disconnect()
		return
	}
	if errors.Is(err, queue.ErrGone) {
		l.sendOutcome(taken, rejected("amqp:not-found", "The messaging entity '"+e.name+"' could not be found."))
		return
	}
	if err != nil {
		srv.log.Error("storing messages failed", "queue", e.name, "error", err)
		l.sendOutcome(taken, rejected("amqp:internal-error", "the message could not be stored"))
		return
	}
	e.touch(srv.now())
	srv.sent.Add(int64(len(all)))
	l.sendOutcome(taken, accepted)
}

// injectFailure does what an injection says about a delivery. gone: the link has
// ended. lose: the connection ends after the delivery is stored.
func (l *inLink) injectFailure(lost bool) (gone, lose bool, refusal *amqp.Described) {
	c := l.session.conn
	switch o := c.srv.decideFailure(atSend, l.entity.name, chaos.Refuse, chaos.Throttle, chaos.Detach, chaos.Disconnect, chaos.Lose); o.Do {
	case chaos.Refuse:
		r := rejected(condition(o, "amqp:internal-error"), injected)
		refusal = &r
	case chaos.Throttle:
		refusal = busyState(c.srv)
	case chaos.Detach:
		l.force(condition(o, forcedDetach), injected)
		return true, false, nil
	case chaos.Disconnect:
		c.disconnect()
		return true, false, nil
	case chaos.Lose:
		lost = true
	}
	return false, lost, refusal
}

// busyState is the refusal of a delivery in a throttled namespace.
func busyState(s *Server) *amqp.Described {
	r := rejected(busyCondition, s.busy())
	return &r
}

// readMessages reads the messages of a delivery, or returns why it is refused.
func readMessages(e *entity, d delivery, limit int) ([]queue.New, *amqp.Described) {
	refuse := func(condition, format string, args ...any) ([]queue.New, *amqp.Described) {
		r := rejected(condition, fmt.Sprintf(format, args...))
		return nil, &r
	}
	if d.format == batchFormat {
		limit = min(limit, maxPremiumBatch) + batchSlack
	}
	if len(d.payload) > limit {
		if d.format == batchFormat {
			limit -= batchSlack
		}
		return refuse(
			tooLarge,
			"The received message (delivery-id:%d, size:%d bytes) exceeds the limit (%d bytes) currently allowed on the link.",
			d.id,
			len(d.payload),
			limit,
		)
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
		n, condition, why := checkMessage(e, m, raw)
		if why != "" {
			return refuse(condition, "%s", why)
		}
		out = append(out, n)
	}
	return out, nil
}

// Refusals that clients and their tests know by the text.
const (
	noSessionID = "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have session " +
		"support enabled can only receive messages that have the SessionId set to a valid value."
	tooLarge    = "amqp:link:message-size-exceeded"
	badArgument = "com.microsoft:argument-error"
)

// farAhead is the latest time for which a message is scheduled. Together with the
// longest life of a message it still fits into nanoseconds.
var farAhead = time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)

// checkMessage checks one message against the limits of the service.
func checkMessage(e *entity, m *amqp.Message, raw []byte) (n queue.New, condition, why string) {
	n.Raw, n.TTL = raw, m.Header.TTL
	session, inSession := m.SessionID()
	if e.sessions {
		n.SessionID, n.HasSession = session, inSession
	}
	id := m.ID()
	text, _ := id.(string)
	partition, _ := m.Annotations.Get("x-opt-partition-key").(string)
	switch {
	case utf8.RuneCountInString(partition) > maxIDLength:
		return n, badArgument, fmt.Sprintf("the partition key is longer than %d characters", maxIDLength)
	case partition != "" && inSession && partition != session:
		return n, badArgument, "the partition key of a message in a session is the session's id"
	case m.PropertyBytes() > maxPropertyBytes:
		return n, tooLarge, fmt.Sprintf("the properties are larger than %d bytes", maxPropertyBytes)
	case m.Application.Largest() > maxPropertySize:
		return n, tooLarge, fmt.Sprintf("a property is larger than %d bytes", maxPropertySize)
	case utf8.RuneCountInString(text) > maxIDLength:
		return n, badArgument, fmt.Sprintf("the message id is longer than %d characters", maxIDLength)
	case utf8.RuneCountInString(session) > maxIDLength:
		return n, badArgument, fmt.Sprintf("the session id is longer than %d characters", maxIDLength)
	case e.sessions && !inSession:
		return n, "amqp:not-allowed", noSessionID
	}
	if at, ok := m.Annotations.Get("x-opt-scheduled-enqueue-time").(time.Time); ok {
		n.ScheduledAt = at
		if at.After(farAhead) {
			n.ScheduledAt = farAhead
		}
	}
	if id == nil {
		m.SetID(uuid.NewString())
		n.Raw = m.Append(make([]byte, 0, len(raw)+idRoom))
	}
	if e.once && id != nil {
		n.ID = fmt.Sprint(id)
		if e.partitioned {
			n.ID = partition + "\x00" + n.ID
		}
	}
	return n, "", ""
}

// idRoom is the size in bytes of an id that the server gives.
const idRoom = 64
