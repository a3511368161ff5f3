package servicebus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

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
	b := amqp.Append(nil, amqp.Composite(amqp.CodeProperties, nil, nil, nil, nil, nil, r.id))
	b = amqp.Append(b, amqp.Described{Code: amqp.CodeApplicationProperties, Value: amqp.Map{
		{Key: "statusCode", Value: status}, {Key: "statusDescription", Value: description},
		// Some clients look for the names of the AMQP management draft.
		{Key: "status-code", Value: status}, {Key: "status-description", Value: description}}})
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
	token, name := textOf(r.body), textOf(r.props.Get("name"))
	entity := strings.ToLower(strings.Trim(entityPath(name), "/"))
	rule, expires, err := c.srv.verify(token, entity)
	if err != nil {
		r.reply(401, err.Error(), nil)
		return
	}
	if path := strings.TrimSuffix(entity, managementSuffix); path != "" && c.srv.broker.Queue(path) == nil {
		r.reply(404, "The messaging entity '"+path+"' could not be found.", nil)
		return
	}
	c.mu.Lock()
	c.claims[entity] = claim{rule, expires}
	c.mu.Unlock()
	r.reply(202, "Accepted", nil)
}

// errToken is the answer to anything that is not a SAS token signed with a known
// key; what the client says of the token's type is not looked at.
var errToken = errors.New("InvalidSignature: The token has an invalid signature.")

// verify checks a SAS token: its signature, its time and its audience.
func (s *Server) verify(token, entity string) (Rule, time.Time, error) {
	const maxToken = 8 << 10
	rest, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok || len(token) > maxToken {
		return Rule{}, time.Time{}, errToken
	}
	parts := map[string]string{}
	for _, p := range strings.Split(rest, "&") {
		k, v, _ := strings.Cut(p, "=")
		parts[k] = v
	}
	sig, err1 := url.QueryUnescape(parts["sig"])
	name, err2 := url.QueryUnescape(parts["skn"])
	audience, err3 := url.QueryUnescape(parts["sr"])
	until, err4 := strconv.ParseInt(parts["se"], 10, 64)
	if errors.Join(err1, err2, err3, err4) != nil {
		return Rule{}, time.Time{}, errToken
	}
	rule, known := s.rules[name]
	mac := hmac.New(sha256.New, []byte(rule.Key))
	mac.Write([]byte(parts["sr"] + "\n" + parts["se"]))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(sig)) || !known {
		return Rule{}, time.Time{}, errToken
	}
	expires := time.Unix(until, 0)
	if !s.now().Before(expires) {
		return Rule{}, time.Time{}, errors.New("ExpiredToken: The token is expired. Expiration time: " + expires.UTC().Format(time.RFC1123))
	}
	if path := strings.ToLower(strings.Trim(entityPath(audience), "/")); path != "" && path != entity && !strings.HasPrefix(entity, path+"/") {
		return Rule{}, time.Time{}, errors.New("InvalidAudience: The token is for another entity.")
	}
	return rule, expires, nil
}

// manage performs a management operation and answers it.
func (c *conn) manage(q *queue.Queue, entity string, payload []byte) {
	r, ok := readRequest(c, entity+managementSuffix, payload)
	if !ok {
		return
	}
	operation := textOf(r.props.Get("operation"))
	op, known := operations[operation]
	if !known {
		r.reply(501, "The operation '"+operation+"' is not known here.", nil)
		return
	}
	if !c.allowed(entity, op.send, !op.send) {
		r.reply(401, "Unauthorized access. '"+map[bool]string{true: "Send", false: "Listen"}[op.send]+"' claim(s) are required to perform this operation.", nil)
		return
	}
	args, _ := r.body.(amqp.Map)
	status, body, err := op.do(managed{r, q, args})
	switch {
	case errors.Is(err, queue.ErrLockLost):
		r.reply(410, "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.", nil)
	case errors.Is(err, queue.ErrNotFound):
		r.reply(404, "The message could not be found.", nil)
	case err != nil:
		r.reply(400, err.Error(), nil)
	default:
		r.reply(status, "OK", body)
	}
}

// managed is a management operation under way.
type managed struct {
	request
	q    *queue.Queue
	args amqp.Map
}

// operation is one management operation and the right it needs.
type operation struct {
	do   func(managed) (int32, any, error)
	send bool
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
	if id, ok := m.args.Get("session-id").(string); ok {
		if _, err := m.session(id); err != nil {
			return 0, nil, err
		}
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
		messages, refusal := read(m.q, delivery{payload: raw})
		if refusal != nil {
			return 0, nil, errors.New("a message exceeds the limits of the queue")
		}
		all = append(all, messages...)
	}
	if len(all) == 0 {
		return 0, nil, errArguments
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
	var holder *queue.Receiver
	if id, ok := m.args.Get("session-id").(string); ok {
		if holder, err = m.session(id); err != nil {
			return 0, nil, err
		}
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
	return nil, queue.ErrLockLost
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
