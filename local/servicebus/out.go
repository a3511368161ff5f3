package servicebus

import (
	"errors"
	"slices"
	"sync"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// takeAtOnce is the most messages that a receiver takes at once, so that a receiver
// with much credit does not lock messages long before it sends them.
const takeAtOnce = 100

// Bounds of the answers that wait for a client.
const (
	maxAnswers     = 1000
	maxAnswerBytes = 16 << 20
)

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

	ended bool // both sides know that it has ended; guarded by session.mu

	mu       sync.Mutex
	receiver *queue.Receiver
	answers  [][]byte // of $cbs and $management
	waiting  int      // bytes of them
	limit    uint32   // up to this delivery count the client has credit
	count    uint32   // deliveries so far
	drain    bool
	echo     bool
	closed   bool
}

func newOutLink(s *session, a attachment) *outLink {
	return &outLink{
		session: s,
		handle:  a.handle,
		name:    a.name,
		remove:  a.snd == settledMode,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
}

// setCredit sets the credit that a client gives: credit deliveries after count.
func (l *outLink) setCredit(count, credit uint32, drain, echo bool) {
	l.mu.Lock()
	l.limit, l.drain, l.echo = count+credit, drain, echo
	l.mu.Unlock()
	l.wakeUp()
}

func (l *outLink) wakeUp() {
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

func (l *outLink) useCredit() {
	l.mu.Lock()
	l.count++
	l.mu.Unlock()
}

// setReceiver gives the link its receiver; false if the client has left.
func (l *outLink) setReceiver(r *queue.Receiver) bool {
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

// close ends the link. It releases a session; other locks stay until they run out,
// because the client may still settle by management.
func (l *outLink) close() (notify bool) {
	l.session.mu.Lock()
	notify, l.ended = !l.ended, true
	l.session.space.Broadcast()
	l.session.mu.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return notify
	}
	l.closed = true
	receiver := l.receiver
	l.mu.Unlock()
	close(l.done)
	l.entity.removeLink(l)
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
	return notify
}

// deliverLoop sends messages while there are messages and credit.
func (l *outLink) deliverLoop() {
	for {
		if n := l.credit(); n > 0 {
			messages, err := l.receiver.Take(min(n, takeAtOnce))
			if err != nil {
				l.detach(err)
				return
			}
			if messages = l.injectFailure(messages); !l.deliver(messages) {
				return
			}
			if len(messages) > 0 {
				continue
			}
		}
		l.answerDrain()
		l.answerEcho()
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

// deliver sends messages. It returns those to the queue that do not go out because
// the link has ended.
func (l *outLink) deliver(messages []*queue.Message) bool {
	for i, m := range messages {
		payload, err := encodeMessage(m, !l.remove)
		if err != nil {
			l.session.conn.srv.log.Error("reading a stored message failed", "queue", l.queue.Name(), "number", m.Seq, "error", err)
			l.queue.Settle([]queue.Settlement{{Token: m.Token, Disposition: queue.DeadLetter}})
			continue
		}
		var token *queue.Token
		if !l.remove {
			token = &m.Token
		}
		l.useCredit()
		if !l.session.deliver(l, swapGUIDBytes(m.Token), token, payload) {
			back := make([]queue.Settlement, 0, len(messages)-i)
			for _, m := range messages[i:] {
				back = append(back, queue.Settlement{Token: m.Token, Disposition: queue.Release})
			}
			l.queue.Settle(back)
			return false
		}
		l.session.conn.srv.delivered.Add(1)
	}
	return true
}

// answerDrain answers a client that asked to use up its credit.
func (l *outLink) answerDrain() {
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

// answerEcho answers a client that asked for the state of the link.
func (l *outLink) answerEcho() {
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

// injectFailure waits for the credits of messages, and does what injections say
// about them. It returns the messages to deliver.
func (l *outLink) injectFailure(messages []*queue.Message) []*queue.Message {
	c := l.session.conn
	for len(messages) > 0 && !c.srv.rates.spendOnDelivery(len(messages)) {
		c.srv.pause(c.srv.rates.untilNext())
	}
	if c.srv.cfg.Chaos == nil {
		return messages
	}
	for i := range messages {
		switch o := c.srv.decideFailure(atReceive, l.entity.name, chaos.Detach, chaos.Disconnect, chaos.Lose); o.Do {
		case chaos.Detach:
			l.force(condition(o, forcedDetach), injected)
			return messages // the queue gets the messages back, because the link has ended
		case chaos.Disconnect:
			c.disconnect()
			<-l.done
			return messages
		case chaos.Lose: // the message stays locked, or is deleted, and the client has not seen it
			c.disconnect()
			<-l.done
			return slices.Delete(messages, i, i+1)
		}
	}
	return messages
}

// answerLoop sends the answers of $cbs and $management while there is credit.
func (l *outLink) answerLoop() {
	for {
		l.mu.Lock()
		var payload []byte
		if len(l.answers) > 0 && int32(l.limit-l.count) > 0 {
			payload = l.answers[0]
			l.answers, l.waiting = l.answers[1:], l.waiting-len(payload)
			l.count++
		}
		l.mu.Unlock()
		if payload != nil {
			tag := uuid.New()
			if !l.session.deliver(l, tag, nil, payload) {
				return
			}
			continue
		}
		l.answerDrain()
		l.answerEcho()
		select {
		case <-l.wake:
		case <-l.done:
			return
		}
	}
}

// answer queues a reply. If too many wait, the reply is dropped.
func (l *outLink) answer(payload []byte) {
	l.mu.Lock()
	if len(l.answers) < maxAnswers && l.waiting < maxAnswerBytes {
		l.answers, l.waiting = append(l.answers, payload), l.waiting+len(payload)
	}
	l.mu.Unlock()
	l.wakeUp()
}
