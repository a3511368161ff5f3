package functions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/invoke"
)

// The operations of this server that an injection may target. The entity is the name of
// the function; for a start it is handlerEntity.
const (
	chaosServer     = "functions"
	operationInvoke = "invoke"
	operationStart  = "start"
	handlerEntity   = "handler"
	cutTime         = 5 * time.Second // for a request that is cut off
	refusedStart    = "the handler cannot be started: a fault refuses it"
)

var (
	errRefused = errors.New("a fault refuses the invocation")
	errCut     = errors.New("a fault cuts the connection to the handler")
	errLost    = errors.New("a fault throws away the handler's reply")
)

// injectFailure decides what goes wrong with an invocation. It waits for a delay itself.
func (h *Host) injectFailure(ctx context.Context, name string) chaos.Action {
	call := chaos.Call{Server: chaosServer, Operation: operationInvoke, Entity: name}
	o := h.cfg.Chaos.Decide(call, chaos.Delay, chaos.Refuse, chaos.Disconnect, chaos.Lose)
	if o.Do == chaos.Delay {
		pause(ctx, o.Delay)
	}
	return o.Do
}

// invoke makes the request of an invocation, unless an injection makes it fail.
func (h *Host) invoke(ctx context.Context, f *function, port int, id string, body []byte) (invoke.Reply, error) {
	switch h.injectFailure(ctx, f.name) {
	case chaos.Refuse:
		return invoke.Reply{}, errRefused
	case chaos.Disconnect:
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, handlerURL(port)+"/"+f.name, http.NoBody)
		if err != nil {
			return invoke.Reply{}, err
		}
		h.setHeaders(r.Header, id)
		h.worker.sign(r.Header, port)
		r.ContentLength = int64(len(body))
		return invoke.Reply{}, errors.Join(errCut, sendPart(ctx, port, r, body[:len(body)/2]))
	case chaos.Lose:
		if _, err := h.post(ctx, port, f.name, id, body); err != nil {
			return invoke.Reply{}, err
		}
		return invoke.Reply{}, errLost
	}
	return h.post(ctx, port, f.name, id, body)
}

// sendPart sends a request's header and part of its body, and ends the connection.
func sendPart(ctx context.Context, port int, r *http.Request, part []byte) error {
	c, err := (&net.Dialer{Timeout: cutTime}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(cutTime))
	_, err = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n",
		r.Method, r.URL.RequestURI(), r.Host, max(r.ContentLength, 1))
	if err != nil {
		return err
	}
	if err := r.Header.WriteSubset(c, map[string]bool{"Content-Length": true}); err != nil {
		return err
	}
	if _, err := c.Write([]byte("\r\n")); err != nil {
		return err
	}
	_, err = c.Write(part)
	return err
}

// injectStartFailure delays or refuses a start of the handler.
func (w *worker) injectStartFailure(ctx context.Context) error {
	call := chaos.Call{Server: chaosServer, Operation: operationStart, Entity: handlerEntity}
	switch o := w.cfg.Chaos.Decide(call, chaos.Delay, chaos.Refuse); o.Do {
	case chaos.Delay:
		pause(ctx, o.Delay)
	case chaos.Refuse:
		return errors.New(refusedStart)
	}
	return nil
}
