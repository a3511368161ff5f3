package servicebus

import (
	"sync"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// incomingWindow is what a client may send before the window is announced
// anew: with link credit as the real limit it is never the narrow place.
const incomingWindow = 1 << 30

// session is one channel of a connection.
type session struct {
	conn    *conn
	channel uint16

	in  map[uint32]*inLink  // by the client's handle; reader only
	all map[uint32]linkEnd  // by the client's handle; reader only
	out map[uint32]*outLink // by the client's handle; reader only

	mu        sync.Mutex
	space     *sync.Cond // signalled when the client's window opens
	nextOut   uint32     // transfer id of the next transfer frame
	window    uint32     // transfer frames the client takes now
	nextID    uint32     // delivery id of the next delivery
	unsettled map[uint32]unsettled
	ended     bool
}

// unsettled is a delivery that the client has not settled yet.
type unsettled struct {
	link  *outLink
	token queue.Token
}

// linkEnd is what both kinds of links can do.
type linkEnd interface{ close() }

func beginSession(c *conn, f amqp.Frame) *session {
	s := &session{conn: c, channel: f.Channel, in: map[uint32]*inLink{}, out: map[uint32]*outLink{}, all: map[uint32]linkEnd{},
		window: amqp.FieldOr(f.Fields, 2, uint32(0)), unsettled: map[uint32]unsettled{}}
	s.space = sync.NewCond(&s.mu)
	c.send(s.channel, amqp.Composite(amqp.CodeBegin, f.Channel, uint32(0), uint32(incomingWindow), uint32(incomingWindow), uint32(maxLinks-1)))
	return s
}

// frame handles a frame of this session.
func (s *session) frame(f amqp.Frame) error {
	switch f.Code {
	case amqp.CodeAttach:
		return s.attach(f.Fields)
	case amqp.CodeFlow:
		s.flow(f.Fields)
	case amqp.CodeTransfer:
		handle, _ := amqp.Field[uint32](f.Fields, 0)
		if l := s.in[handle]; l != nil {
			return l.transfer(f)
		}
	case amqp.CodeDisposition:
		s.disposition(f.Fields)
	case amqp.CodeDetach:
		handle, _ := amqp.Field[uint32](f.Fields, 0)
		if l := s.all[handle]; l != nil {
			s.forget(handle)
			l.close()
			s.conn.send(s.channel, amqp.Composite(amqp.CodeDetach, handle, true))
		}
	}
	return nil
}

func (s *session) forget(handle uint32) {
	delete(s.all, handle)
	delete(s.in, handle)
	delete(s.out, handle)
}

// flow takes in the client's window and a link's credit.
func (s *session) flow(fields amqp.List) {
	window := amqp.FieldOr(fields, 1, uint32(0))
	s.mu.Lock()
	next := amqp.FieldOr(fields, 0, uint32(0))
	s.window = next + window - s.nextOut
	s.space.Broadcast()
	s.mu.Unlock()
	handle, ok := amqp.Field[uint32](fields, 4)
	if !ok {
		if amqp.FieldOr(fields, 9, false) {
			s.sendFlow(nil)
		}
		return
	}
	if l := s.out[handle]; l != nil {
		count := amqp.FieldOr(fields, 5, uint32(0))
		credit := amqp.FieldOr(fields, 6, uint32(0))
		l.grant(count, credit, amqp.FieldOr(fields, 8, false))
	}
}

// sendFlow announces the session's window, with a link's part if given.
func (s *session) sendFlow(link []any) {
	s.mu.Lock()
	next := s.nextOut
	s.mu.Unlock()
	fields := append([]any{uint32(0), uint32(incomingWindow), next, uint32(incomingWindow)}, link...)
	s.conn.send(s.channel, amqp.Composite(amqp.CodeFlow, fields...))
}

// deliver sends one delivery in as many frames as it takes, waiting for the
// client's window. It reports false when the session has ended.
func (s *session) deliver(l *outLink, tag []byte, token *queue.Token, payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextID
	s.nextID++
	if token != nil {
		s.unsettled[id] = unsettled{l, *token}
	}
	room := int(s.conn.maxFrame) - transferOverhead
	for first := true; first || len(payload) > 0; first = false {
		for s.window == 0 && !s.ended {
			s.space.Wait()
		}
		if s.ended {
			return false
		}
		part := payload[:min(len(payload), room)]
		payload = payload[len(part):]
		var t amqp.Described
		if first {
			t = amqp.Composite(amqp.CodeTransfer, l.handle, id, tag, uint32(0), token == nil, len(payload) > 0)
		} else {
			t = amqp.Composite(amqp.CodeTransfer, l.handle, nil, nil, nil, token == nil, len(payload) > 0)
		}
		s.window--
		s.nextOut++
		s.conn.raw(amqp.AppendFrame(nil, amqp.FrameAMQP, s.channel, t, part))
	}
	return true
}

// transferOverhead is kept free in a frame for its header and performative.
const transferOverhead = 96

// disposition settles deliveries as the client says.
func (s *session) disposition(fields amqp.List) {
	if !amqp.FieldOr(fields, 0, false) {
		return // the client settles what it sent itself; nothing waits for that
	}
	first := amqp.FieldOr(fields, 1, uint32(0))
	last := amqp.FieldOr(fields, 2, first)
	state, _ := amqp.Field[amqp.Described](fields, 4)
	s.mu.Lock()
	settled := map[uint32]unsettled{}
	if int(last-first) > len(s.unsettled) { // a range wider than what is open is walked from the other side
		for id, u := range s.unsettled {
			if id-first <= last-first {
				settled[id] = u
			}
		}
	} else {
		for id := first; ; id++ {
			if u, ok := s.unsettled[id]; ok {
				settled[id] = u
			}
			if id == last {
				break
			}
		}
	}
	for id := range settled {
		delete(s.unsettled, id)
	}
	s.mu.Unlock()
	for id, u := range settled {
		go s.settle(id, u, state)
	}
}

// end closes all links; nobody waits any more.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	s.space.Broadcast()
	s.mu.Unlock()
	for _, l := range s.all {
		l.close()
	}
}

// accepted is how the server answers what it has stored.
var accepted = amqp.Composite(amqp.CodeAccepted)

func rejected(condition, description string) amqp.Described {
	return amqp.Composite(amqp.CodeRejected, amqpError(condition, description))
}

// settle performs one outcome and tells the client that it is done.
func (s *session) settle(id uint32, u unsettled, state amqp.Described) {
	answer := u.link.settle(u.token, state)
	s.conn.send(s.channel, amqp.Composite(amqp.CodeDisposition, false, id, id, true, answer))
}
