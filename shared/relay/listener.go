package relay

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
)

// Times and limits of a listener.
const (
	firstPause = 500 * time.Millisecond // before it connects again
	lastPause  = 30 * time.Second
	goodAfter  = time.Minute // a channel that lived so long was no failure
	sendTime   = 20 * time.Second
	usualMost  = 200 // connections and requests at a time
)

// Listener takes what comes to one entity. The zero values of all fields but Address and
// Token do.
type Listener struct {
	Address string // wss://NAMESPACE/$hc/ENTITY
	// Token returns the token to listen with. It is asked before each connection and at each
	// ping: another one than before is sent to the namespace, so that the channel goes on.
	Token func() string
	// Socket takes a sender's WebSocket: it calls Accept or Reject once. nil = all are rejected.
	Socket func(context.Context, *Incoming)
	// Request answers requests of HTTP. Their Host is that of the namespace. nil = none is.
	Request http.Handler
	// Most is how many connections and requests there may be at a time; more are refused.
	// 0 = 200.
	Most int
	// State is told when the listener listens (nil), and why it does not.
	State func(error)
	Log   *slog.Logger

	pingEvery time.Duration // 0 = 30 s
	pingTime  time.Duration // 0 = 20 s

	entity string
	host   string
	places chan struct{}
	taken  sync.WaitGroup
}

// Run listens until ctx ends, and returns when all that it has taken has ended, too. It
// connects again whenever the control channel ends, and then goes on with what was there:
// connections do not depend on the channel.
func (l *Listener) Run(ctx context.Context) error {
	u, err := url.Parse(l.Address)
	if _, wrong := addressWith(l.Address, "listen"); err != nil || wrong != nil {
		return errors.Join(err, wrong)
	}
	l.entity, l.host = strings.Trim(strings.TrimPrefix(u.Path, socketPath), "/"), u.Host
	if l.Log == nil {
		l.Log = slog.New(slog.DiscardHandler)
	}
	if l.State == nil {
		l.State = func(error) {}
	}
	most := l.Most
	if most == 0 {
		most = usualMost
	}
	if l.pingEvery == 0 {
		l.pingEvery, l.pingTime = pingEvery, pingTime
	}
	l.places = make(chan struct{}, most)
	defer l.taken.Wait()
	for failures := 1; ; failures++ {
		began := time.Now()
		err := l.listen(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.State(err)
		l.Log.Info("the relay's control channel has ended", "entity", l.entity, "error", err)
		if time.Since(began) > goodAfter {
			failures = 1
		}
		pause := backoff.After(failures, firstPause, lastPause)
		select {
		case <-time.After(pause/2 + rand.N(pause)): // many nodes do not come at once
		case <-ctx.Done():
			return nil
		}
	}
}

// channel is a control channel.
type channel struct {
	socket  *websocket.Conn
	ctx     context.Context // ends with the channel
	sending sync.Mutex      // held for a message with its body
}

// listen opens a control channel and serves it to its end.
func (l *Listener) listen(ctx context.Context) error {
	token := l.Token()
	address, err := addressWith(l.Address, "listen")
	if err != nil {
		return err
	}
	socket, err := dial(ctx, address, token, "")
	if err != nil {
		return err
	}
	defer func() { _ = socket.CloseNow() }()
	socket.SetReadLimit(maxMessage)
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := &channel{socket: socket, ctx: inner}
	l.State(nil)
	go func() { stop(l.keep(c, token)) }()
	err = l.serve(ctx, c)
	if cause := context.Cause(inner); cause != nil && ctx.Err() == nil {
		return cause
	}
	return err
}

// keep pings, and sends a token that has come anew. It returns why the channel cannot be used.
func (l *Listener) keep(c *channel, token string) error {
	tick := time.NewTicker(l.pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return nil
		}
		if now := l.Token(); now != token {
			var m renewMessage
			m.Renew.Token, token = now, now
			if err := c.send(m, nil); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(c.ctx, l.pingTime)
		err := c.socket.Ping(ctx)
		cancel()
		if err != nil && c.ctx.Err() == nil {
			return fault.New(fault.Internal, "", "the relay does not answer any more")
		}
	}
}

// send sends a message, and its body if that is not nil.
func (c *channel) send(m any, body []byte) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, sendTime)
	defer cancel()
	if err := c.socket.Write(ctx, websocket.MessageText, text); err != nil || body == nil {
		return err
	}
	return c.socket.Write(ctx, websocket.MessageBinary, body)
}

// serve takes what the namespace tells. ctx is the listener's: what is taken outlives the
// channel.
func (l *Listener) serve(ctx context.Context, c *channel) error {
	secure := strings.HasPrefix(l.Address, "wss:")
	for {
		kind, text, err := c.socket.Read(c.ctx)
		if err != nil {
			return closed(err)
		}
		if kind != websocket.MessageText {
			continue
		}
		m, err := parseMessage(text, secure)
		if err != nil {
			return err
		}
		switch {
		case m.Accept != nil:
			l.take(ctx, func(ctx context.Context) { l.Socket(ctx, l.incoming(m.Accept)) }, l.Socket != nil,
				func(status int) { _ = l.incoming(m.Accept).Reject(ctx, status, "") })
		case m.Request != nil && m.Request.Method == "":
			l.take(ctx, func(ctx context.Context) { l.comeFor(ctx, m.Request.Address) }, l.Request != nil, func(int) {})
		case m.Request != nil:
			var body []byte
			if m.Request.Body {
				if _, body, err = c.socket.Read(c.ctx); err != nil {
					return closed(err)
				}
			}
			l.take(ctx, func(ctx context.Context) { l.answer(ctx, c, m.Request, body) }, l.Request != nil,
				func(status int) { refuseRequest(c, m.Request, status) })
		}
	}
}

// closed makes a sentence of the end of a control channel.
func closed(err error) error {
	var end websocket.CloseError
	if errors.As(err, &end) {
		code := fault.Internal
		if end.Code == websocket.StatusPolicyViolation {
			code = fault.Forbidden
		}
		return fault.New(code, "", "the relay has closed the control channel: %s", end.Reason)
	}
	return err
}

// take has something done beside the channel, if there is a place; otherwise it is refused.
func (l *Listener) take(ctx context.Context, do func(context.Context), isTaken bool, refuse func(status int)) {
	if !isTaken {
		l.taken.Go(func() { refuse(http.StatusNotFound) })
		return
	}
	select {
	case l.places <- struct{}{}:
		l.taken.Go(func() {
			defer func() { <-l.places }()
			do(ctx)
		})
	default:
		l.Log.Warn("too many connections at once; one was refused", "entity", l.entity)
		refuse(http.StatusServiceUnavailable)
	}
}

// Incoming is a sender that waits, for 30 s at most, to be accepted or rejected.
type Incoming struct {
	Suffix string      // what follows the entity in the path: "/ssh"
	Query  string      // without what is the relay's own
	Header http.Header // of the sender's handshake
	ID     string
	addr   string
}

func (l *Listener) incoming(m *acceptMessage) *Incoming {
	suffix, query := suffixOf(m.Address, l.entity)
	return &Incoming{Suffix: suffix, Query: query, Header: headersOf(m.Headers), ID: m.ID, addr: m.Address}
}

// Accept joins with the sender, by one of the sub-protocols that it has offered; "" = none.
// Frames of any length come and go.
func (in *Incoming) Accept(ctx context.Context, protocol string) (*websocket.Conn, error) {
	socket, err := dial(ctx, in.addr, "", protocol)
	if err == nil {
		socket.SetReadLimit(-1)
	}
	return socket, err
}

// AcceptStream joins with a sender that has called Dial.
func (in *Incoming) AcceptStream(ctx context.Context) (net.Conn, error) {
	socket, err := in.Accept(ctx, "")
	if err != nil {
		return nil, err
	}
	return &stream{websocket.NetConn(context.Background(), socket, websocket.MessageBinary)}, nil
}

// Reject has the sender get a status of HTTP and a reason.
func (in *Incoming) Reject(ctx context.Context, status int, reason string) error {
	if reason == "" {
		reason = http.StatusText(status)
	}
	address := in.addr + "&sb-hc-statusCode=" + strconv.Itoa(status) + "&sb-hc-statusDescription=" + url.QueryEscape(reason)
	socket, err := dial(ctx, address, "", "")
	if err == nil {
		_ = socket.CloseNow()
		return fault.New(fault.Internal, "", "the relay has joined a sender that was rejected")
	}
	if fault.CodeOf(err) == fault.Gone {
		return nil // as it should be
	}
	return err
}

// writeText sends a message at the address of a request.
func writeText(ctx context.Context, socket *websocket.Conn, m any) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return socket.Write(ctx, websocket.MessageText, text)
}
