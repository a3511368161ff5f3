package servicebus

import (
	"strconv"
	"strings"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
)

// nodePrefix and the name of a node are the key of the link that was attached last
// for the answers of the node; no address begins with it.
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

// textOf reads a text; some clients send it as binary.
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

// putToken handles a claim on $cbs.
func (c *conn) putToken(payload []byte) {
	r, ok := readRequest(c, cbsNode, payload)
	if !ok {
		return
	}
	entity := strings.ToLower(strings.Trim(entityPath(textOf(r.props.Get("name"))), "/"))
	o := c.srv.decideFailure(atToken, entity, chaos.Refuse, chaos.Throttle, chaos.Disconnect, chaos.Lose)
	if r.injectFailure(o, 401) {
		return
	}
	rule, expires, err := c.srv.verifyToken(textOf(r.body), entity)
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
	if o.Do == chaos.Lose {
		c.disconnect()
		return
	}
	r.reply(202, "Accepted", nil)
}

// maxClaims bounds the claims of a connection: two for each queue it may use.
const maxClaims = 2 * maxQueues

// injectFailure does what an injection says about a request before it is performed.
func (r request) injectFailure(o chaos.Verdict, status int32) bool {
	switch o.Do {
	case chaos.Refuse:
		if n, err := strconv.Atoi(o.Code); err == nil {
			status = int32(n)
		}
		r.reply(status, injected, nil)
	case chaos.Throttle:
		r.replyBusy()
	case chaos.Disconnect:
		r.conn.disconnect()
	default:
		return false
	}
	return true
}

// replyBusy refuses a request because the namespace is throttled.
func (r request) replyBusy() {
	r.fail(503, busyCondition, r.conn.srv.busy())
}
