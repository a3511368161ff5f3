package relay

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"dsvmpools/shared/plain"
	"dsvmpools/shared/relay/frames"
)

// waiting is a sender, or a request, whose listener is to come to an address.
type waiting struct {
	action string
	met    chan meeting // has room for one
}

// meeting is how a listener has come to an address: with a WebSocket, or to reject.
type meeting struct {
	socket *websocket.Conn
	done   chan struct{} // closed when the socket is used no more
	status int           // of a rejection; 0 = accepted
	reason string
}

// acceptMessage tells a listener of a sender.
type acceptMessage struct {
	Accept acceptBody `json:"accept"`
}

type acceptBody struct {
	Address string            `json:"address"`
	ID      string            `json:"id"`
	Headers map[string]string `json:"connectHeaders"`
}

// expect makes an address for one meeting, on the path by which a sender has come, and the id of
// that sender. cancel forgets the address.
func (s *Server) expect(c *control, r *http.Request, action string) (address, id string, w *waiting, cancel func()) {
	id = r.URL.Query().Get("sb-hc-id")
	if id == "" || len(id) > 100 {
		id = uuid.NewString()
	}
	secret := rand.Text()
	query := strippedQuery(r.URL.RawQuery)
	if query != "" {
		query += "&"
	}
	query += "sb-hc-action=" + action + "&sb-hc-id=" + url.QueryEscape(id) + "&sb-hc-secret=" + secret
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	path = strings.TrimPrefix(strings.TrimPrefix(path, "$hc/"), "%24hc/")
	w = &waiting{action: action, met: make(chan meeting, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[secret] = w
	return c.address + socketPath + path + "?" + query, id, w, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, secret)
	}
}

// strippedQuery is a query without what is the relay's own.
func strippedQuery(raw string) string {
	var rest []string
	for part := range strings.SplitSeq(raw, "&") {
		if part != "" && !strings.HasPrefix(strings.ToLower(part), "sb-hc-") {
			rest = append(rest, part)
		}
	}
	return strings.Join(rest, "&")
}

// connect takes a sender: it is joined with a listener, or gets that one's rejection.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, e *entity) {
	if s.fails(w, "connect", e) {
		return
	}
	if !e.Anonymous {
		if _, denied := s.verify(tokenOf(r, e), e, toSend); denied != nil {
			refuse(w, denied.status, denied.reason)
			return
		}
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		refuse(w, http.StatusBadRequest, "this path is for WebSockets")
		return
	}
	c := s.pick(e)
	if c == nil {
		refuse(w, http.StatusNotFound, "EndpointNotFound: nobody listens at this hybrid connection")
		return
	}
	address, id, waits, cancel := s.expect(c, r, "accept")
	defer cancel()
	if !s.send(c, acceptMessage{acceptBody{address, id, connectHeaders(r, e)}}, nil) {
		refuse(w, http.StatusNotFound, "EndpointNotFound: the listener has gone")
		return
	}
	late := time.NewTimer(s.times.accept)
	defer late.Stop()
	select {
	case m := <-waits.met:
		if m.status != 0 {
			refuse(w, m.status, m.reason)
			return
		}
		s.join(w, r, m)
	case <-late.C:
		refuse(w, http.StatusGatewayTimeout, "the listener has not come")
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
}

// join accepts a sender, with the sub-protocol of its listener, and carries messages both ways
// until one of them ends.
func (s *Server) join(w http.ResponseWriter, r *http.Request, m meeting) {
	defer close(m.done)
	options := &websocket.AcceptOptions{InsecureSkipVerify: true}
	if p := m.socket.Subprotocol(); p != "" {
		options.Subprotocols = []string{p}
	}
	sender, err := websocket.Accept(w, r, options)
	if err != nil {
		_ = m.socket.Close(statusGone, "the sender has gone")
		return
	}
	sender.SetReadLimit(-1)
	count := func(n int) { s.joined.Add(int64(n)) }
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := frames.Copy(ctx, sender, m.socket, count, nil)
		s.close(sender, err, websocket.StatusNormalClosure, "the listener has shut down the socket")
	}()
	err = frames.Copy(ctx, m.socket, sender, count, nil)
	s.close(m.socket, err, statusGone, "the sender has shut down the connection")
	<-done
}

// close ends one side of a connection, whose other side has ended with err: with this status, if
// that one has closed it, so that what broke off does not look like an end.
func (s *Server) close(socket *websocket.Conn, err error, status closeStatus, reason string) {
	switch {
	case s.ctx.Err() != nil:
		_ = socket.CloseNow()
	case websocket.CloseStatus(err) == -1:
		_ = socket.Close(statusBroken, "the other side has broken off")
	default:
		_ = socket.Close(status, reason)
	}
}

// meet takes a listener that comes to an address that it was given.
func (s *Server) meet(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	waits := s.waiting[q.Get("sb-hc-secret")]
	isGood := waits != nil && waits.action == q.Get("sb-hc-action")
	if isGood {
		delete(s.waiting, q.Get("sb-hc-secret"))
	}
	s.mu.Unlock()
	if !isGood {
		refuse(w, http.StatusForbidden, "the address is not valid: each is for one use, within 30 s")
		return
	}
	if code := firstOf(q, "sb-hc-statusCode", "statusCode"); code != "" && waits.action == "accept" {
		status, err := strconv.Atoi(code)
		if err != nil || status < 400 || status > 599 {
			status = http.StatusForbidden
		}
		reason := plain.Line(firstOf(q, "sb-hc-statusDescription", "statusDescription"))
		waits.met <- meeting{status: status, reason: plain.Clip(reason, longestReason)}
		refuse(w, http.StatusGone, "the sender was rejected")
		return
	}
	options := &websocket.AcceptOptions{InsecureSkipVerify: true}
	if offered := r.Header.Get("Sec-WebSocket-Protocol"); offered != "" {
		options.Subprotocols = strings.Split(strings.ReplaceAll(offered, " ", ""), ",")
	}
	socket, err := websocket.Accept(w, r, options)
	if err != nil {
		return
	}
	socket.SetReadLimit(-1)
	m := meeting{socket: socket, done: make(chan struct{})}
	waits.met <- m
	select {
	case <-m.done:
	case <-time.After(s.times.accept): // nobody took it, unless the sender is joined
		select {
		case left := <-waits.met:
			_ = left.socket.Close(statusGone, "the sender has gone")
		case <-m.done:
		}
	}
}

func firstOf(q url.Values, names ...string) string {
	for _, name := range names {
		if q.Get(name) != "" {
			return q.Get(name)
		}
	}
	return ""
}

// longestReason bounds what is passed on of a reason, in bytes.
const longestReason = 200

// ofConnection are the headers that are between client and relay, and not passed on.
var ofConnection = []string{
	"Connection", "Content-Length", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Close", "Keep-Alive", "Proxy-Connection",
}

// connectHeaders are the headers of a sender, with those of its WebSocket and without its token.
func connectHeaders(r *http.Request, e *entity) map[string]string {
	headers := headersOf(r, e)
	headers["Connection"], headers["Upgrade"] = "Upgrade", "websocket"
	return headers
}

// headersOf are the headers of a request that a listener gets: none of the connection, and no
// token.
func headersOf(r *http.Request, e *entity) map[string]string {
	headers := map[string]string{}
	for name, values := range r.Header {
		if slices.Contains(ofConnection, name) || strings.EqualFold(name, "ServiceBusAuthorization") {
			continue
		}
		separator := ", "
		if name == "Cookie" {
			separator = "; "
		}
		headers[name] = strings.Join(values, separator)
	}
	isOwn := r.URL.Query().Get("sb-hc-token") != "" || r.Header.Get("ServiceBusAuthorization") != ""
	if !e.Anonymous && !isOwn {
		delete(headers, "Authorization") // it was the token
	}
	return headers
}
