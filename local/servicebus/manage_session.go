package servicebus

import (
	"errors"
	"fmt"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// errSessionLost is ErrLockLost of a session.
var errSessionLost = fmt.Errorf("of the session: %w", queue.ErrLockLost)

// session finds the receiver that holds the session among this connection's.
func (m managed) session(id string) (*queue.Receiver, error) {
	c := m.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.held {
		if l.queue == m.q && l.receiver.Holds(id) {
			return l.receiver, nil
		}
	}
	return nil, errSessionLost
}

// holder finds the receiver of the session in which a client peeks, or receives by
// number. Some clients name the session in the arguments, azservicebus names only the
// link of its receiver. nil: the operation is on the whole queue.
func (m managed) holder() (*queue.Receiver, error) {
	if id, ok := m.args.Get("session-id").(string); ok {
		return m.session(id)
	}
	name := textOf(m.props.Get("associated-link-name"))
	if name == "" || !m.q.Options().Sessions {
		return nil, nil
	}
	c := m.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.held {
		if l.queue == m.q && l.name == name {
			if !l.receiver.Holds(l.receiver.Session()) {
				return nil, errSessionLost
			}
			return l.receiver, nil
		}
	}
	return nil, errSessionLost
}

// sessionReceiver is the receiver of the session that the arguments name.
func (m managed) sessionReceiver() (*queue.Receiver, error) {
	id, ok := m.args.Get("session-id").(string)
	if !ok {
		return nil, errArguments
	}
	return m.session(id)
}

func (m managed) renewSession() (int32, any, error) {
	r, err := m.sessionReceiver()
	if err != nil {
		return 0, nil, err
	}
	until, err := r.RenewSession()
	return 200, amqp.Map{{Key: "expiration", Value: until}}, err
}

func (m managed) getState() (int32, any, error) {
	r, err := m.sessionReceiver()
	if err != nil {
		return 0, nil, err
	}
	state, err := r.State()
	var v any
	if len(state) > 0 {
		v = state
	}
	return 200, amqp.Map{{Key: "session-state", Value: v}}, err
}

func (m managed) setState() (int32, any, error) {
	r, err := m.sessionReceiver()
	if err != nil {
		return 0, nil, err
	}
	state, _ := m.args.Get("session-state").([]byte)
	if len(state) > maxMessageSize {
		return 0, nil, errors.New("the session state is larger than a message may be")
	}
	return 200, nil, r.SetState(state)
}

func (m managed) listSessions() (int32, any, error) {
	after, _ := m.args.Get("last-updated-time").(time.Time)
	skip, _ := m.args.Get("skip").(int32)
	top, _ := m.args.Get("top").(int32)
	if after.Year() >= 9999 { // the far end of time means all sessions with messages or state
		after = time.Time{}
	}
	ids := m.q.Sessions(after)
	ids = ids[min(max(int(skip), 0), len(ids)):]
	ids = ids[:min(max(int(top), 0), len(ids), maxListed)]
	if len(ids) == 0 {
		return 204, nil, nil
	}
	var list amqp.Array
	for _, id := range ids {
		list = append(list, id)
	}
	return 200, amqp.Map{{Key: "skip", Value: skip + int32(len(ids))}, {Key: "sessions-ids", Value: list}}, nil
}
