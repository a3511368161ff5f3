package servicebus

import (
	"errors"
	"slices"
	"sync"

	"dsvmpools/local/fault"
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"

	"github.com/google/uuid"
)

// takeAtOnce bounds what a receiver is handed in one go, so that one with much
// credit does not lock messages long before it can send them.
const takeAtOnce = 100

// maxAnswers bounds the answers that wait for a client to fetch them.
const maxAnswers = 1000

// settledMode is the sender-settle-mode of receive-and-delete.
const settledMode = uint8(1)

// outLink is a link on which the client receives.
type outLink struct {
	session *session
	handle  uint32
	name    string
	remove  bool // receive-and-delete
	queue   *queue.Queue
	entity  *entity // nil for $cbs and $management
	wake    chan struct{}
	done    chan struct{}

	ended bool // the client was told, or has said so itself; guarded by session.mu

	mu       sync.Mutex
	receiver *queue.Receiver
	answers  [][]byte // of $cbs and $management
	limit    uint32   // up to this delivery count the client has credit
	count    uint32   // deliveries so far
	drain    bool
	echo     bool
	closed   bool
}

func newOutLink(s *session, a attachment) *outLink {
	return &outLink{session: s, handle: a.handle, name: a.name, remove: a.snd == settledMode, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// grant takes in the credit a client gives: credit deliveries beyond count.
func (l *outLink) grant(count, credit uint32, drain, echo bool) {
	l.mu.Lock()
	l.limit, l.drain, l.echo = count+credit, drain, echo
	l.mu.Unlock()
	l.rouse()
}

func (l *outLink) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// credit is the number of deliveries the client takes now.
func (l *outLink) credit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(int(int32(l.limit-l.count)), 0)
}

func (l *outLink) spend() {
	l.mu.Lock()
	l.count++
	l.mu.Unlock()
}

// adopt gives the link its receiver; false when the client has left.
func (l *outLink) adopt(r *queue.Receiver) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.receiver = r
	if l.queue.Options().Sessions {
		l.session.conn.mu.Lock()
		l.session.conn.held[l] = struct{}{}
		l.session.conn.mu.Unlock()
	}
	return true
}

// close ends the link. A session is given back; other locks stay until they
// run out, as the client may still settle by management.
func (l *outLink) close() (tell bool) {
	l.session.mu.Lock()
	tell, l.ended = !l.ended, true
	l.session.space.Broadcast()
	l.session.mu.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return tell
	}
	l.closed = true
	receiver := l.receiver
	l.mu.Unlock()
	close(l.done)
	l.entity.detached(l)
	if receiver != nil {
		receiver.Close()
	}
	c := l.session.conn
	c.mu.Lock()
	delete(c.held, l)
	if c.cbs[true] == l {
		delete(c.cbs, true)
	}
	for name, in := range c.inbox {
		if in == l {
			delete(c.inbox, name)
		}
	}
	c.mu.Unlock()
	return tell
}

// deliverLoop sends messages as long as there is credit and there are any.
func (l *outLink) deliverLoop() {
	for {
		if n := l.credit(); n > 0 {
			messages, err := l.receiver.Take(min(n, takeAtOnce))
			if err != nil {
				l.detach(err)
				return
			}
			if messages = l.faulty(messages); !l.deliver(messages) {
				return
			}
			if len(messages) > 0 {
				continue
			}
		}
		l.drained()
		l.echoed()
		select {
		case <-l.receiver.C:
			if l.credit() > 0 {
				continue
			}
			if err := l.receiver.Pass(); err != nil {
				l.detach(err)
				return
			}
		case <-l.wake:
		case <-l.done:
			return
		}
	}
}

// deliver sends messages. Those that do not go out any more are given back.
func (l *outLink) deliver(messages []*queue.Message) bool {
	for i, m := range messages {
		payload, err := encodeMessage(m, !l.remove)
		if err != nil {
			l.session.conn.srv.log.Error("a stored message cannot be read", "queue", l.queue.Name(), "number", m.Seq, "error", err)
			l.queue.Settle([]queue.Settlement{{Token: m.Token, Outcome: queue.DeadLetter}})
			continue
		}
		var token *queue.Token
		if !l.remove {
			token = &m.Token
		}
		l.spend()
		if !l.session.deliver(l, dotNet(m.Token), token, payload) {
			back := make([]queue.Settlement, 0, len(messages)-i)
			for _, m := range messages[i:] {
				back = append(back, queue.Settlement{Token: m.Token, Outcome: queue.Release})
			}
			l.queue.Settle(back)
			return false
		}
		l.session.conn.srv.delivered.Add(1)
	}
	return true
}

// drained answers a client that asked to have its credit used up.
func (l *outLink) drained() {
	l.mu.Lock()
	drain := l.drain
	if drain {
		l.count, l.drain, l.echo = l.limit, false, false
	}
	count := l.count
	l.mu.Unlock()
	if drain {
		l.session.sendFlow(l.handle, count, uint32(0), nil, true)
	}
}

// echoed answers a client that asked how the link stands.
func (l *outLink) echoed() {
	l.mu.Lock()
	echo, count, credit := l.echo, l.count, l.limit-l.count
	l.echo = false
	l.mu.Unlock()
	if echo {
		l.session.sendFlow(l.handle, count, credit)
	}
}

// detach ends the link from this side, with the reason.
func (l *outLink) detach(err error) {
	condition, description := "amqp:internal-error", err.Error()
	switch {
	case errors.Is(err, queue.ErrCancelled): // the client has left
		return
	case errors.Is(err, queue.ErrLockLost):
		condition, description = sessionLost, "The session lock has expired on the MessageSession. Accept a new MessageSession."
	case errors.Is(err, queue.ErrClosed):
		condition, description = "amqp:connection:forced", "the server is stopping"
	case errors.Is(err, queue.ErrGone):
		condition, description = "amqp:not-found", "The messaging entity '"+l.queue.Name()+"' could not be found."
	}
	l.force(condition, description)
}

// force ends the link from this side.
func (l *outLink) force(condition, description string) {
	if l.close() {
		l.session.conn.send(l.session.channel, amqp.Composite(amqp.CodeDetach, l.handle, true, amqpError(condition, description)))
	}
}

// faulty waits for the credits of messages, and carries out what is to go wrong
// with their delivery. It returns those that are to be delivered.
func (l *outLink) faulty(messages []*queue.Message) []*queue.Message {
	c := l.session.conn
	for len(messages) > 0 && !c.srv.rates.spend(len(messages)) {
		c.srv.pause(c.srv.rates.untilNext())
	}
	if c.srv.cfg.Faults == nil {
		return messages
	}
	for i := range messages {
		switch o := c.srv.decide(atReceive, l.entity.name, fault.Detach, fault.Disconnect, fault.Lose); o.Do {
		case fault.Detach:
			l.force(condition(o, forcedDetach), injected)
		case fault.Disconnect:
			c.cut()
			<-l.done // then nothing goes out any more, and what was taken is given back
		case fault.Lose: // it stays locked, or is gone, and the client never saw it
			c.cut()
			<-l.done
			return slices.Delete(messages, i, i+1)
		}
	}
	return messages
}

// encodeMessage is a message as it goes to a receiver: what the sender encoded,
// with the server's annotations.
func encodeMessage(m *queue.Message, locked bool) ([]byte, error) {
	p, err := amqp.ParseMessage(m.Raw)
	if err != nil {
		return nil, err
	}
	p.Header.DeliveryCount, p.Header.Present = m.DeliveryCount, true
	if ttl := m.Expires.Sub(m.Enqueued); !m.Expires.IsZero() && m.State != queue.Scheduled {
		p.Header.TTL = ttl // the queue's own may be shorter than the sender's
	}
	set := make([]amqp.Pair, 0, 6)
	add := func(name amqp.Symbol, value any) { set = append(set, amqp.Pair{Key: name, Value: value}) }
	add("x-opt-sequence-number", m.Seq)
	add("x-opt-enqueued-time", m.Enqueued)
	if locked && !m.LockedUntil.IsZero() {
		add("x-opt-locked-until", m.LockedUntil)
	}
	if m.State != queue.Active {
		add("x-opt-message-state", int32(m.State))
	}
	if m.EnqueuedSeq != 0 {
		add("x-opt-enqueue-sequence-number", m.EnqueuedSeq)
	}
	if m.DeadFrom != "" {
		add("x-opt-deadletter-source", m.DeadFrom)
	}
	if p.Annotations.Get(hopsName) != nil {
		p.Annotations = p.Annotations.Without(hopsName)
	}
	p.Annotations = p.Annotations.With(set...)
	if locked {
		p.DeliveryAnnotations = p.DeliveryAnnotations.With(amqp.Pair{Key: amqp.Symbol("x-opt-lock-token"), Value: amqp.UUID(m.Token)})
	}
	const added = 256 // a guess at what the annotations take
	return p.Append(make([]byte, 0, len(m.Raw)+added)), nil
}

// dotNet is a token in the byte order of a .NET GUID: the first three groups
// little-endian. Applied twice it gives the token back.
func dotNet(t [16]byte) []byte {
	return []byte{t[3], t[2], t[1], t[0], t[5], t[4], t[7], t[6], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]}
}

// settlement reads a terminal state.
func settlement(token queue.Token, state amqp.Described) queue.Settlement {
	fields, _ := state.Value.(amqp.List)
	out := queue.Settlement{Token: token, Outcome: queue.Complete}
	switch state.Code {
	case amqp.CodeReleased:
		out.Outcome = queue.Release
	case amqp.CodeModified:
		out.Outcome = queue.Abandon
		if amqp.FieldOr(fields, 1, false) {
			out.Outcome = queue.Defer
		}
		set, _ := amqp.Field[amqp.Map](fields, 2)
		out.Edit = setProperties(set)
	case amqp.CodeRejected:
		out.Outcome = queue.DeadLetter
		cause, _ := amqp.Field[amqp.Described](fields, 0)
		list, _ := cause.Value.(amqp.List)
		set, _ := amqp.Field[amqp.Map](list, 2)
		out.Edit = setProperties(set)
	}
	return out
}

// sessionLost is the error of a session whose lock has ended.
const sessionLost = "com.microsoft:session-lock-lost"

// answerState is what a client is told of its settlement.
func (l *outLink) answerState(state amqp.Described, err error) amqp.Described {
	switch {
	case errors.Is(err, queue.ErrLockLost) && l.queue.Options().Sessions:
		return rejected(sessionLost, "The session lock was lost. Request a new session receiver.")
	case errors.Is(err, queue.ErrLockLost):
		return rejected("com.microsoft:message-lock-lost", "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.")
	case err != nil:
		return rejected("amqp:internal-error", err.Error())
	}
	l.session.conn.srv.settled.Add(1)
	switch state.Code {
	case amqp.CodeRejected:
		return amqp.Composite(amqp.CodeRejected) // an error inside would be taken for a failure
	case amqp.CodeReleased, amqp.CodeModified:
		return state
	}
	return accepted
}

// answerLoop sends the answers of $cbs and $management as credit allows.
func (l *outLink) answerLoop() {
	for {
		l.mu.Lock()
		var payload []byte
		if len(l.answers) > 0 && int32(l.limit-l.count) > 0 {
			payload = l.answers[0]
			l.answers = l.answers[1:]
			l.count++
		}
		l.mu.Unlock()
		if payload != nil {
			tag := uuid.New()
			if !l.session.deliver(l, tag[:], nil, payload) {
				return
			}
			continue
		}
		l.drained()
		l.echoed()
		select {
		case <-l.wake:
		case <-l.done:
			return
		}
	}
}

// answer queues a reply; a client that fetches none of many loses the rest.
func (l *outLink) answer(payload []byte) {
	l.mu.Lock()
	if len(l.answers) < maxAnswers {
		l.answers = append(l.answers, payload)
	}
	l.mu.Unlock()
	l.rouse()
}
