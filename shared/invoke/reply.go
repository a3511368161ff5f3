package invoke

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Reply is what a function handed back.
type Reply struct {
	Outputs     map[string]json.RawMessage // by the names of output bindings
	Logs        []string                   // for the host to write, at Information
	ReturnValue json.RawMessage
}

// ErrHangs is the judgement on a reply of success without an object: the host
// does not take it for the end of the invocation, waits until the function times
// out, and then kills the handler with everything it is doing.
var ErrHangs = errors.New("the reply has no content; the host goes on waiting for one (reply with at least {} as application/json)")

// ReadReply judges a reply by the host's rules and closes its body. Of a reply
// of failure nothing is kept but the status.
func ReadReply(r *http.Response, limit int64) (Reply, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if r.StatusCode < 200 || r.StatusCode > 299 {
		return Reply{}, fmt.Errorf("the handler replied with status %d (%s)", r.StatusCode, http.StatusText(r.StatusCode))
	}
	if err != nil {
		return Reply{}, fmt.Errorf("the reply did not arrive whole: %w", err)
	}
	if int64(len(body)) > limit {
		return Reply{}, fmt.Errorf("the reply is larger than %d bytes", limit)
	}
	if len(body) == 0 {
		return Reply{}, ErrHangs
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !strings.EqualFold(kind, "application/json") && !strings.EqualFold(kind, "text/json") {
		return Reply{}, fmt.Errorf("the reply is of type %q; the host reads application/json only", r.Header.Get("Content-Type"))
	}
	if body = bytes.TrimSpace(body); len(body) == 0 || string(body) == "null" {
		return Reply{}, ErrHangs
	}
	var reply Reply
	if err := json.Unmarshal(body, &reply); err != nil {
		return Reply{}, fmt.Errorf("the reply is not a JSON object of Outputs, Logs and ReturnValue: %w", err)
	}
	return reply, nil
}
