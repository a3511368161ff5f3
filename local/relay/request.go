package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// requestMessage gives a listener a request of HTTP. On the control channel it has an address
// alone if the listener must come there for the rest.
type requestMessage struct {
	Request requestBody `json:"request"`
}

type requestBody struct {
	Address string            `json:"address"`
	ID      string            `json:"id,omitempty"`
	Target  string            `json:"requestTarget,omitempty"`
	Method  string            `json:"method,omitempty"`
	Headers map[string]string `json:"requestHeaders,omitempty"`
	Body    *bool             `json:"body,omitempty"`
}

// response is the head of a listener's answer.
type response struct {
	RequestID   string            `json:"requestId"`
	Status      statusCode        `json:"statusCode"`
	Description string            `json:"statusDescription"`
	Headers     map[string]header `json:"responseHeaders"`
	Body        bool              `json:"body"`
}

// statusCode is a number, which the guide's example has as a text.
type statusCode int

func (c *statusCode) UnmarshalJSON(text []byte) error {
	n, err := strconv.Atoi(string(trimQuotes(text)))
	*c = statusCode(n)
	return err
}

func trimQuotes(text []byte) []byte {
	if len(text) > 1 && text[0] == '"' {
		return text[1 : len(text)-1]
	}
	return text
}

// header is a header's value, which programs also send as a number.
type header string

func (h *header) UnmarshalJSON(text []byte) error {
	var s string
	if json.Unmarshal(text, &s) == nil {
		*h = header(s)
		return nil
	}
	var n json.Number
	err := json.Unmarshal(text, &n)
	*h = header(n)
	return err
}

// errUnfit is an answer that the service does not pass on.
var errUnfit = errors.New("the listener's answer cannot be passed on")

// request passes a request of HTTP to a listener, and its answer back.
func (s *Server) request(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		body := &paced{r.Body, http.NewResponseController(w), s.times.request}
		body.wait()
		r.Body = body
	}
	e := s.find(trimSlash(r.URL.Path))
	if e == nil {
		refuse(w, http.StatusNotFound, "EntityNotFound: there is no hybrid connection of this name")
		return
	}
	if s.fails(w, "request", e) {
		return
	}
	if !e.Anonymous {
		if _, denied := s.verify(tokenOf(r, e), e, toSend); denied != nil {
			refuse(w, denied.status, denied.reason)
			return
		}
	}
	if r.Header.Get("Upgrade") != "" || r.Method == http.MethodConnect {
		refuse(w, http.StatusBadRequest, "WebSockets are at /$hc/ and the name of the hybrid connection")
		return
	}
	c := s.pick(e)
	if c == nil {
		refuse(w, http.StatusBadGateway, "EndpointNotFound: nobody listens at this hybrid connection")
		return
	}
	s.exchange(w, r, e, c)
}

func trimSlash(path string) string {
	if path != "" && path[0] == '/' {
		return path[1:]
	}
	return path
}

// exchange gives a request to a listener: on its control channel if it is small, otherwise at an
// address to which the listener comes, as it may also do with a large answer.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, e *entity, c *control) {
	address, id, waits, cancel := s.expect(c, r, "request")
	defer cancel()
	answers, forget := c.await(id)
	defer forget()
	full, body, err := readSmall(r, e, address, id)
	if err != nil {
		refuse(w, http.StatusBadRequest, "the body of the request has not come")
		return
	}
	message := full
	if body == nil && *full.Request.Body {
		message = requestMessage{requestBody{Address: address}}
	}
	if !s.send(c, message, body) {
		refuse(w, http.StatusBadGateway, "EndpointNotFound: the listener has gone")
		return
	}
	late := time.NewTimer(s.times.request)
	defer late.Stop()
	select {
	case a := <-answers:
		if err := writeHead(w, r, a.head); err == nil {
			_, _ = w.Write(a.body)
		}
	case m := <-waits.met:
		defer close(m.done)
		s.atAddress(w, r, m.socket, message, full)
	case <-late.C:
		refuse(w, http.StatusGatewayTimeout, "the listener has not answered within 60 s")
	case <-c.ctx.Done():
		refuse(w, http.StatusBadGateway, "EndpointNotFound: the listener has gone")
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
}

// readSmall makes the message of a request, with its body if that is of a known length and fits
// on the control channel.
func readSmall(r *http.Request, e *entity, address, id string) (requestMessage, []byte, error) {
	target := r.URL.EscapedPath()
	if q := strippedQuery(r.URL.RawQuery); q != "" {
		target += "?" + q
	}
	hasBody := r.ContentLength != 0
	m := requestMessage{requestBody{Address: address, ID: id, Target: target, Method: r.Method, Headers: headersOf(r, e), Body: &hasBody}}
	if via := "1.1 " + r.Host; m.Request.Headers["Via"] == "" {
		m.Request.Headers["Via"] = via
	} else {
		m.Request.Headers["Via"] += ", " + via
	}
	if r.ContentLength <= 0 || r.ContentLength > maxOnControl {
		return m, nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxOnControl+1)) // to its end
	return m, body, err
}

// paced is the body of a request, of which a part must come every 60 s.
type paced struct {
	io.ReadCloser
	control *http.ResponseController
	pause   time.Duration
}

func (p *paced) wait() { _ = p.control.SetReadDeadline(time.Now().Add(p.pause)) }

func (p *paced) Read(b []byte) (int, error) {
	p.wait()
	n, err := p.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) {
		_ = p.control.SetReadDeadline(time.Time{}) // the answer may take longer
	}
	return n, err
}

// atAddress goes on with a listener that has come to the address of a request: it gets the
// request, if it does not have that yet, and answers there.
func (s *Server) atAddress(w http.ResponseWriter, r *http.Request, socket *websocket.Conn, told, full requestMessage) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer func() { _ = socket.Close(websocket.StatusNormalClosure, "") }()
	if told.Request.Method == "" {
		text, err := json.Marshal(full)
		if err != nil {
			return
		}
		go func() {
			if socket.Write(ctx, websocket.MessageText, text) == nil {
				_ = sendBody(ctx, socket, r.Body)
			}
		}()
	}
	if err := s.copyAnswer(ctx, w, r, socket); errors.Is(err, errUnfit) {
		return // it has been said
	} else if err != nil {
		panic(http.ErrAbortHandler) // the client must not take a part for the whole
	}
}

func sendBody(ctx context.Context, socket *websocket.Conn, body io.Reader) error {
	out, err := socket.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, body); err != nil {
		return err
	}
	return out.Close()
}

// copyAnswer passes an answer on while it comes. Between two parts are 60 s at most.
func (s *Server) copyAnswer(ctx context.Context, w http.ResponseWriter, r *http.Request, socket *websocket.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(s.times.request, cancel)
	defer idle.Stop()
	var head response
	for { // what comes before is a stray body
		kind, message, err := socket.Reader(ctx)
		if err != nil {
			return fail(w, http.StatusBadGateway, "the listener has gone")
		}
		if kind == websocket.MessageBinary {
			if _, err := io.Copy(io.Discard, message); err != nil {
				return err
			}
			continue
		}
		text, err := io.ReadAll(io.LimitReader(message, maxMessage+1))
		var m fromListener
		if err == nil && len(text) <= maxMessage {
			m, err = parseFromListener(text)
		}
		if err != nil || m.Response == nil {
			return fail(w, http.StatusBadGateway, "the answer of the listener cannot be read")
		}
		head = *m.Response
		break
	}
	if err := writeHead(w, r, head); err != nil || !head.Body {
		return err
	}
	_, message, err := socket.Reader(ctx)
	if err != nil {
		return err
	}
	out := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := message.Read(buffer)
		idle.Reset(s.times.request)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			_ = out.Flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func fail(w http.ResponseWriter, status int, reason string) error {
	refuse(w, status, reason)
	return errUnfit
}

// writeHead writes the head of a listener's answer. Via says that a listener has answered.
func writeHead(w http.ResponseWriter, r *http.Request, head response) error {
	status := int(head.Status)
	if status < 200 || status > 599 || status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		return fail(w, http.StatusInternalServerError, fmt.Sprintf("a listener may not answer with status %d", status))
	}
	for name, value := range head.Headers {
		if !slices.Contains(ofConnection, http.CanonicalHeaderKey(name)) {
			w.Header().Set(name, string(value))
		}
	}
	w.Header().Set("Via", "1.1 "+r.Host)
	w.WriteHeader(status)
	return nil
}
