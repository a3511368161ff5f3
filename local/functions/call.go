package functions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"dsvmpools/shared/invoke"
)

// hostVersion is the version of the real host that this package reproduces.
const hostVersion = "4.1052.200"

// maxReply bounds a handler's reply.
const maxReply = 16 << 20

// invocation returns a new invocation of f.
func (h *Host) invocation(f *function) invoke.Invocation {
	return invoke.Invocation{Function: f.name, Binding: f.trigger.Name, ID: uuid.NewString(), At: time.Now()}
}

// call sends an invocation to the handler and checks the reply. It waits for a handler
// that is starting. When a function times out, call kills the handler, which also ends all
// other invocations.
func (h *Host) call(ctx context.Context, f *function, inv invoke.Invocation, body []byte) (invoke.Reply, error) {
	port, err := h.worker.await(ctx, true)
	if err != nil {
		return invoke.Reply{}, err
	}
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.timeout, errTimedOut)
		defer cancel()
	}
	began := time.Now()
	reply, err := h.invoke(ctx, f, port, inv.ID, body)
	if errors.Is(err, invoke.ErrHangs) {
		h.log.Warn("invocation hangs until its function times out", "function", f.name, "invocation", inv.ID, "error", err)
		<-ctx.Done()
	}
	if errors.Is(context.Cause(ctx), errTimedOut) && err != nil {
		h.log.Error("function timed out; restarting handler", "function", f.name, "invocation", inv.ID, "timeout", h.timeout)
		h.worker.restart()
		err = fmt.Errorf("%w after %s: %w", errTimedOut, h.timeout, err)
	}
	if err != nil {
		return invoke.Reply{}, err
	}
	for _, line := range reply.Logs {
		h.log.Info(line, "function", f.name, "invocation", inv.ID)
	}
	h.log.Debug("invocation succeeded", "function", f.name, "invocation", inv.ID, "took", time.Since(began))
	return reply, nil
}

var errTimedOut = errors.New("the function timed out")

// post makes the request of an invocation.
func (h *Host) post(ctx context.Context, port int, name, id string, body []byte) (invoke.Reply, error) {
	// The wrapper hides the length from the client, so that it sends chunks, as the real
	// host does.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, handlerURL(port)+"/"+name, struct{ io.Reader }{bytes.NewReader(body)})
	if err != nil {
		return invoke.Reply{}, err
	}
	h.setHeaders(r.Header, id)
	h.worker.sign(r.Header, port)
	reply, err := (&http.Client{Transport: h.transport}).Do(r)
	if err != nil {
		return invoke.Reply{}, fmt.Errorf("the handler gave no reply: %w", err)
	}
	return invoke.ReadReply(reply, maxReply)
}

// setHeaders sets the headers of an invocation.
func (h *Host) setHeaders(header http.Header, id string) {
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("User-Agent", "Azure-Functions-Host/"+hostVersion)
	if h.isTraced() {
		header.Set("traceparent", traceparent(""))
	}
	header.Set(invoke.HeaderHostVersion, hostVersion)
	header.Set(invoke.HeaderInvocation, id)
}

func handlerURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
