package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/google/uuid"
)

// The client decodes each row of a transaction into a map and encodes the map again, and
// takes each part of the answer for an HTTP response of its own. Rows are JSON already, so
// a policy in the client's pipeline writes the body from them, in the form in which the
// client would write it, and shortens an answer that says that all went well. What the
// client does with a request besides (its address, authorization, log, errors) stays its
// own.

// batch is a transaction on its way through the pipeline.
type batch struct {
	table      string
	operations []Operation
	replies    []reply // to the operations, if the service answered with replies
}

type batchKey struct{}

// placeholder is the transaction that the client is given: it writes the body of this one,
// which bodyWriter replaces.
var placeholder = []aztables.TransactionAction{{
	ActionType: aztables.TransactionTypeDelete, Entity: []byte(`{"PartitionKey":"p","RowKey":"r"}`),
}}

// bodyWriter is the policy that writes the bodies of transactions and reads the answers.
// Other requests pass through it unchanged.
type bodyWriter struct{}

// Do writes the body of a request that carries a batch, and reads its replies.
func (bodyWriter) Do(req *policy.Request) (*http.Response, error) {
	b, _ := req.Raw().Context().Value(batchKey{}).(*batch)
	if b == nil {
		return req.Next()
	}
	body, contentType, err := b.body(req.Raw().URL)
	if err != nil {
		return nil, err
	}
	if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), contentType); err != nil {
		return nil, err
	}
	response, err := req.Next()
	if err != nil || response.StatusCode != http.StatusAccepted {
		return response, err
	}
	answer, err := runtime.Payload(response)
	if err != nil {
		return response, err
	}
	if b.replies = parseReply(answer); b.isDone() {
		response.Body = streaming.NopCloser(strings.NewReader(doneReply))
	}
	return response, nil
}

// isDone reports whether the service has performed all operations.
func (b *batch) isDone() bool {
	for i := range b.replies {
		if b.replies[i].status >= http.StatusBadRequest {
			return false
		}
	}
	return len(b.replies) == len(b.operations)
}

// doneReply is what the client reads of a transaction that is done.
const doneReply = "--batchresponse\r\nContent-Type: multipart/mixed; boundary=changesetresponse\r\n\r\n" +
	"--changesetresponse\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" +
	"HTTP/1.1 204 No Content\r\n\r\n\r\n" +
	"--changesetresponse--\r\n--batchresponse--\r\n"

// Headers of the operations, in the order in which the client writes them.
const (
	acceptMinimal = "Accept: application/json;odata=minimalmetadata\r\n"
	acceptJSON    = "Accept: application/json\r\n"
	version       = "DataServiceVersion: 3.0\r\n"
	partHeaders   = "Content-Transfer-Encoding: binary\r\nContent-Type: application/http\r\n\r\n"
)

// body writes the transaction as a multipart message. to is the address of the request:
// the account's, with "$batch" after it.
func (b *batch) body(to *url.URL) (body []byte, contentType string, err error) {
	outer, inner := "batch_"+uuid.NewString(), "changeset_"+uuid.NewString()
	size := 2 * operationBytes
	for i := range b.operations {
		size += len(b.operations[i].Row) + operationBytes/2
	}
	w := bodyBuffer{bytes: make([]byte, 0, size)}
	base := *to
	base.RawQuery = ""
	w.table = strings.TrimSuffix(base.String(), "$batch") + url.PathEscape(b.table)
	query := to.Query() // of a shared access signature
	w.query = queryOf(query)
	query.Set("$format", "application/json;odata=minimalmetadata")
	w.queryWithFormat = queryOf(query)
	w.add("--", outer, "\r\nContent-Type: multipart/mixed; boundary=", inner, "\r\n\r\n")
	for i := range b.operations {
		w.add("--", inner, "\r\n", partHeaders)
		if err := w.operation(&b.operations[i]); err != nil {
			return nil, "", err
		}
		w.add("\r\n")
	}
	w.add("--", inner, "--\r\n\r\n--", outer, "--\r\n")
	return w.bytes, "multipart/mixed; boundary=" + outer, nil
}

func queryOf(values url.Values) string {
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// bodyBuffer is the body of a transaction while it is written.
type bodyBuffer struct {
	bytes                         []byte
	table, query, queryWithFormat string // parts of the operations' addresses
}

func (w *bodyBuffer) add(texts ...string) {
	for _, text := range texts {
		w.bytes = append(w.bytes, text...)
	}
}

// operation writes one operation as an HTTP request.
func (w *bodyBuffer) operation(o *Operation) error {
	partition, row, err := keysOf(o.Row)
	if err != nil {
		return err
	}
	address := w.table + "(PartitionKey='" + url.PathEscape(partition) + "',RowKey='" + url.PathEscape(row) + "')"
	match := "If-Match: " + string(o.Match) + "\r\n"
	switch o.Kind {
	case Insert:
		w.add("POST ", w.table, w.queryWithFormat, " HTTP/1.1\r\n", acceptMinimal)
		w.row(o.Row, "Prefer: return-no-content\r\n")
	case Put:
		w.add("PUT ", address, w.query, " HTTP/1.1\r\n", acceptJSON)
		w.row(o.Row, "")
	case Replace:
		w.add("PUT ", address, w.query, " HTTP/1.1\r\n", acceptJSON)
		w.row(o.Row, match)
	case Merge:
		w.add("PATCH ", address, w.query, " HTTP/1.1\r\n", acceptJSON)
		w.row(o.Row, match)
	case Delete:
		w.add("DELETE ", address, w.queryWithFormat, " HTTP/1.1\r\n", acceptMinimal, version, match, "\r\n")
	}
	return nil
}

// row writes the headers of an operation that has a row, and the row.
func (w *bodyBuffer) row(row []byte, condition string) {
	w.add("Content-Length: ")
	w.bytes = strconv.AppendInt(w.bytes, int64(len(row)), 10)
	w.add("\r\nContent-Type: application/json\r\n", version, condition, "\r\n")
	w.bytes = append(w.bytes, row...)
}

// What a Row begins with; NewRow writes it so.
const (
	beforePartition = `{"PartitionKey":"`
	beforeRow       = `","RowKey":"`
)

// keysOf reads the keys of a row.
func keysOf(raw []byte) (partition, row string, err error) {
	if rest, ok := bytes.CutPrefix(raw, []byte(beforePartition)); ok {
		first, rest, isNext := bytes.Cut(rest, []byte(beforeRow))
		second, _, isWhole := bytes.Cut(rest, []byte{'"'})
		if isNext && isWhole && bytes.IndexByte(first, '\\') < 0 && bytes.IndexByte(second, '\\') < 0 && bytes.IndexByte(first, '"') < 0 {
			return string(first), string(second), nil
		}
	}
	var keys struct{ PartitionKey, RowKey *string }
	if err := json.Unmarshal(raw, &keys); err != nil {
		return "", "", fmt.Errorf("a row of a transaction is no JSON: %w", err)
	}
	if keys.PartitionKey == nil || keys.RowKey == nil {
		return "", "", errors.New("a row of a transaction has no keys")
	}
	return *keys.PartitionKey, *keys.RowKey, nil
}
