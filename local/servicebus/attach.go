package servicebus

import (
	"errors"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// Names on the wire.
const (
	cbsNode          = "$cbs"
	managementSuffix = "/$management"
	sessionFilter    = "com.microsoft:session-filter"
	sessionFilterID  = 0x137000000C
	lockedUntilProp  = "com.microsoft:locked-until-utc"
	timeoutProp      = "com.microsoft:timeout"
)

// defaultAcceptWait is how long a request for any free session waits when the
// client does not say.
const defaultAcceptWait = 60 * time.Second

// attachment is an attach frame, read.
type attachment struct {
	session  *session
	name     string
	handle   uint32
	receiver bool // the client receives
	snd, rcv any
	source   amqp.Described
	target   amqp.Described
	address  string
	props    amqp.Map
}

// attach makes a link, or refuses it.
func (s *session) attach(fields amqp.List) error {
	a := attachment{session: s, receiver: amqp.FieldOr(fields, 2, false)}
	var named, handled bool
	a.name, named = amqp.Field[string](fields, 0)
	a.handle, handled = amqp.Field[uint32](fields, 1)
	if !named || !handled {
		return errors.New("an attach without name or handle")
	}
	if s.all[a.handle] != nil || len(s.all) >= maxLinks {
		return errors.New("a handle was attached twice, or too many links")
	}
	if len(fields) > 4 {
		a.snd, a.rcv = fields[3], fields[4]
	}
	a.source, _ = amqp.Field[amqp.Described](fields, 5)
	a.target, _ = amqp.Field[amqp.Described](fields, 6)
	a.props, _ = amqp.Field[amqp.Map](fields, 13)
	terminus := a.target
	if a.receiver {
		terminus = a.source
	}
	list, _ := terminus.Value.(amqp.List)
	a.address, _ = amqp.Field[string](list, 0)
	a.address = entityPath(a.address)
	switch lower := strings.ToLower(a.address); {
	case lower == cbsNode:
		s.attachCBS(a)
	case strings.HasSuffix(lower, managementSuffix):
		s.attachManagement(a)
	case a.receiver:
		s.attachReceiver(a)
	default:
		s.attachSender(a)
	}
	return nil
}

// entityPath is an address without a leading scheme and host.
func entityPath(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		return rest
	}
	return strings.TrimPrefix(address, "/")
}

// reply accepts an attach. For a client that sends, the size limit is part of it.
func (a attachment) reply(source, target any, props any) {
	var count, size any
	if a.receiver {
		count = uint32(0)
	} else {
		size = uint64(maxMessageSize)
	}
	a.session.conn.send(a.session.channel, amqp.Composite(amqp.CodeAttach, a.name, a.handle, !a.receiver, a.snd, a.rcv,
		source, target, nil, nil, count, size, nil, nil, props))
}

// refuse answers an attach with an empty terminus and a detach that says why.
func (a attachment) refuse(condition, description string) {
	var source, target any = a.source, a.target
	if a.receiver {
		source = nil
	} else {
		target = nil
	}
	a.reply(source, target, nil)
	a.session.conn.send(a.session.channel, amqp.Composite(amqp.CodeDetach, a.handle, true, amqpError(condition, description)))
}

// attachCBS attaches one end of the claims node; a connection has one pair.
func (s *session) attachCBS(a attachment) {
	s.conn.mu.Lock()
	taken := s.conn.cbs[a.receiver] != nil
	s.conn.mu.Unlock()
	if taken {
		a.refuse("amqp:not-allowed", "A connection has one pair of links to the claims node.")
		return
	}
	if a.receiver {
		s.attachReply(a)
		return
	}
	l := &inLink{session: s, handle: a.handle, name: a.name, take: func(l *inLink, ds []delivery) {
		l.settle(ds, accepted)
		for _, d := range ds {
			s.conn.putToken(d.payload)
		}
	}}
	s.conn.mu.Lock()
	s.conn.cbs[false] = l
	s.conn.mu.Unlock()
	s.attachIn(a, l)
}

// attachManagement attaches one end of an entity's management node.
func (s *session) attachManagement(a attachment) {
	entity := a.address[:len(a.address)-len(managementSuffix)]
	q := s.conn.srv.broker.Queue(entity)
	if q == nil {
		a.refuse("amqp:not-found", "The messaging entity '"+entity+"' could not be found.")
		return
	}
	if a.receiver {
		s.attachReply(a)
		return
	}
	s.attachIn(a, &inLink{session: s, handle: a.handle, name: a.name, take: func(l *inLink, ds []delivery) {
		l.settle(ds, accepted)
		for _, d := range ds {
			s.conn.manage(q, entity, d.payload)
		}
	}})
}

// attachReply attaches a link on which answers of $cbs or $management go out.
func (s *session) attachReply(a attachment) {
	l := newOutLink(s, a)
	target, _ := a.target.Value.(amqp.List)
	address, _ := amqp.Field[string](target, 0)
	s.conn.mu.Lock()
	s.conn.inbox[a.name] = l
	s.conn.inbox[nodePrefix+strings.ToLower(a.address)] = l
	if address != "" {
		s.conn.inbox[address] = l
	}
	if strings.EqualFold(a.address, cbsNode) {
		s.conn.cbs[true] = l
	}
	s.conn.mu.Unlock()
	s.all[a.handle], s.out[a.handle] = l, l
	a.reply(a.source, a.target, nil)
	go l.answerLoop()
}

// attachIn attaches a link on which the client sends.
func (s *session) attachIn(a attachment, l *inLink) {
	l.deliveries = make(chan delivery, linkCredit)
	l.space = sync.NewCond(&l.mu)
	s.all[a.handle], s.in[a.handle] = l, l
	a.reply(a.source, a.target, nil)
	l.top()
	go l.work()
}

// attachSender attaches a client that sends to a queue.
func (s *session) attachSender(a attachment) {
	q := s.conn.srv.broker.Queue(a.address)
	switch {
	case q == nil || q.DeadLetters() == nil:
		a.refuse("amqp:not-found", "The messaging entity '"+a.address+"' could not be found.")
	case !s.conn.allowed(a.address, true, false):
		a.refuse("amqp:unauthorized-access", "Unauthorized access. 'Send' claim(s) are required to perform this operation.")
	default:
		s.attachIn(a, &inLink{session: s, handle: a.handle, name: a.name, take: func(l *inLink, ds []delivery) { l.enqueue(q, ds) }})
	}
}

// attachReceiver attaches a client that receives from a queue, or from one of
// its sessions.
func (s *session) attachReceiver(a attachment) {
	q := s.conn.srv.broker.Queue(a.address)
	filter, wanted := a.filter()
	switch {
	case q == nil:
		a.refuse("amqp:not-found", "The messaging entity '"+a.address+"' could not be found.")
	case !s.conn.allowed(a.address, false, true):
		a.refuse("amqp:unauthorized-access", "Unauthorized access. 'Listen' claim(s) are required to perform this operation.")
	case q.Options().Sessions && !wanted:
		a.refuse("amqp:not-allowed", "It is not possible for an entity that requires sessions to create a non-sessionful message receiver.")
	case !q.Options().Sessions && wanted:
		a.refuse("amqp:not-allowed", "A sessionful message receiver cannot be created on an entity that does not require sessions.")
	default:
		l := newOutLink(s, a)
		l.queue = q
		s.all[a.handle], s.out[a.handle] = l, l
		switch id, named := filter.(string); {
		case !wanted:
			r, err := q.Receiver(l.remove)
			s.begin(a, l, r, err)
		case named:
			r, err := q.Accept(id, l.remove)
			s.begin(a, l, r, err)
		default:
			go func() { // until a session is free
				r, err := q.AcceptNext(l.remove, a.wait(), l.done)
				s.begin(a, l, r, err)
			}()
		}
	}
}

// wait is how long the client waits for a session.
func (a attachment) wait() time.Duration {
	if ms, ok := a.props.Get(timeoutProp).(uint32); ok {
		return time.Duration(ms) * time.Millisecond
	}
	return defaultAcceptWait
}

// filter finds the session filter of a receiver's source.
func (a attachment) filter() (value any, ok bool) {
	list, _ := a.source.Value.(amqp.List)
	filters, _ := amqp.Field[amqp.Map](list, 7)
	for _, p := range filters {
		d, described := p.Value.(amqp.Described)
		if name, _ := p.Key.(amqp.Symbol); name == sessionFilter || described && d.Code == sessionFilterID {
			if described {
				return d.Value, true
			}
			return p.Value, true
		}
	}
	return nil, false
}

// begin attaches a receiving link that has its receiver, or refuses it.
func (s *session) begin(a attachment, l *outLink, r *queue.Receiver, err error) {
	condition, description := "amqp:internal-error", ""
	switch {
	case err == nil && l.adopt(r):
		source, props := a.source, any(nil)
		if l.queue.Options().Sessions {
			source = a.sourceOf(r.Session())
			props = amqp.Map{{Key: amqp.Symbol(lockedUntilProp), Value: ticks(r.LockedUntil())}}
		}
		a.reply(source, a.target, props)
		go l.deliverLoop()
		return
	case err == nil: // the client has left meanwhile
		r.Close()
		return
	case errors.Is(err, queue.ErrCancelled):
		return
	case errors.Is(err, queue.ErrTimeout):
		condition, description = timeoutProp, "The operation did not complete within the allotted timeout."
	case errors.Is(err, queue.ErrSessionHeld):
		condition, description = "com.microsoft:session-cannot-be-locked", "The requested session cannot be accepted. It may be locked by another receiver."
	case errors.Is(err, queue.ErrClosed):
		condition, description = "amqp:connection:forced", "the server is stopping"
	default:
		description = err.Error()
	}
	if l.close() {
		a.refuse(condition, description)
	}
}

// sourceOf is the source with the session that was given in its filter.
func (a attachment) sourceOf(id string) amqp.Described {
	list, _ := a.source.Value.(amqp.List)
	source := append(amqp.List(nil), list...)
	for len(source) < 8 {
		source = append(source, nil)
	}
	source[7] = amqp.Map{{Key: amqp.Symbol(sessionFilter), Value: amqp.Described{Code: sessionFilterID, Value: id}}}
	return amqp.Described{Code: amqp.CodeSource, Value: source}
}

// ticks is a time as .NET counts it: 100 ns since the year 1.
func ticks(t time.Time) int64 {
	const unixEpoch = 621355968000000000
	return unixEpoch + t.UnixNano()/100
}
