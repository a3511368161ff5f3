//go:build unix

package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"dsvmpools/shared/invoke"

	"github.com/google/uuid"
)

// hostVersion is what this host says of itself.
const hostVersion = "4.1052.200"

// maxReply bounds what is read of a handler's reply.
const maxReply = 16 << 20

// result is a handler's reply, as far as it matters without output bindings.
type result struct {
	Logs        []string
	Outputs     map[string]json.RawMessage
	ReturnValue json.RawMessage
}

// call invokes a function with a payload and reads the reply by the host's
// rules. A reply that the host does not understand as an end leaves the
// invocation hanging until the function times out, and then the handler is
// killed, with everything else it is doing.
func (h *Host) call(f function, id string, payload []byte) (*result, error) {
	port, err := h.worker.port(h.ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := h.ctx, context.CancelFunc(func() {})
	if h.timeout > 0 {
		ctx, cancel = context.WithTimeout(h.ctx, h.timeout)
	}
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/%s", port, f.name), struct{ io.Reader }{bytes.NewReader(payload)})
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	hostHeaders(r.Header, id)
	reply, err := h.client.Do(r)
	if err == nil {
		var res *result
		if res, err = h.read(reply); err == nil || !errors.Is(err, errNoEnd) {
			return res, err
		}
		h.log.Error("a reply without content: the host waits until the function times out", "function", f.name)
		<-ctx.Done()
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		h.log.Error("a function timed out; the handler is killed", "function", f.name, "timeout", h.timeout)
		h.worker.kill()
	}
	return nil, fmt.Errorf("function %s: %w", f.name, err)
}

func hostHeaders(header http.Header, id string) {
	header.Set("User-Agent", "Azure-Functions-Host/"+hostVersion)
	header.Set("X-Azure-Functions-HostVersion", hostVersion)
	header.Set(invoke.InvocationHeader, id)
}

// errNoEnd marks a reply that never completes an invocation.
var errNoEnd = errors.New("the reply has no content")

// read judges a reply.
func (h *Host) read(reply *http.Response) (*result, error) {
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if err != nil {
		return nil, err
	}
	if reply.StatusCode < 200 || reply.StatusCode > 299 {
		return nil, fmt.Errorf("Response status code does not indicate success: %d (%s).", reply.StatusCode, http.StatusText(reply.StatusCode))
	}
	if len(bytes.TrimSpace(body)) == 0 || string(bytes.TrimSpace(body)) == "null" {
		return nil, errNoEnd
	}
	if kind, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type")); err != nil || kind != "application/json" && kind != "text/json" {
		return nil, fmt.Errorf("No MediaTypeFormatter is available to read an object of type 'HttpScriptInvocationResult' from content with media type '%s'.", kind)
	}
	var res result
	if err := json.Unmarshal(body, &res); err != nil {
		return nil, errors.New("Invalid HttpResponseMessage: the reply is not valid JSON")
	}
	for _, line := range res.Logs {
		h.log.Info(line)
	}
	return &res, nil
}

func newID() string { return uuid.NewString() }

// pause waits, unless the host ends.
func (h *Host) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-h.ctx.Done():
	}
}
