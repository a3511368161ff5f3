package servicebus

import (
	"errors"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
)

// Names on the wire.
const (
	cbsNode          = "$cbs"
	managementSuffix = "/$management"
	sessionFilter    = "com.microsoft:session-filter"
	sessionFilterID  = 0x137000000C
	lockedUntilProp  = "com.microsoft:locked-until-utc"
	timeoutProp      = "com.microsoft:timeout"
	batchSizeProp    = "com.microsoft:max-message-batch-size"
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
	if s.all[a.handle] != nil || s.conn.links >= s.conn.srv.bounds.links {
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
	if refused, err := s.injectFailure(a); refused {
		return err
	}
	switch lower := strings.ToLower(a.address); {
	case a.target.Code == amqp.CodeCoordinator:
		a.refuse("amqp:not-implemented", "Transactions are not supported by the local Service Bus.")
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

// injectFailure does what an injection says about an attach; an error ends the
// connection.
func (s *session) injectFailure(a attachment) (refused bool, err error) {
	switch o := s.conn.srv.decideFailure(atAttach, a.address, chaos.Refuse, chaos.Throttle, chaos.Detach, chaos.Disconnect); o.Do {
	case chaos.Refuse:
		a.refuse(condition(o, "amqp:internal-error"), injected)
	case chaos.Throttle:
		a.refuse(condition(o, busyCondition), s.conn.srv.busy())
	case chaos.Detach:
		a.refuse(condition(o, forcedDetach), injected)
	case chaos.Disconnect:
		return true, errDisconnect
	default:
		return false, nil
	}
	return true, nil
}

// errDisconnect ends a connection because an injection says so.
var errDisconnect = errors.New("an injected failure ends the connection here")

// addLink adds a link to the session, by the handle of the client.
func (s *session) addLink(handle uint32, l linkEnd) {
	s.all[handle] = l
	s.conn.links++
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
	a.replySized(source, target, props, maxMessageSize)
}

func (a attachment) replySized(source, target any, props any, limit int) {
	var count, size any
	if a.receiver {
		count = uint32(0)
	} else {
		size = uint64(limit)
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
	l := &inLink{session: s, handle: a.handle, name: a.name, limit: maxMessageSize, take: func(l *inLink, ds []delivery) {
		l.sendOutcome(ds, accepted)
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
	e, q := s.conn.srv.find(entity)
	switch {
	case q == nil:
		a.refuse("amqp:not-found", "The messaging entity '"+entity+"' could not be found.")
	case a.receiver:
		s.attachReply(a)
	default:
		s.attachIn(a, &inLink{session: s, handle: a.handle, name: a.name, limit: e.maxMessage(), take: func(l *inLink, ds []delivery) {
			l.sendOutcome(ds, accepted)
			for _, d := range ds {
				s.conn.manage(e, q, entity, d.payload)
			}
		}})
	}
}

// attachReply attaches a link for the answers of $cbs or $management.
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
	s.addLink(a.handle, l)
	s.out[a.handle] = l
	a.reply(a.source, a.target, nil)
	go l.answerLoop()
}

// attachIn attaches a link on which the client sends.
func (s *session) attachIn(a attachment, l *inLink) {
	l.deliveries = make(chan delivery, linkCredit)
	l.space = sync.NewCond(&l.mu)
	s.addLink(a.handle, l)
	s.in[a.handle] = l
	if l.entity != nil {
		l.entity.addLink(l)
	}
	var props any
	if l.limit > maxMessageSize {
		props = amqp.Map{{Key: amqp.Symbol(batchSizeProp), Value: uint64(maxPremiumBatch)}}
	}
	a.replySized(a.source, a.target, props, l.limit)
	l.topUpCredit()
	go l.handleDeliveries()
}

// attachSender attaches a client that sends to a queue.
func (s *session) attachSender(a attachment) {
	e, q := s.conn.srv.find(a.address)
	switch {
	case q == nil || q.DeadLetters() == nil:
		a.refuse("amqp:not-found", "The messaging entity '"+a.address+"' could not be found.")
	case !s.conn.hasClaim(e, a.address, true, false):
		a.refuse("amqp:unauthorized-access", "Unauthorized access. 'Send' claim(s) are required to perform this operation.")
	case !e.enabled(true):
		a.refuse(disabledCondition, "Messaging entity '"+e.name+"' is currently disabled.")
	default:
		e.touch(s.conn.srv.now())
		s.attachIn(
			a,
			&inLink{session: s, handle: a.handle, name: a.name, entity: e, limit: e.maxMessage(), take: (*inLink).storeDeliveries},
		)
	}
}

// attachReceiver attaches a client that receives from a queue, or from one of
// its sessions.
func (s *session) attachReceiver(a attachment) {
	e, q := s.conn.srv.find(a.address)
	filter, _, wanted := a.filter()
	switch {
	case q == nil:
		a.refuse("amqp:not-found", "The messaging entity '"+a.address+"' could not be found.")
	case !s.conn.hasClaim(e, a.address, false, true):
		a.refuse("amqp:unauthorized-access", "Unauthorized access. 'Listen' claim(s) are required to perform this operation.")
	case !e.enabled(false):
		a.refuse(disabledCondition, "Messaging entity '"+e.name+"' is currently disabled.")
	case e.forwards(q):
		a.refuse("amqp:not-allowed", "Cannot create a message receiver on an entity with auto-forwarding enabled.")
	case q.Options().Sessions && !wanted:
		a.refuse("amqp:not-allowed", "It is not possible for an entity that requires sessions to create a non-sessionful message receiver.")
	case !q.Options().Sessions && wanted:
		a.refuse("amqp:not-allowed", "A sessionful message receiver cannot be created on an entity that does not require sessions.")
	default:
		l := newOutLink(s, a)
		l.queue, l.entity = q, e
		e.touch(s.conn.srv.now())
		s.addLink(a.handle, l)
		s.out[a.handle] = l
		e.addLink(l)
		switch id, named := filter.(string); {
		case !wanted:
			r, err := q.Receiver(l.remove)
			s.startReceiver(a, l, r, err)
		case named:
			r, err := q.Accept(id, l.remove)
			s.startReceiver(a, l, r, err)
		default:
			go func() { // until a session is free
				r, err := q.AcceptNext(l.remove, a.wait(), l.done)
				s.startReceiver(a, l, r, err)
			}()
		}
	}
}

// disabledCondition is how the service refuses the use of a queue by its status.
const disabledCondition = "com.microsoft:entity-disabled"
