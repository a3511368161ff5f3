package servicebus

import (
	"errors"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// manage performs a management operation and answers it.
func (c *conn) manage(e *entity, q *queue.Queue, address string, payload []byte) {
	r, ok := readRequest(c, address+managementSuffix, payload)
	if !ok {
		return
	}
	operation := textOf(r.props.Get("operation"))
	op, known := operations[operation]
	if !known {
		r.fail(501, "amqp:not-implemented", "The operation '"+operation+"' is not known here.")
		return
	}
	if !c.hasClaim(e, address+managementSuffix, op.send, !op.send) {
		r.fail(
			401,
			"amqp:unauthorized-access",
			"Unauthorized access. '"+map[bool]string{true: "Send", false: "Listen"}[op.send]+"' claim(s) are required to perform this operation.",
		)
		return
	}
	o := c.srv.decideFailure(atManagement, e.name, chaos.Refuse, chaos.Throttle, chaos.Disconnect, chaos.Lose)
	if r.injectFailure(o, 500) {
		return
	}
	if !e.enabled(op.send) {
		r.fail(400, disabledCondition, "Messaging entity '"+e.name+"' is currently disabled.")
		return
	}
	if !op.send && e.forwards(q) {
		r.fail(400, "amqp:not-allowed", "Cannot create a message receiver on an entity with auto-forwarding enabled.")
		return
	}
	args, _ := r.body.(amqp.Map)
	m := managed{r, e, q, args}
	if !c.srv.rates.spendOn(ofManagement, op.cost(m)) {
		r.replyBusy()
		return
	}
	e.touch(c.srv.now())
	status, body, err := op.do(m)
	switch {
	case o.Do == chaos.Lose:
		c.disconnect()
	case err != nil:
		r.failWith(err, address)
	default:
		r.reply(status, "OK", body)
	}
}

// failWith answers with the service's form of an error.
func (r request) failWith(err error, address string) {
	switch {
	case errors.Is(err, errSessionLost):
		r.fail(410, sessionLost, "The session lock has expired on the MessageSession. Accept a new MessageSession.")
	case errors.Is(err, queue.ErrLockLost):
		r.fail(
			410,
			lockLost,
			"The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.",
		)
	case errors.Is(err, queue.ErrNotFound):
		r.fail(404, "com.microsoft:message-not-found", "The message could not be found.")
	case errors.Is(err, queue.ErrGone):
		r.fail(404, "amqp:not-found", "The messaging entity '"+address+"' could not be found.")
	default:
		r.fail(400, badArgument, err.Error())
	}
}

// managed is a management operation in progress.
type managed struct {
	request
	e    *entity
	q    *queue.Queue
	args amqp.Map
}

// operation is one management operation and the right it needs.
type operation struct {
	do   func(managed) (int32, any, error)
	send bool
}

// cost is the number of credits that the operation costs: one for each message that
// is sent or peeked.
func (o operation) cost(m managed) int {
	if n, ok := m.args.Get("message-count").(int32); ok {
		return min(max(int(n), 1), maxPeeked)
	}
	if list, ok := m.args.Get("messages").(amqp.List); ok {
		return max(len(list), 1)
	}
	return 1
}

var operations = map[string]operation{
	"com.microsoft:renew-lock":                 {do: managed.renewLock},
	"com.microsoft:peek-message":               {do: managed.peek},
	"com.microsoft:schedule-message":           {do: managed.schedule, send: true},
	"com.microsoft:cancel-scheduled-message":   {do: managed.cancelScheduled, send: true},
	"com.microsoft:receive-by-sequence-number": {do: managed.fetch},
	"com.microsoft:update-disposition":         {do: managed.dispose},
	"com.microsoft:renew-session-lock":         {do: managed.renewSession},
	"com.microsoft:get-session-state":          {do: managed.getState},
	"com.microsoft:set-session-state":          {do: managed.setState},
	"com.microsoft:get-message-sessions":       {do: managed.listSessions},
}

var errArguments = errors.New("the arguments of the operation are not of the expected form")

// Bounds of what one operation takes or returns.
const (
	maxListed = 5000
	maxPeeked = 250
)

// tokens reads the lock-tokens argument.
func (m managed) tokens() ([]queue.Token, error) {
	values, _ := m.args.Get("lock-tokens").(amqp.Array)
	var out []queue.Token
	for _, v := range values {
		id, ok := v.(amqp.UUID)
		if !ok || len(out) >= maxListed {
			return nil, errArguments
		}
		out = append(out, queue.Token(id))
	}
	if len(out) == 0 {
		return nil, errArguments
	}
	return out, nil
}

func (m managed) seqs() ([]int64, error) {
	values, _ := m.args.Get("sequence-numbers").(amqp.Array)
	var out []int64
	for _, v := range values {
		n, ok := v.(int64)
		if !ok || len(out) >= maxListed {
			return nil, errArguments
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, errArguments
	}
	return out, nil
}

func (m managed) renewLock() (int32, any, error) {
	tokens, err := m.tokens()
	if err != nil {
		return 0, nil, err
	}
	var until amqp.Array
	for _, t := range tokens {
		at, err := m.q.Renew(t)
		if err != nil {
			return 0, nil, err
		}
		until = append(until, at)
	}
	return 200, amqp.Map{{Key: "expirations", Value: until}}, nil
}

func (m managed) peek() (int32, any, error) {
	from, _ := m.args.Get("from-sequence-number").(int64)
	n, ok := m.args.Get("message-count").(int32)
	if !ok || n <= 0 {
		return 0, nil, errArguments
	}
	var session *string
	holder, err := m.holder()
	if err != nil {
		return 0, nil, err
	}
	if holder != nil {
		id := holder.Session()
		session = &id
	}
	messages, err := m.q.Peek(from, min(int(n), maxPeeked), maxMessageSize, session)
	if err != nil {
		return 0, nil, err
	}
	var list amqp.List
	for _, msg := range messages {
		b, err := encodeMessage(msg, false)
		if err != nil {
			return 0, nil, err
		}
		list = append(list, amqp.Map{{Key: "message", Value: b}})
	}
	if len(list) == 0 {
		return 204, nil, nil
	}
	return 200, amqp.Map{{Key: "messages", Value: list}}, nil
}

func (m managed) schedule() (int32, any, error) {
	list, _ := m.args.Get("messages").(amqp.List)
	var all []queue.New
	for _, v := range list {
		entry, _ := v.(amqp.Map)
		raw, ok := entry.Get("message").([]byte)
		if !ok {
			return 0, nil, errArguments
		}
		messages, refusal := readMessages(m.e, delivery{payload: raw}, m.e.maxMessage())
		if refusal != nil {
			return 0, nil, errors.New("a message exceeds the limits of the queue")
		}
		all = append(all, messages...)
	}
	if len(all) == 0 {
		return 0, nil, errArguments
	}
	if m.q.DeadLetters() == nil {
		return 0, nil, errors.New("a dead-letter queue cannot be sent to")
	}
	seqs, err := m.q.Send(all...)
	if err != nil {
		return 0, nil, err
	}
	m.conn.srv.sent.Add(int64(len(all)))
	var out amqp.Array
	for _, s := range seqs {
		out = append(out, s)
	}
	return 200, amqp.Map{{Key: "sequence-numbers", Value: out}}, nil
}

func (m managed) cancelScheduled() (int32, any, error) {
	seqs, err := m.seqs()
	if err != nil {
		return 0, nil, err
	}
	return 200, nil, m.q.CancelScheduled(seqs)
}

func (m managed) fetch() (int32, any, error) {
	seqs, err := m.seqs()
	if err != nil {
		return 0, nil, err
	}
	mode, _ := m.args.Get("receiver-settle-mode").(uint32)
	holder, err := m.holder()
	if err != nil {
		return 0, nil, err
	}
	messages, err := m.q.Fetch(seqs, holder, mode == 0)
	if err != nil {
		return 0, nil, err
	}
	var list amqp.List
	for _, msg := range messages {
		b, err := encodeMessage(msg, mode != 0)
		if err != nil {
			return 0, nil, err
		}
		list = append(list, amqp.Map{{Key: "lock-token", Value: amqp.UUID(msg.Token)}, {Key: "message", Value: b}})
	}
	return 200, amqp.Map{{Key: "messages", Value: list}}, nil
}

func (m managed) dispose() (int32, any, error) {
	tokens, err := m.tokens()
	if err != nil {
		return 0, nil, err
	}
	set, _ := m.args.Get("properties-to-modify").(amqp.Map)
	disposition := queue.Complete
	switch m.args.Get("disposition-status") {
	case "completed":
	case "abandoned":
		disposition = queue.Abandon
	case "defered":
		disposition = queue.Defer
	case "suspended":
		disposition = queue.DeadLetter
		if v, ok := m.args.Get("deadletter-reason").(string); ok {
			set = set.With(deadReason, v)
		}
		if v, ok := m.args.Get("deadletter-description").(string); ok {
			set = set.With(deadDescription, v)
		}
	default:
		return 0, nil, errArguments
	}
	settlements := make([]queue.Settlement, len(tokens))
	for i, t := range tokens {
		settlements[i] = queue.Settlement{Token: t, Disposition: disposition, Edit: setProperties(set)}
	}
	var first error
	for _, err := range m.q.Settle(settlements) {
		if err == nil {
			m.conn.srv.settled.Add(1)
		} else if first == nil {
			first = err
		}
	}
	return 200, nil, first
}
