package servicebus

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dsvmpools/local/fault"
	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// nodePrefix is in front of a node's name where it stands for the link that was
// attached last for its answers; no address begins with it.
const nodePrefix = "\x00"

// request is a message to $cbs or $management.
type request struct {
	conn    *conn
	node    string // $cbs, or a management node, lower case
	id      any
	replyTo string
	props   amqp.Entries
	body    any
}

func readRequest(c *conn, node string, payload []byte) (request, bool) {
	m, err := amqp.ParseMessage(payload)
	if err != nil {
		return request{}, false
	}
	return request{conn: c, node: strings.ToLower(node), id: m.ID(), replyTo: m.ReplyTo(), props: m.Application, body: m.Value()}, true
}

// textOf reads a text, which some clients send as binary.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case amqp.Symbol:
		return string(v)
	}
	return ""
}

// reply answers the request on the link it names.
func (r request) reply(status int32, description string, body any) {
	r.answer(status, "", description, body)
}

// fail answers the request with the name of an error.
func (r request) fail(status int32, condition, description string) {
	r.answer(status, condition, description, nil)
}

func (r request) answer(status int32, condition, description string, body any) {
	b := amqp.Append(nil, amqp.Composite(amqp.CodeProperties, nil, nil, nil, nil, nil, r.id))
	props := amqp.Map{{Key: "statusCode", Value: status}, {Key: "statusDescription", Value: description},
		// Some clients look for the names of the AMQP management draft.
		{Key: "status-code", Value: status}, {Key: "status-description", Value: description}}
	if condition != "" {
		props = append(props, amqp.Pair{Key: "errorCondition", Value: amqp.Symbol(condition)})
	}
	b = amqp.Append(b, amqp.Described{Code: amqp.CodeApplicationProperties, Value: props})
	b = amqp.Append(b, amqp.Described{Code: amqp.CodeValue, Value: body})
	r.conn.mu.Lock()
	l := r.conn.inbox[r.replyTo]
	if l == nil { // a client that names no address has one link for the node's answers
		l = r.conn.inbox[nodePrefix+r.node]
	}
	r.conn.mu.Unlock()
	if l != nil {
		l.answer(b)
	}
}

// putToken takes a claim on $cbs.
func (c *conn) putToken(payload []byte) {
	r, ok := readRequest(c, cbsNode, payload)
	if !ok {
		return
	}
	entity := audiencePath(textOf(r.props.Get("name")))
	o := c.srv.decide(atToken, entity, fault.Refuse, fault.Throttle, fault.Disconnect, fault.Lose)
	if r.faulty(o, 401) {
		return
	}
	rule, expires, err := c.srv.verify(textOf(r.body), entity)
	if err != nil {
		r.reply(401, err.Error(), nil)
		return
	}
	if path := strings.TrimSuffix(entity, managementSuffix); path != "" {
		if e, _ := c.srv.find(path); e == nil {
			r.reply(404, "The messaging entity '"+path+"' could not be found.", nil)
			return
		}
	}
	c.mu.Lock()
	if _, known := c.claims[entity]; !known && len(c.claims) >= maxClaims {
		c.mu.Unlock()
		r.reply(400, "A connection has up to "+strconv.Itoa(maxClaims)+" claims.", nil)
		return
	}
	c.claims[entity] = claim{rule, expires}
	c.mu.Unlock()
	if o.Do == fault.Lose {
		c.cut()
		return
	}
	r.reply(202, "Accepted", nil)
}

// maxClaims bounds the claims of a connection: two for each queue it may use.
const maxClaims = 2 * maxQueues

// faulty carries out what is to go wrong with a request before it is performed.
func (r request) faulty(o fault.Outcome, status int32) bool {
	switch o.Do {
	case fault.Refuse:
		if n, err := strconv.Atoi(o.Code); err == nil {
			status = int32(n)
		}
		r.reply(status, injected, nil)
	case fault.Throttle:
		r.replyBusy()
	case fault.Disconnect:
		r.conn.cut()
	default:
		return false
	}
	return true
}

// replyBusy is how a request is refused when the namespace is throttled.
func (r request) replyBusy() {
	r.fail(503, busyCondition, r.conn.srv.busy())
}

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
	if !c.allowed(e, address+managementSuffix, op.send, !op.send) {
		r.fail(401, "amqp:unauthorized-access", "Unauthorized access. '"+map[bool]string{true: "Send", false: "Listen"}[op.send]+"' claim(s) are required to perform this operation.")
		return
	}
	o := c.srv.decide(atManagement, e.name, fault.Refuse, fault.Throttle, fault.Disconnect, fault.Lose)
	if r.faulty(o, 500) {
		return
	}
	if !e.enabled(op.send) {
		r.fail(400, disabledCondition, "Messaging entity '"+e.name+"' is currently disabled.")
		return
	}
	args, _ := r.body.(amqp.Map)
	m := managed{r, e, q, args}
	if !c.srv.rates.spend(op.cost(m)) {
		r.replyBusy()
		return
	}
	e.touch(c.srv.now())
	status, body, err := op.do(m)
	switch {
	case o.Do == fault.Lose:
		c.cut()
	case errors.Is(err, errSessionLost):
		r.fail(410, sessionLost, "The session lock has expired on the MessageSession. Accept a new MessageSession.")
	case errors.Is(err, queue.ErrLockLost):
		r.fail(410, "com.microsoft:message-lock-lost", "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.")
	case errors.Is(err, queue.ErrNotFound):
		r.fail(404, "com.microsoft:message-not-found", "The message could not be found.")
	case errors.Is(err, queue.ErrGone):
		r.fail(404, "amqp:not-found", "The messaging entity '"+address+"' could not be found.")
	case err != nil:
		r.fail(400, badArgument, err.Error())
	default:
		r.reply(status, "OK", body)
	}
}

// managed is a management operation under way.
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

// cost is what the operation takes of the namespace's credits: one for each
// message that is sent or peeked.
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
		messages, refusal := read(m.e, delivery{payload: raw}, m.e.maxMessage())
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
	outcome := queue.Complete
	switch m.args.Get("disposition-status") {
	case "completed":
	case "abandoned":
		outcome = queue.Abandon
	case "defered":
		outcome = queue.Defer
	case "suspended":
		outcome = queue.DeadLetter
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
		settlements[i] = queue.Settlement{Token: t, Outcome: outcome, Edit: setProperties(set)}
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

// holder finds the receiver that holds the session that peek and receive by
// number are about. Clients name it in the arguments, or only say by the link's
// name which receiver they are; that is known to be azservicebus's way. nil: they
// are about the whole queue.
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

// ofSession is the receiver for the session that the arguments name.
func (m managed) ofSession() (*queue.Receiver, error) {
	id, ok := m.args.Get("session-id").(string)
	if !ok {
		return nil, errArguments
	}
	return m.session(id)
}

func (m managed) renewSession() (int32, any, error) {
	r, err := m.ofSession()
	if err != nil {
		return 0, nil, err
	}
	until, err := r.RenewSession()
	return 200, amqp.Map{{Key: "expiration", Value: until}}, err
}

func (m managed) getState() (int32, any, error) {
	r, err := m.ofSession()
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
	r, err := m.ofSession()
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
	if after.Year() >= 9999 { // the far end of time stands for "all that have messages or state"
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
