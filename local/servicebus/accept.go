package servicebus

import (
	"errors"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// wait is how long the client waits for a session.
func (a attachment) wait() time.Duration {
	if ms, ok := a.props.Get(timeoutProp).(uint32); ok {
		return time.Duration(ms) * time.Millisecond
	}
	return defaultAcceptWait
}

// filter finds the session filter of a receiver's source. Some clients send the
// value with its descriptor, some without.
func (a attachment) filter() (value any, described, ok bool) {
	list, _ := a.source.Value.(amqp.List)
	filters, _ := amqp.Field[amqp.Map](list, 7)
	for _, p := range filters {
		d, described := p.Value.(amqp.Described)
		if name, _ := p.Key.(amqp.Symbol); name == sessionFilter || described && d.Code == sessionFilterID {
			if described {
				return d.Value, true, true
			}
			return p.Value, false, true
		}
	}
	return nil, false, false
}

// startReceiver attaches a receiving link with its receiver, or refuses it.
func (s *session) startReceiver(a attachment, l *outLink, r *queue.Receiver, err error) {
	condition, description := "amqp:internal-error", ""
	switch {
	case err == nil && l.setReceiver(r):
		source, props := a.source, any(nil)
		if l.queue.Options().Sessions {
			source = a.sourceOf(r.Session())
			props = amqp.Map{{Key: amqp.Symbol(lockedUntilProp), Value: ticks(r.LockedUntil())}}
		}
		a.reply(source, a.target, props)
		go l.deliverLoop()
		return
	case err == nil: // the client has left in the meantime
		r.Close()
		return
	case errors.Is(err, queue.ErrCancelled):
		return
	case errors.Is(err, queue.ErrTimeout):
		condition, description = timeoutProp, "The operation did not complete within the allotted timeout."
	case errors.Is(err, queue.ErrSessionHeld):
		condition = "com.microsoft:session-cannot-be-locked"
		description = "The requested session cannot be accepted. It may be locked by another receiver."
	case errors.Is(err, queue.ErrClosed):
		condition, description = "amqp:connection:forced", "the server is stopping"
	case errors.Is(err, queue.ErrGone):
		condition, description = "amqp:not-found", "The messaging entity '"+a.address+"' could not be found."
	default:
		description = err.Error()
	}
	if l.close() {
		a.refuse(condition, description)
	}
}

// sourceOf is the source with the given session in its filter, in the form of the
// client, because the client compares.
func (a attachment) sourceOf(id string) amqp.Described {
	list, _ := a.source.Value.(amqp.List)
	source := append(amqp.List(nil), list...)
	for len(source) < 8 {
		source = append(source, nil)
	}
	var value any = id
	if _, described, _ := a.filter(); described {
		value = amqp.Described{Code: sessionFilterID, Value: id}
	}
	source[7] = amqp.Map{{Key: amqp.Symbol(sessionFilter), Value: value}}
	return amqp.Described{Code: amqp.CodeSource, Value: source}
}

// ticks is a time as .NET counts it: 100 ns since the year 1.
func ticks(t time.Time) int64 {
	const unixEpoch = 621355968000000000
	return unixEpoch + t.UnixNano()/100
}
