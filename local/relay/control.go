package relay

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/relay/frames"
)

type closeStatus = websocket.StatusCode

// What the service closes a WebSocket with.
const (
	statusGone    = websocket.StatusGoingAway       // the entity, or the sender
	statusExpired = websocket.StatusPolicyViolation // the token
	statusBroken  = websocket.StatusInternalError
)

// control is the control channel of a listener.
type control struct {
	entity   *entity
	socket   *websocket.Conn
	address  string // scheme and host by which the listener has come
	ctx      context.Context
	stop     context.CancelFunc
	expiry   *time.Timer
	ready    chan struct{} // closed when socket is there
	isMute   atomic.Bool   // forgotten: pings are not answered
	sending  sync.Mutex    // held for a message with its body
	answers  map[string]chan *answer
	guarding sync.Mutex // guards answers
}

// answer is what a listener has answered to a request on its control channel.
type answer struct {
	head response
	body []byte
}

// fromListener is a message of a listener.
type fromListener struct {
	Renew *struct {
		Token string `json:"token"`
	} `json:"renewToken"`
	Response *response `json:"response"`
}

// listen takes a listener, and serves its control channel until that ends.
func (s *Server) listen(w http.ResponseWriter, r *http.Request, e *entity) {
	if s.fails(w, "listen", e) {
		return
	}
	until, denied := s.verify(tokenOf(r, e), e, toListen)
	if denied != nil {
		refuse(w, denied.status, denied.reason)
		return
	}
	c := &control{entity: e, address: addressOf(r), answers: map[string]chan *answer{}, ready: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(s.ctx)
	defer c.stop()
	// It is there before its client can know: a sender of that client may come at once.
	if !s.add(c) {
		refuse(w, http.StatusForbidden, "QuotaExceeded: the hybrid connection has 25 listeners")
		return
	}
	defer s.remove(c)
	var err error
	c.socket, err = websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the door in front of this handler has looked at the origin
		OnPingReceived:     func(context.Context, []byte) bool { return !c.isMute.Load() },
	})
	if err != nil {
		return // the client has its answer
	}
	defer func() { _ = c.socket.CloseNow() }()
	c.socket.SetReadLimit(maxMessage + maxHeader)
	close(c.ready)
	c.expiry = time.AfterFunc(until.Sub(s.now()), func() { c.end(statusExpired, "the token has expired") })
	defer c.expiry.Stop()
	s.serve(c)
}

// add makes a control channel one of its entity.
func (s *Server) add(c *control) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(c.entity.controls) >= maxListeners || !s.has(c.entity) {
		return false
	}
	c.entity.controls = append(c.entity.controls, c)
	return true
}

func (s *Server) has(e *entity) bool {
	for _, there := range s.entities {
		if there == e {
			return true
		}
	}
	return false
}

func (s *Server) remove(c *control) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.entity.controls = slices.DeleteFunc(c.entity.controls, func(other *control) bool { return other == c })
}

// forget removes a control channel, and leaves its client in the belief that it listens.
func (s *Server) forget(c *control) {
	c.isMute.Store(true)
	s.remove(c)
}

// serve reads what a listener says. A message that cannot be read ends the channel; a body that
// nobody waits for is dropped, since hyco-https sends one without announcing it.
func (s *Server) serve(c *control) {
	var head *response
	for {
		kind, text, err := c.socket.Read(c.ctx)
		if err != nil {
			return
		}
		if c.isMute.Load() {
			continue
		}
		if kind == websocket.MessageBinary {
			if head != nil {
				c.give(&answer{head: *head, body: text})
			}
			head = nil
			continue
		}
		message, err := parseFromListener(text)
		switch {
		case err != nil:
			c.end(statusBroken, "a message of the listener cannot be read")
			return
		case message.Renew != nil:
			until, denied := s.verify(message.Renew.Token, c.entity, toListen)
			if denied != nil {
				c.end(statusExpired, denied.reason)
				return
			}
			c.expiry.Reset(until.Sub(s.now()))
		case message.Response != nil && message.Response.Body:
			head = message.Response
		case message.Response != nil:
			c.give(&answer{head: *message.Response})
		}
	}
}

func parseFromListener(text []byte) (fromListener, error) {
	var m fromListener
	err := json.Unmarshal(text, &m)
	return m, err
}

// give hands an answer to the request that waits for it; otherwise it is dropped.
func (c *control) give(a *answer) {
	c.guarding.Lock()
	defer c.guarding.Unlock()
	if waits := c.answers[a.head.RequestID]; waits != nil {
		delete(c.answers, a.head.RequestID)
		waits <- a // has room for one
	}
}

// await registers a request; the function returned forgets it.
func (c *control) await(id string) (<-chan *answer, func()) {
	waits := make(chan *answer, 1)
	c.guarding.Lock()
	defer c.guarding.Unlock()
	c.answers[id] = waits
	return waits, func() {
		c.guarding.Lock()
		defer c.guarding.Unlock()
		delete(c.answers, id)
	}
}

// send sends a message, and its body if that is not nil. A listener that does not read has its
// channel ended.
func (s *Server) send(c *control, message any, body []byte) bool {
	switch s.cfg.Chaos.Decide(chaos.Call{Server: chaosServer, Operation: "control", Entity: c.entity.Name}, chaos.Detach, chaos.Stick).Do {
	case chaos.Detach:
		c.end(statusBroken, "the control channel is dropped on demand")
		return false
	case chaos.Stick:
		s.forget(c)
		return true
	}
	text, err := json.Marshal(message)
	if err != nil || !c.isReady() {
		return false
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, sendTime)
	defer cancel()
	if err = c.socket.Write(ctx, websocket.MessageText, text); err == nil && body != nil {
		err = c.socket.Write(ctx, websocket.MessageBinary, body)
	}
	if err != nil {
		c.stop()
	}
	return err == nil
}

// isReady waits until the channel is there. It is false when that has ended.
func (c *control) isReady() bool {
	select {
	case <-c.ready:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// end closes the channel with a word.
func (c *control) end(status closeStatus, reason string) {
	if !c.isReady() {
		return
	}
	_ = c.socket.Close(status, frames.Reason(reason))
	c.stop()
}

// addressOf is the scheme and host by which a client has come, for addresses that it gets.
func addressOf(r *http.Request) string {
	scheme := "ws"
	if r.TLS != nil {
		scheme = "wss"
	}
	return scheme + "://" + r.Host
}

// chaosServer is the name of this server in injections.
const chaosServer = "relay"

// fails answers as an injection says, and reports whether it has.
func (s *Server) fails(w http.ResponseWriter, operation string, e *entity) bool {
	v := s.cfg.Chaos.Decide(chaos.Call{Server: chaosServer, Operation: operation, Entity: e.Name},
		chaos.Delay, chaos.Refuse, chaos.Throttle, chaos.Disconnect)
	switch v.Do {
	case chaos.Delay:
		select {
		case <-time.After(v.Delay):
		case <-s.ctx.Done():
		}
		return false
	case chaos.Refuse:
		refuse(w, http.StatusInternalServerError, "InternalError: an injection says so")
	case chaos.Throttle:
		refuse(w, http.StatusServiceUnavailable, "ServerBusy: an injection says so")
	case chaos.Disconnect:
		panic(http.ErrAbortHandler) // the connection ends without an answer
	default:
		return false
	}
	return true
}
