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

// The operations of this server that a fault may be laid on. The entity is the
// function's name; for a start it is handlerEntity.
const (
	faultServer    = "functions"
	faultInvoke    = "invoke"
	faultStart     = "start"
	handlerEntity  = "handler"
	faultCutTime   = 5 * time.Second // for the half of a request that is cut off
	faultStartText = "the handler cannot be started: a fault refuses it"
)

var (
	errRefused = errors.New("a fault refuses the invocation")
	errCut     = errors.New("a fault cuts the connection to the handler")
	errLost    = errors.New("a fault throws away the handler's reply")
)

// fault asks what is to go wrong with an invocation, and waits if that is all.
func (h *Host) fault(ctx context.Context, name string) chaos.Action {
	o := h.cfg.Chaos.Decide(chaos.Call{Server: faultServer, Operation: faultInvoke, Entity: name}, chaos.Delay, chaos.Refuse, chaos.Disconnect, chaos.Lose)
	if o.Do == chaos.Delay {
		pause(ctx, o.Delay)
	}
	return o.Do
}

// invoke makes an invocation's request, unless a fault has it go wrong.
func (h *Host) invoke(ctx context.Context, f *function, port int, id string, body []byte) (invoke.Reply, error) {
	switch h.fault(ctx, f.name) {
	case chaos.Refuse:
		return invoke.Reply{}, errRefused
	case chaos.Disconnect:
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, handlerURL(port)+"/"+f.name, http.NoBody)
		if err != nil {
			return invoke.Reply{}, err
		}
		h.head(r.Header, id)
		h.worker.sign(r.Header, port)
		r.ContentLength = int64(len(body))
		return invoke.Reply{}, errors.Join(errCut, cut(ctx, port, r, body[:len(body)/2]))
	case chaos.Lose:
		if _, err := h.post(ctx, port, f.name, id, body); err != nil {
			return invoke.Reply{}, err
		}
		return invoke.Reply{}, errLost
	}
	return h.post(ctx, port, f.name, id, body)
}

// cut sends a request's header and part of its body, and ends the connection.
func cut(ctx context.Context, port int, r *http.Request, part []byte) error {
	c, err := (&net.Dialer{Timeout: faultCutTime}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(faultCutTime))
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.Method, r.URL.RequestURI(), r.Host, max(r.ContentLength, 1)); err != nil {
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

// startFault delays or refuses a start of the handler.
func (w *worker) startFault(ctx context.Context) error {
	switch o := w.cfg.Chaos.Decide(chaos.Call{Server: faultServer, Operation: faultStart, Entity: handlerEntity}, chaos.Delay, chaos.Refuse); o.Do {
	case chaos.Delay:
		pause(ctx, o.Delay)
	case chaos.Refuse:
		return errors.New(faultStartText)
	}
	return nil
}
