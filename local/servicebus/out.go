package servicebus

import (
	"errors"
	"sync"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"

	"github.com/google/uuid"
)

// takeAtOnce bounds what a receiver is handed in one go, so that one with much
// credit does not lock messages long before it can send them.
const takeAtOnce = 100

// settledMode is the sender-settle-mode of receive-and-delete.
const settledMode = uint8(1)

// outLink is a link on which the client receives.
type outLink struct {
	session *session
	handle  uint32
	name    string
	remove  bool // receive-and-delete
	queue   *queue.Queue
	answers chan []byte // for $cbs and $management
	wake    chan struct{}
	done    chan struct{}

	mu     sync.Mutex
	held   *queue.Session
	limit  uint32 // up to this delivery count the client has credit
	count  uint32 // deliveries so far
	drain  bool
	closed bool
}

func newOutLink(s *session, a attachment) *outLink {
	return &outLink{session: s, handle: a.handle, name: a.name, remove: a.snd == settledMode,
		answers: make(chan []byte, linkCredit), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// grant takes in the credit a client gives: credit deliveries beyond count.
func (l *outLink) grant(count, credit uint32, drain bool) {
	l.mu.Lock()
	l.limit, l.drain = count+credit, drain
	l.mu.Unlock()
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

// adopt gives the link its session; false when the client has left.
func (l *outLink) adopt(s *queue.Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.held = s
	l.session.conn.mu.Lock()
	l.session.conn.held[l] = struct{}{}
	l.session.conn.mu.Unlock()
	return true
}

// close ends the link. A session is given back; other locks stay until they
// run out, as the client may still settle by management.
func (l *outLink) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	held := l.held
	l.mu.Unlock()
	close(l.done)
	if held != nil {
		l.queue.ReleaseSession(held, l)
	}
	l.session.conn.mu.Lock()
	delete(l.session.conn.held, l)
	for name, in := range l.session.conn.inbox {
		if in == l {
			delete(l.session.conn.inbox, name)
		}
	}
	l.session.conn.mu.Unlock()
}

// deliverLoop sends messages as long as there is credit and there are any.
func (l *outLink) deliverLoop() {
	w := l.queue.Wait(l.held, false)
	defer l.queue.Leave(w)
	for {
		n := l.credit()
		if n > 0 {
			messages, err := l.queue.Take(min(n, takeAtOnce), l.held, l, l.remove)
			if err != nil {
				l.detach(err)
				return
			}
			for _, m := range messages {
				if !l.deliver(m) {
					return
				}
			}
			if len(messages) > 0 {
				continue
			}
			l.drained()
		}
		select {
		case <-w.C:
		case <-l.wake:
		case <-l.done:
			return
		}
	}
}

// drained answers a client that asked to have its credit used up.
func (l *outLink) drained() {
	l.mu.Lock()
	drain := l.drain
	if drain {
		l.count, l.drain = l.limit, false
	}
	count := l.count
	l.mu.Unlock()
	if drain {
		l.session.sendFlow([]any{l.handle, count, uint32(0), nil, true})
	}
}

// detach ends the link from this side, with the reason.
func (l *outLink) detach(err error) {
	condition, description := "amqp:internal-error", err.Error()
	if errors.Is(err, queue.ErrLockLost) {
		condition, description = "com.microsoft:session-lock-lost", "The session lock has expired on the MessageSession. Accept a new MessageSession."
	}
	if errors.Is(err, queue.ErrClosed) {
		condition, description = "amqp:connection:forced", "the server is stopping"
	}
	l.session.conn.send(l.session.channel, amqp.Composite(amqp.CodeDetach, l.handle, true, amqpError(condition, description)))
	l.close()
}

// deliver sends one message.
func (l *outLink) deliver(m *queue.Message) bool {
	payload, err := encodeMessage(m, !l.remove)
	if err != nil {
		l.session.conn.srv.log.Error("a stored message cannot be read", "queue", l.queue.Name(), "number", m.Seq, "error", err)
		_ = l.queue.Settle(m.Token, queue.DeadLetter, nil)
		return true
	}
	l.mu.Lock()
	l.count++
	l.mu.Unlock()
	l.session.conn.srv.delivered.Add(1)
	tag := dotNet(m.Token)
	if l.remove {
		return l.session.deliver(l, tag, nil, payload)
	}
	return l.session.deliver(l, tag, &m.Token, payload)
}

// encodeMessage is a message as it goes to a receiver: what the sender encoded,
// with the server's annotations.
func encodeMessage(m *queue.Message, locked bool) ([]byte, error) {
	p, err := amqp.ParseMessage(m.Raw)
	if err != nil {
		return nil, err
	}
	p.DeliveryCount, p.ForceHeader = m.DeliveryCount, true
	a := p.Annotations.With(amqp.Symbol("x-opt-sequence-number"), m.Seq).With(amqp.Symbol("x-opt-enqueued-time"), m.Enqueued)
	if locked && !m.LockedUntil.IsZero() {
		a = a.With(amqp.Symbol("x-opt-locked-until"), m.LockedUntil)
	}
	if m.State != queue.Active {
		a = a.With(amqp.Symbol("x-opt-message-state"), int32(m.State))
	}
	if m.EnqueuedSeq != 0 {
		a = a.With(amqp.Symbol("x-opt-enqueue-sequence-number"), m.EnqueuedSeq)
	}
	if m.DeadFrom != "" {
		a = a.With(amqp.Symbol("x-opt-deadletter-source"), m.DeadFrom)
	}
	p.Annotations = a
	if locked {
		p.DeliveryAnnotations = p.DeliveryAnnotations.With(amqp.Symbol("x-opt-lock-token"), amqp.UUID(m.Token))
	}
	return p.Append(make([]byte, 0, len(m.Raw)+256)), nil
}

// dotNet is a token in the byte order of a .NET GUID: the first three groups
// little-endian. Applied twice it gives the token back.
func dotNet(t [16]byte) []byte {
	return []byte{t[3], t[2], t[1], t[0], t[5], t[4], t[7], t[6], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]}
}

func newMessageID() string { return uuid.NewString() }

// settle performs what the client decided and returns the state to answer with.
func (l *outLink) settle(token queue.Token, state amqp.Described) amqp.Described {
	outcome, raw, err := l.outcome(token, state)
	if err == nil {
		err = l.queue.Settle(token, outcome, raw)
	}
	switch {
	case errors.Is(err, queue.ErrLockLost):
		if l.held != nil {
			return rejected("com.microsoft:session-lock-lost", "The session lock was lost. Request a new session receiver.")
		}
		return rejected("com.microsoft:message-lock-lost", "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.")
	case err != nil:
		return rejected("amqp:internal-error", err.Error())
	}
	l.session.conn.srv.settled.Add(1)
	if state.Code == amqp.CodeRejected {
		return amqp.Composite(amqp.CodeRejected) // an error inside would be taken for a failure
	}
	return state
}

// outcome reads a terminal state: what to do, and with which bytes.
func (l *outLink) outcome(token queue.Token, state amqp.Described) (queue.Outcome, []byte, error) {
	fields, _ := state.Value.(amqp.List)
	switch state.Code {
	case amqp.CodeReleased:
		return queue.Release, nil, nil
	case amqp.CodeModified:
		outcome := queue.Abandon
		if amqp.FieldOr(fields, 1, false) {
			outcome = queue.Defer
		}
		set, _ := amqp.Field[amqp.Map](fields, 2)
		raw, err := rewritten(l.queue, token, set)
		return outcome, raw, err
	case amqp.CodeRejected:
		cause, _ := amqp.Field[amqp.Described](fields, 0)
		list, _ := cause.Value.(amqp.List)
		info, _ := amqp.Field[amqp.Map](list, 2)
		raw, err := rewritten(l.queue, token, info)
		return queue.DeadLetter, raw, err
	}
	return queue.Complete, nil, nil
}

// rewritten is a locked message with application properties added; nil when
// there are none to add.
func rewritten(q *queue.Queue, token queue.Token, set amqp.Map) ([]byte, error) {
	if len(set) == 0 {
		return nil, nil
	}
	raw, err := q.Locked(token)
	if err != nil {
		return nil, err
	}
	return deadLetter(raw, "", "", set), nil
}

// answerLoop sends the answers of $cbs and $management as credit allows.
func (l *outLink) answerLoop() {
	for {
		var payload []byte
		select {
		case payload = <-l.answers:
		case <-l.done:
			return
		}
		for l.credit() == 0 {
			select {
			case <-l.wake:
			case <-l.done:
				return
			}
		}
		l.mu.Lock()
		l.count++
		l.mu.Unlock()
		id := uuid.New()
		if !l.session.deliver(l, id[:], nil, payload) {
			return
		}
	}
}

// answer queues a reply; one that nobody fetches is dropped.
func (l *outLink) answer(payload []byte) {
	select {
	case l.answers <- payload:
	case <-l.done:
	case <-time.After(keepAlive):
	}
}
