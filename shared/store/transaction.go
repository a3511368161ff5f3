package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
)

// Limits of a transaction, set by Table Storage.
const (
	// MaxRows is the largest number of rows in one transaction, with the head.
	MaxRows = 100
	// maxBytes is the size of a request; the operations' own headers count.
	maxBytes = 4 << 20
	// operationBytes is more than the headers of one operation take.
	operationBytes = 1 << 10
)

// ErrTooLarge is the cause of a refusal because of size: write less at once.
var ErrTooLarge = errors.New("more than one transaction may hold")

// refusal is a transaction that the service rolled back.
type refusal struct {
	status int    // of the operation that failed
	index  int    // of that operation, or -1 when not told
	code   string // EntityAlreadyExists, UpdateConditionNotSatisfied, ...
}

func (r *refusal) Error() string {
	return fmt.Sprintf("operation %d of the transaction: %d %s", r.index, r.status, r.code)
}

// submit sends one transaction once and returns the new ETag of its first
// operation ("" when the reply does not tell). A *refusal is the only error
// that says for certain that nothing was written; after any other one the
// outcome is unknown.
func (s *Store) submit(ctx context.Context, table *aztables.Client, actions []aztables.TransactionAction) (etag azcore.ETag, err error) {
	size := 0
	for i := range actions {
		size += len(actions[i].Entity) + operationBytes
	}
	if len(actions) > MaxRows || size > maxBytes {
		return "", wrap(fault.Invalid, ErrTooLarge, "%d rows of %d bytes do not fit into one transaction (%d rows, %d bytes)", len(actions), size, MaxRows, maxBytes)
	}
	// The client panics over a reply without operations in it, and hides both
	// the ETags of a success and the code of a failure: the reply itself has them.
	var response *http.Response
	defer func() {
		if p := recover(); p != nil {
			etag, err = "", fmt.Errorf("the reply to a transaction could not be read: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	_, sent := table.SubmitTransaction(policy.WithCaptureResponse(ctx, &response), actions, nil)
	if response == nil {
		if sent == nil {
			sent = errors.New("no reply")
		}
		return "", sent
	}
	if response.StatusCode != http.StatusAccepted {
		return "", refused(response, sent)
	}
	body, err := runtime.Payload(response)
	if err != nil {
		return "", err
	}
	operations := parseReply(body)
	for i := range operations {
		if operations[i].status >= http.StatusBadRequest {
			return "", operations[i].refusal()
		}
	}
	if len(operations) != len(actions) {
		return "", fmt.Errorf("the reply to a transaction of %d operations tells of %d", len(actions), len(operations))
	}
	return operations[0].etag, nil
}

// refused tells a reply that declines the whole request from one after which
// the outcome is unknown.
func refused(response *http.Response, sent error) error {
	if transientStatus(response.StatusCode) || sent == nil {
		if sent == nil {
			sent = fmt.Errorf("unexpected status %d", response.StatusCode)
		}
		return sent
	}
	code := response.Header.Get("x-ms-error-code")
	var known *azcore.ResponseError
	if errors.As(sent, &known) && known.ErrorCode != "" {
		code = known.ErrorCode
	}
	return &refusal{status: response.StatusCode, index: -1, code: code}
}

// operation is what the reply tells of one row.
type operation struct {
	status int
	etag   azcore.ETag
	body   []byte
}

var statusLine = []byte("HTTP/1.1 ")

// parseReply finds the replies to the operations of a transaction: each begins
// with a status line, has headers, an empty line and, when it failed, a line
// of JSON. Boundaries between them need no attention.
func parseReply(body []byte) []operation {
	var operations []operation
	inHeaders := false
	for len(body) > 0 && len(operations) <= MaxRows {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		last := len(operations) - 1
		switch {
		case bytes.HasPrefix(line, statusLine):
			status, _, _ := bytes.Cut(line[len(statusLine):], []byte(" "))
			n, _ := strconv.Atoi(string(status))
			operations = append(operations, operation{status: n})
			inHeaders = true
		case last < 0:
		case inHeaders && len(line) == 0:
			inHeaders = false
		case inHeaders:
			if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("ETag")) {
				operations[last].etag = azcore.ETag(bytes.TrimSpace(value))
			}
		case len(operations[last].body) == 0 && len(line) > 0 && line[0] == '{':
			operations[last].body = line
		}
	}
	return operations
}

// refusal reads the code and the index out of a failed operation:
// {"odata.error":{"code":"…","message":{"value":"3:The specified …"}}}.
func (o *operation) refusal() *refusal {
	var answer struct {
		Error struct {
			Code    string
			Message struct{ Value string }
		} `json:"odata.error"`
	}
	r := &refusal{status: o.status, index: -1}
	if json.Unmarshal(o.body, &answer) != nil {
		return r
	}
	r.code = answer.Error.Code
	number, _, _ := bytes.Cut([]byte(answer.Error.Message.Value), []byte(":"))
	if n, err := strconv.Atoi(string(number)); err == nil && n >= 0 && n < MaxRows {
		r.index = n
	}
	return r
}
