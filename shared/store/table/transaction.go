package table

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
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
)

// Limits of a transaction, set by Table Storage.
const (
	// MaxRows is the largest number of rows in one transaction.
	MaxRows = 100
	// maxBytes is the size of a request; the operations' own headers count.
	maxBytes = 4 << 20
	// operationBytes is more than the headers of one operation take.
	operationBytes = 1 << 10
)

// ErrTooLarge is the cause of a refusal because of size: write less at once.
var ErrTooLarge = errors.New("more than one transaction may hold")

// Kind is what an operation does.
type Kind int

// Kinds of operations. They mean the same as the methods of Table.
const (
	Insert Kind = iota
	Put
	Replace
	Merge
	Delete
)

// Operation is one row of a transaction. Match is the condition of Replace,
// Merge and Delete.
type Operation struct {
	Kind  Kind
	Row   []byte // with its keys; for Delete the keys are enough
	Match ETag
}

// Refusal is a transaction that the service rolled back.
type Refusal struct {
	Status int    // of the operation that failed
	Index  int    // of that operation, or -1 when the reply does not say
	Code   string // EntityAlreadyExists, UpdateConditionNotSatisfied, ...
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("operation %d of the transaction: %d %s", r.Index, r.Status, r.Code)
}

// LostRace reports whether the refusal is because of what others wrote, not
// because of what this transaction says.
func (r *Refusal) LostRace() bool {
	return r.Code == string(aztables.UpdateConditionNotSatisfied) || r.Code == string(aztables.EntityAlreadyExists) ||
		r.Code == string(aztables.ResourceNotFound) || r.Code == string(aztables.EntityNotFound)
}

// Transact runs one transaction on rows of one partition, and tries again when
// that may help: a transaction that was written although its reply was lost is
// written twice. Use Submit where that is not harmless.
func (t *Table) Transact(ctx context.Context, what string, operations []Operation) error {
	return call(ctx, what, func(ctx context.Context) error {
		_, err := t.Submit(ctx, operations)
		return err
	})
}

// Batches splits operations on rows of one partition into as many as one
// transaction holds each.
func Batches(operations []Operation) [][]Operation {
	var batches [][]Operation
	for len(operations) > 0 {
		n, size := 0, 0
		for n < len(operations) && n < MaxRows && (n == 0 || size+len(operations[n].Row)+operationBytes <= maxBytes) {
			size += len(operations[n].Row) + operationBytes
			n++
		}
		batches, operations = append(batches, operations[:n]), operations[n:]
	}
	return batches
}

// Submit sends one transaction once and returns the new ETag of its first
// operation ("" when the reply does not say). A *Refusal is the only error
// after which nothing was written for certain; after any other one the outcome
// is unknown.
func (t *Table) Submit(ctx context.Context, operations []Operation) (etag ETag, err error) {
	err = t.sendCreating(ctx, func(ctx context.Context) (err error) { // if the table is missing, nothing was written
		etag, err = t.submitOnce(ctx, operations)
		return err
	})
	return etag, err
}

func (t *Table) submitOnce(ctx context.Context, operations []Operation) (etag ETag, err error) {
	size := 0
	for i := range operations {
		size += len(operations[i].Row) + operationBytes
	}
	if len(operations) > MaxRows || size > maxBytes {
		return "", wrap(fault.Invalid, ErrTooLarge, "%d rows of %d bytes do not fit into one transaction (%d rows, %d bytes)",
			len(operations), size, MaxRows, maxBytes)
	}
	if len(operations) == 0 {
		return "", wrap(fault.Invalid, errors.New("no operation"), "a transaction without rows")
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
	b := &batch{table: t.name, operations: operations}
	_, sent := t.client.SubmitTransaction(policy.WithCaptureResponse(context.WithValue(ctx, batchKey{}, b), &response), placeholder, nil)
	if response == nil {
		if sent == nil {
			sent = errors.New("no reply")
		}
		return "", sent
	}
	if response.StatusCode != http.StatusAccepted {
		return "", refusalOf(response, sent)
	}
	for i := range b.replies {
		if b.replies[i].status >= http.StatusBadRequest {
			return "", b.replies[i].refusal()
		}
	}
	if len(b.replies) != len(operations) {
		return "", fmt.Errorf("the reply to a transaction of %d operations has %d", len(operations), len(b.replies))
	}
	return b.replies[0].etag, nil
}

// refusalOf reads a reply without operations: a Refusal when it declines the
// whole request, and another error when the outcome is unknown.
func refusalOf(response *http.Response, sent error) error {
	if isTransientStatus(response.StatusCode) || sent == nil {
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
	return &Refusal{Status: response.StatusCode, Index: -1, Code: code}
}

// reply is what the service answers for one row.
type reply struct {
	status int
	etag   azcore.ETag
	body   []byte
}

var statusLine = []byte("HTTP/1.1 ")

// parseReply finds the replies to the operations of a transaction: each begins
// with a status line, has headers, an empty line and, when it failed, a line
// of JSON. Boundaries between them need no attention.
func parseReply(body []byte) []reply {
	var replies []reply
	inHeaders := false
	for len(body) > 0 && len(replies) <= MaxRows {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		last := len(replies) - 1
		switch {
		case bytes.HasPrefix(line, statusLine):
			status, _, _ := bytes.Cut(line[len(statusLine):], []byte(" "))
			n, _ := strconv.Atoi(string(status))
			replies = append(replies, reply{status: n})
			inHeaders = true
		case last < 0:
		case inHeaders && len(line) == 0:
			inHeaders = false
		case inHeaders:
			if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("ETag")) {
				replies[last].etag = azcore.ETag(bytes.TrimSpace(value))
			}
		case len(replies[last].body) == 0 && len(line) > 0 && line[0] == '{':
			replies[last].body = line
		}
	}
	return replies
}

// refusal reads the code and the index of a failed operation:
// {"odata.error":{"code":"…","message":{"value":"3:The specified …"}}}.
func (o *reply) refusal() *Refusal {
	var answer struct {
		Error struct {
			Code    string
			Message struct{ Value string }
		} `json:"odata.error"`
	}
	r := &Refusal{Status: o.status, Index: -1}
	if json.Unmarshal(o.body, &answer) != nil {
		return r
	}
	r.Code = answer.Error.Code
	number, _, _ := bytes.Cut([]byte(answer.Error.Message.Value), []byte(":"))
	if n, err := strconv.Atoi(string(number)); err == nil && n >= 0 && n < MaxRows {
		r.Index = n
	}
	return r
}
