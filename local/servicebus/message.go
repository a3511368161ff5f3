package servicebus

import (
	"errors"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// encodeMessage encodes a message for a receiver: the bytes of the sender, with the
// annotations of the server.
func encodeMessage(m *queue.Message, locked bool) ([]byte, error) {
	p, err := amqp.ParseMessage(m.Raw)
	if err != nil {
		return nil, err
	}
	p.Header.DeliveryCount, p.Header.Present = m.DeliveryCount, true
	if m.State != queue.Scheduled && m.DeadFrom == "" {
		// The limit of the queue may be shorter than that of the sender. The sender's time of
		// expiry does not count.
		p.SetExpiry(m.Expires)
		if !m.Expires.IsZero() {
			p.Header.TTL = m.Expires.Sub(m.Enqueued)
		}
	}
	var buffer [256]byte
	set := amqp.NewAdded(buffer[:])
	set.Long("x-opt-sequence-number", m.Seq)
	set.Time("x-opt-enqueued-time", m.Enqueued)
	if locked && !m.LockedUntil.IsZero() {
		set.Time("x-opt-locked-until", m.LockedUntil)
	}
	if m.State != queue.Active {
		set.Int("x-opt-message-state", int32(m.State))
	}
	if m.EnqueuedSeq != 0 {
		set.Long("x-opt-enqueue-sequence-number", m.EnqueuedSeq)
	}
	if m.DeadFrom != "" {
		set.Text("x-opt-deadletter-source", m.DeadFrom)
	}
	if p.Annotations.Get(hopsName) != nil {
		p.Annotations = p.Annotations.Without(hopsName)
	}
	p.AddedAnnotations = set
	if locked {
		p.AddedDeliveryAnnotations.UUID("x-opt-lock-token", amqp.UUID(m.Token))
	}
	const added = 256 // an estimate of the size of the annotations
	return p.Append(make([]byte, 0, len(m.Raw)+added)), nil
}

// swapGUIDBytes converts a token to the byte order of a .NET GUID: the first three groups
// little-endian. A second call converts it back.
func swapGUIDBytes(t [16]byte) [16]byte {
	return [16]byte{t[3], t[2], t[1], t[0], t[5], t[4], t[7], t[6], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15]}
}

// settlement converts a terminal state of AMQP.
func settlement(token queue.Token, state amqp.Described) queue.Settlement {
	fields, _ := state.Value.(amqp.List)
	out := queue.Settlement{Token: token, Disposition: queue.Complete}
	switch state.Code {
	case amqp.CodeReleased:
		out.Disposition = queue.Release
	case amqp.CodeModified:
		out.Disposition = queue.Abandon
		if amqp.FieldOr(fields, 1, false) {
			out.Disposition = queue.Defer
		}
		set, _ := amqp.Field[amqp.Map](fields, 2)
		out.Edit = setProperties(set)
	case amqp.CodeRejected:
		out.Disposition = queue.DeadLetter
		cause, _ := amqp.Field[amqp.Described](fields, 0)
		list, _ := cause.Value.(amqp.List)
		set, _ := amqp.Field[amqp.Map](list, 2)
		out.Edit = setProperties(set)
	}
	return out
}

// Errors of a session, and of a message, whose lock has ended.
const (
	sessionLost = "com.microsoft:session-lock-lost"
	lockLost    = "com.microsoft:message-lock-lost"
)

// answerState is the state that answers a settlement.
func (l *outLink) answerState(state amqp.Described, err error) amqp.Described {
	switch {
	case errors.Is(err, queue.ErrLockLost) && l.queue.Options().Sessions:
		return rejected(sessionLost, "The session lock was lost. Request a new session receiver.")
	case errors.Is(err, queue.ErrLockLost):
		return rejected(
			lockLost,
			"The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.",
		)
	case err != nil:
		return rejected("amqp:internal-error", err.Error())
	}
	l.session.conn.srv.settled.Add(1)
	switch state.Code {
	case amqp.CodeRejected:
		return amqp.Composite(amqp.CodeRejected) // a client would take an error inside for a failure
	case amqp.CodeReleased, amqp.CodeModified:
		return state
	}
	return accepted
}
