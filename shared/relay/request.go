package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/intake"
)

// maxOnControl is the largest body on a control channel.
const maxOnControl = 64 << 10

// answer has a request answered that came on the control channel: there too, if the answer is
// small, and otherwise at the address of the request.
func (l *Listener) answer(ctx context.Context, c *channel, m *requestMessage, body []byte) {
	w := &writer{ctx: ctx, id: m.ID, address: m.Address, channel: c, header: http.Header{}}
	l.handle(ctx, w, m, bytes.NewReader(body))
}

// comeFor answers the requests at an address, until the namespace closes it.
func (l *Listener) comeFor(ctx context.Context, address string) {
	socket, err := dial(ctx, address, "", "")
	if err != nil {
		return
	}
	defer func() { _ = socket.CloseNow() }()
	socket.SetReadLimit(-1) // of a body, which is never in memory as a whole
	for l.answerAt(ctx, socket) {
	}
}

// answerAt answers one request at an address, and reports whether another one may come there.
func (l *Listener) answerAt(ctx context.Context, socket *websocket.Conn) (isOpen bool) {
	kind, in, err := socket.Reader(ctx)
	if err != nil || kind != websocket.MessageText {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(in, maxMessage))
	if err != nil {
		return false
	}
	m, err := parseMessage(text, strings.HasPrefix(l.Address, "wss:"))
	if err != nil || m.Request == nil || m.Request.Method == "" {
		return false
	}
	w := &writer{ctx: ctx, id: m.Request.ID, socket: socket, header: http.Header{}}
	var body io.Reader = http.NoBody
	if m.Request.Body {
		reading, stop := context.WithCancel(ctx)
		defer stop()
		w.body = &addressBody{socket: socket, reading: reading, stop: stop}
		body = w.body
	}
	if !l.handle(ctx, w, m.Request, body) {
		return false
	}
	_, err = io.CopyN(io.Discard, body, mostDrained)
	if err == nil {
		leave(socket)
	}
	return errors.Is(err, io.EOF)
}

// mostDrained is how much of a body is taken in that was answered before it was read to its end.
// What a relay carries costs money, and somebody may send without end.
const mostDrained = maxOnControl

// leaveTime is how long the other end has to take an answer, of which it sends the question still.
const leaveTime = time.Second

// leave closes a socket at which an answer stands and more of a body comes. At once, the answer
// could be lost with what is on its way here.
func leave(socket *websocket.Conn) {
	late := time.AfterFunc(leaveTime, func() { _ = socket.CloseNow() })
	defer late.Stop()
	_ = socket.Close(websocket.StatusNormalClosure, "")
}

// addressBody is the body of a request at an address. A deadline that passes ends the connection,
// as it does at a server: nothing else ends a Read.
type addressBody struct {
	socket  *websocket.Conn
	reading context.Context
	stop    context.CancelFunc // ends the reading, and the connection
	in      io.Reader          // nil = nothing was read yet

	mu     sync.Mutex
	timer  *time.Timer
	isLate bool
}

func (b *addressBody) Read(p []byte) (int, error) {
	var n int
	var err error
	if b.in == nil {
		_, b.in, err = b.socket.Reader(b.reading)
	}
	if err == nil {
		n, err = b.in.Read(p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && b.isLate {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// setDeadline has Read fail from a time on; zero = never.
func (b *addressBody) setDeadline(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
	}
	if at.IsZero() || b.isLate {
		return
	}
	b.timer = time.AfterFunc(time.Until(at), func() {
		b.mu.Lock()
		b.isLate = true
		b.mu.Unlock()
		b.stop()
	})
}

// handle has a request answered, and reports whether that went to its end.
func (l *Listener) handle(ctx context.Context, w *writer, m *requestMessage, body io.Reader) (isDone bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, m.Method, "http://"+l.host+m.Target, body)
	if err != nil {
		http.Error(w, "the request cannot be read", http.StatusBadRequest)
		return w.finish() == nil
	}
	r.RequestURI, r.Header, r.Host = m.Target, headersOf(m.Headers), l.host
	if !m.Body {
		r.Body, r.ContentLength = http.NoBody, 0
	} else if r.ContentLength == 0 {
		r.ContentLength = -1 // not known
	}
	defer func() {
		switch cause := recover(); {
		case cause == nil:
		case errors.Is(asError(cause), http.ErrAbortHandler):
			w.abort()
			isDone = false
		default:
			w.abort()
			panic(cause)
		}
	}()
	l.Request.ServeHTTP(w, intake.Keep(w, r, intake.Usual))
	return w.finish() == nil
}

func asError(cause any) error {
	err, _ := cause.(error)
	return err
}

func refuseRequest(c *channel, m *requestMessage, status int) {
	_ = c.send(answerMessage{answerHead{RequestID: m.ID, Status: status, Description: http.StatusText(status)}}, nil)
}

// writer is the answer to one request: in memory up to 64 KB, then at the address of the request.
type writer struct {
	ctx     context.Context
	id      string
	address string // to come to with a large answer
	channel *channel
	socket  *websocket.Conn // at the address; nil = not there
	body    *addressBody    // of the request; nil = it has come whole
	isOwn   bool            // the socket is this answer's
	header  http.Header
	status  int
	small   bytes.Buffer
	out     io.WriteCloser
	err     error
}

func (w *writer) Header() http.Header { return w.header }

// SetReadDeadline is for http.ResponseController: it bounds the reading of the request's body.
func (w *writer) SetReadDeadline(at time.Time) error {
	if w.body != nil {
		w.body.setDeadline(at)
	}
	return nil
}

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.out == nil && w.err == nil && w.small.Len()+len(p) > maxOnControl {
		w.begin()
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.out == nil {
		return w.small.Write(p)
	}
	n, err := w.out.Write(p)
	w.err = err
	return n, err
}

// Flush sends what there is: from then on the answer goes on at the address.
func (w *writer) Flush() {
	w.WriteHeader(http.StatusOK)
	if w.out == nil && w.err == nil {
		w.begin()
	}
}

// begin goes to the address, and sends the head and what has been written.
func (w *writer) begin() {
	if w.socket == nil {
		if w.socket, w.err = dial(w.ctx, w.address, "", ""); w.err != nil {
			return
		}
		w.isOwn = true
		w.socket.SetReadLimit(maxMessage)
		w.socket.CloseRead(w.ctx) // answers pings
	}
	if w.err = writeText(w.ctx, w.socket, w.head(true)); w.err != nil {
		return
	}
	if w.out, w.err = w.socket.Writer(w.ctx, websocket.MessageBinary); w.err == nil && w.small.Len() > 0 {
		_, w.err = w.small.WriteTo(w.out)
	}
}

// finish ends the answer.
func (w *writer) finish() error {
	w.WriteHeader(http.StatusOK)
	if w.out == nil && w.err == nil && w.socket == nil {
		if w.small.Len() == 0 {
			return w.channel.send(w.head(false), nil)
		}
		return w.channel.send(w.head(true), w.small.Bytes())
	}
	if w.out == nil && w.err == nil {
		w.begin()
	}
	if w.err == nil {
		w.err = w.out.Close()
	}
	if w.isOwn {
		_ = w.socket.Close(websocket.StatusNormalClosure, "")
	}
	return w.err
}

// abort ends an answer that is not whole. One that has not begun gets a status of its own.
func (w *writer) abort() {
	if w.out == nil && w.socket == nil {
		w.small.Reset()
		w.status = http.StatusInternalServerError
		_ = w.finish()
		return
	}
	_ = w.socket.CloseNow()
}

func (w *writer) head(hasBody bool) answerMessage {
	headers := make(map[string]string, len(w.header))
	for name, values := range w.header {
		if len(values) == 0 || isOfConnection(name) {
			continue
		}
		if headers[name] = strings.Join(values, ", "); name == "Set-Cookie" {
			headers[name] = values[0] // the protocol has no room for another one
		}
	}
	return answerMessage{answerHead{
		RequestID: w.id, Status: w.status, Description: http.StatusText(w.status), Headers: headers, Body: hasBody,
	}}
}

// isOfConnection reports whether a header is one of RFC 7230, which an answer must not have.
func isOfConnection(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Content-Length", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Close", "Keep-Alive":
		return true
	}
	return false
}
