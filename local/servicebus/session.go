package servicebus

import (
	"slices"
	"sync"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// incomingWindow is how many frames a client may send before the window is announced
// again. The link credit is the real limit, so the window never stops a client.
const incomingWindow = 1 << 30

// maxUnsettled is the most deliveries of a session that its client has not settled;
// further ones wait.
const maxUnsettled = 20_000

// session is one channel of a connection.
type session struct {
	conn    *conn
	channel uint16

	in  map[uint32]*inLink  // by the client's handle; reader only
	all map[uint32]linkEnd  // by the client's handle; reader only
	out map[uint32]*outLink // by the client's handle; reader only

	sending sync.Mutex // held for one delivery, so that the numbers are in the order of sending

	mu        sync.Mutex
	space     *sync.Cond // signalled when the client's window opens, or a link ends
	nextOut   uint32     // transfer id of the next transfer frame
	window    uint32     // transfer frames the client takes now
	nextID    uint32     // delivery id of the next delivery
	unsettled map[uint32]unsettled
	decided   []decided // waiting to be settled
	settling  bool      // a goroutine settles them now
	ended     bool
}

// unsettled is a delivery that the client has not settled yet.
type unsettled struct {
	link  *outLink
	token queue.Token
}

// decided is a delivery with the state that the client gave it.
type decided struct {
	id uint32
	unsettled
	state amqp.Described
}

// linkEnd is a link of either kind. close reports whether the other side must still
// be notified.
type linkEnd interface{ close() (notify bool) }

func beginSession(c *conn, f amqp.Frame) *session {
	s := &session{conn: c, channel: f.Channel, in: map[uint32]*inLink{}, out: map[uint32]*outLink{}, all: map[uint32]linkEnd{},
		window: amqp.FieldOr(f.Fields, 2, uint32(0)), unsettled: map[uint32]unsettled{}}
	s.space = sync.NewCond(&s.mu)
	c.send(
		s.channel,
		amqp.Composite(amqp.CodeBegin, f.Channel, uint32(0), uint32(incomingWindow), uint32(incomingWindow), uint32(c.srv.bounds.links-1)),
	)
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
		s.handleDisposition(f.Fields)
	case amqp.CodeDetach:
		handle, _ := amqp.Field[uint32](f.Fields, 0)
		if l := s.all[handle]; l != nil {
			delete(s.all, handle)
			s.conn.links--
			delete(s.in, handle)
			delete(s.out, handle)
			if l.close() {
				s.conn.send(s.channel, amqp.Composite(amqp.CodeDetach, handle, true))
			}
		}
	}
	return nil
}

// flow takes the window of the client and the credit of a link.
func (s *session) flow(fields amqp.List) {
	window := amqp.FieldOr(fields, 1, uint32(0))
	s.mu.Lock()
	next := amqp.FieldOr(fields, 0, uint32(0))
	s.window = next + window - s.nextOut
	s.space.Broadcast()
	s.mu.Unlock()
	echo := amqp.FieldOr(fields, 9, false)
	handle, ok := amqp.Field[uint32](fields, 4)
	if !ok {
		if echo {
			s.sendFlow()
		}
		return
	}
	if l := s.out[handle]; l != nil {
		count := amqp.FieldOr(fields, 5, uint32(0))
		credit := amqp.FieldOr(fields, 6, uint32(0))
		l.setCredit(count, credit, amqp.FieldOr(fields, 8, false), echo)
	} else if l := s.in[handle]; l != nil && echo {
		l.topUpCredit()
	}
}

// sendFlow announces the session's window, with a link's part if given.
func (s *session) sendFlow(link ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields := append([]any{uint32(0), uint32(incomingWindow), s.nextOut, uint32(incomingWindow)}, link...)
	s.conn.send(s.channel, amqp.Composite(amqp.CodeFlow, fields...))
}

// transferOverhead is kept free in a frame for its header and performative.
const transferOverhead = 96

// deliver sends one delivery in as many frames as it takes, waiting for the
// client's window. It reports false when the link has ended and the delivery did
// not go out.
func (s *session) deliver(l *outLink, tag [16]byte, token *queue.Token, payload []byte) bool {
	s.sending.Lock()
	defer s.sending.Unlock()
	room := int(s.conn.maxFrame) - transferOverhead
	var id uint32
	for first := true; first || len(payload) > 0; first = false {
		s.conn.out.wait()
		s.mu.Lock()
		for (s.window == 0 || first && token != nil && len(s.unsettled) >= maxUnsettled) && !s.ended && !l.ended {
			s.space.Wait()
		}
		if s.ended || l.ended {
			if !first {
				delete(s.unsettled, id)
			}
			s.mu.Unlock()
			return false
		}
		part := payload[:min(len(payload), room)]
		payload = payload[len(part):]
		if first {
			id = s.nextID
			s.nextID++
			if token != nil {
				s.unsettled[id] = unsettled{l, *token}
			}
		}
		t := &amqp.Transfer{Handle: l.handle, First: first, ID: id, Tag: tag, Settled: token == nil, More: len(payload) > 0}
		s.window--
		s.nextOut++
		full := !s.conn.out.frame(s.channel, t, part)
		s.mu.Unlock()
		if full {
			s.conn.net.Close()
		}
	}
	return true
}

// handleDisposition takes the decisions of the client. One goroutine at a time
// settles them, as many at once as have gathered.
func (s *session) handleDisposition(fields amqp.List) {
	if !amqp.FieldOr(fields, 0, false) {
		return // the client settles its own messages; nothing waits for that
	}
	first := amqp.FieldOr(fields, 1, uint32(0))
	last := amqp.FieldOr(fields, 2, first)
	state, _ := amqp.Field[amqp.Described](fields, 4)
	s.mu.Lock()
	defer s.mu.Unlock()
	from := len(s.decided)
	take := func(id uint32) {
		if u, ok := s.unsettled[id]; ok {
			delete(s.unsettled, id)
			s.decided = append(s.decided, decided{id, u, state})
		}
	}
	if int(last-first) > len(s.unsettled) { // the range is wider than the number of open deliveries: walk those instead
		for id := range s.unsettled {
			if id-first <= last-first {
				take(id)
			}
		}
		slices.SortFunc(s.decided[from:], func(a, b decided) int { return int(int32(a.id - b.id)) })
	} else {
		for id := first; id-first <= last-first; id++ {
			take(id)
			if id == last {
				break
			}
		}
	}
	s.space.Broadcast()
	if len(s.decided) > 0 && !s.settling {
		s.settling = true
		go s.settleDecided()
	}
}

// settleDecided settles decided deliveries until none is left.
func (s *session) settleDecided() {
	for {
		s.mu.Lock()
		all := s.decided
		s.decided = nil
		s.settling = len(all) > 0
		s.mu.Unlock()
		if len(all) == 0 {
			return
		}
		for len(all) > 0 {
			n := 1
			for n < len(all) && all[n].link.queue == all[0].link.queue {
				n++
			}
			s.settleGroup(all[:n])
			all = all[n:]
		}
	}
}

// settleGroup settles deliveries of one queue in one commit, and answers each.
func (s *session) settleGroup(group []decided) {
	lose := false
	if s.conn.srv.cfg.Chaos != nil {
		if group, lose = s.injectSettleFailure(group); len(group) == 0 {
			return
		}
	}
	settlements := make([]queue.Settlement, len(group))
	for i, d := range group {
		settlements[i] = settlement(d.token, d.state)
	}
	states := make([]amqp.Described, len(group))
	for i, err := range group[0].link.queue.Settle(settlements) {
		states[i] = group[i].link.answerState(group[i].state, err)
	}
	if lose {
		s.conn.disconnect()
		return
	}
	for from := 0; from < len(group); {
		to := from + 1 // consecutive accepted deliveries share a frame
		for to < len(group) && group[to].id == group[to-1].id+1 &&
			states[from].Code == amqp.CodeAccepted && states[to].Code == amqp.CodeAccepted {
			to++
		}
		s.conn.send(s.channel, amqp.Composite(amqp.CodeDisposition, false, group[from].id, group[to-1].id, true, states[from]))
		from = to
	}
}

// injectSettleFailure does what injections say about settlements. It returns the
// settlements to perform, and whether the connection ends after them.
func (s *session) injectSettleFailure(group []decided) (rest []decided, lose bool) {
	for _, d := range group {
		switch o := s.conn.srv.decideFailure(atSettle, d.link.entity.name, chaos.Refuse, chaos.Detach, chaos.Disconnect, chaos.Lose); o.Do {
		case chaos.Refuse:
			s.conn.send(
				s.channel,
				amqp.Composite(amqp.CodeDisposition, false, d.id, d.id, true, rejected(condition(o, lockLost), injected)),
			)
		case chaos.Detach:
			d.link.force(condition(o, forcedDetach), injected)
		case chaos.Disconnect:
			s.conn.disconnect()
			return nil, false
		case chaos.Lose:
			lose = true
			rest = append(rest, d)
		default:
			rest = append(rest, d)
		}
	}
	return rest, lose
}

// close closes all links and wakes all that wait.
func (s *session) close() {
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
