package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
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
	socket.SetReadLimit(-1)
	for {
		kind, in, err := socket.Reader(ctx)
		if err != nil || kind != websocket.MessageText {
			return
		}
		text, err := io.ReadAll(io.LimitReader(in, maxMessage))
		if err != nil {
			return
		}
		m, err := parseMessage(text, strings.HasPrefix(l.Address, "wss:"))
		if err != nil || m.Request == nil || m.Request.Method == "" {
			return
		}
		var body io.Reader = http.NoBody
		if m.Request.Body {
			if _, body, err = socket.Reader(ctx); err != nil {
				return
			}
		}
		w := &writer{ctx: ctx, id: m.Request.ID, socket: socket, header: http.Header{}}
		if !l.handle(ctx, w, m.Request, body) {
			return
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return
		}
	}
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
	l.Request.ServeHTTP(w, r)
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
	isOwn   bool            // the socket is this answer's
	header  http.Header
	status  int
	small   bytes.Buffer
	out     io.WriteCloser
	err     error
}

func (w *writer) Header() http.Header { return w.header }

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
