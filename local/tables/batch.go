package tables

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// transaction performs a $batch: one change set of writes to one partition, or
// a single query. Its status is always 202; the outcome of the change set is in
// the body.
func (s *Server) transaction(w http.ResponseWriter, r *request) {
	operations, changes, bad := s.parseBatch(r)
	if bad != nil {
		bad.write(w)
		return
	}
	bad, lose := s.injectFailure(r.ctx, w, transaction, operations[0].table)
	if bad != nil && (bad.status >= http.StatusInternalServerError || bad == errRefused) {
		bad.write(w)
		return
	}
	var replies []reply
	index := 0
	switch {
	case bad != nil:
	case changes:
		s.transactions.Add(1)
		replies, bad, index = s.commit(operations)
	default:
		var rep reply
		if rep, bad = s.do(&operations[0]); bad == nil {
			replies = []reply{rep}
		}
	}
	switch {
	case lose:
		abort()
	case bad == errBusy:
		bad.write(w)
		return
	}
	if bad != nil {
		bad = bad.at(index)
		replies = []reply{{
			status: bad.status, format: minimalMetadata, headers: map[string]string{"x-ms-error-code": bad.code},
			body: bad.body(w.Header().Get(requestIDHeader)),
		}}
	}
	boundary := "batchresponse_" + uuid.NewString()
	answer := appendReplies(make([]byte, 0, 512+384*len(replies)), boundary, changes, operations, replies)
	w.Header().Set("Content-Type", "multipart/mixed; boundary="+boundary)
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(http.StatusAccepted)
	w.Write(answer)
}

// commit checks that the operations make one transaction, and performs it. When
// it fails, the index is that of the operation that failed.
func (s *Server) commit(operations []request) ([]reply, *failure, int) {
	if len(operations) > maxOperations {
		return nil, errOperations, maxOperations
	}
	writes := make([]write, len(operations))
	seen := make(map[string]struct{}, len(operations)) // rows
	var scratch fieldsOf
	for i := range operations {
		op, w, first := &operations[i], &writes[i], &writes[0]
		bad := s.admit(op)
		if bad == nil {
			bad = s.readWrite(op, w, &scratch)
		}
		if bad != nil {
			return nil, bad, i
		}
		if !strings.EqualFold(w.table, first.table) || !bytes.Equal(w.entity.partition, first.entity.partition) {
			return nil, errPartitions, i
		}
		if seen[string(w.entity.row)] = struct{}{}; len(seen) != i+1 {
			return nil, errDuplicate, i
		}
	}
	if bad := s.rates.take(ofWrites, writes[0].table, string(writes[0].entity.partition), len(writes)); bad != nil {
		return nil, bad, 0
	}
	return s.apply(writes)
}

// appendReplies writes the multipart answer: the replies to changes within a
// part of their own, the reply to a query directly. The reply to a transaction
// that failed is a single one.
func appendReplies(b []byte, boundary string, changes bool, operations []request, replies []reply) []byte {
	inner := boundary
	if changes {
		inner = "changesetresponse_" + uuid.NewString()
		b = fmt.Appendf(b, "--%s\r\nContent-Type: multipart/mixed; boundary=%s\r\n\r\n", boundary, inner)
	}
	for i := range replies {
		b = append(
			append(append(b, "--"...), inner...),
			"\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"...)
		id := ""
		if len(replies) == len(operations) {
			id = operations[i].header.contentID
		}
		b = append(replies[i].appendHTTP(b, id), "\r\n"...)
	}
	if changes {
		b = fmt.Appendf(b, "--%s--\r\n", inner)
	}
	return fmt.Appendf(b, "--%s--\r\n", boundary)
}

// appendHTTP writes a reply as an HTTP response.
func (r *reply) appendHTTP(b []byte, id string) []byte {
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(r.status), 10), ' ')
	b = append(append(b, http.StatusText(r.status)...), "\r\n"...)
	if id != "" {
		b = appendHeader(b, "Content-ID", id)
	}
	b = append(b, "X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nDataServiceVersion: 3.0;\r\n"...)
	for k, v := range r.headers {
		b = appendHeader(b, k, v)
	}
	if r.applied != "" {
		b = appendHeader(b, preferenceApplied, r.applied)
	}
	if r.version != 0 {
		b = append(appendETag(append(b, "ETag: "...), r.version), "\r\n"...)
	}
	if r.body != nil {
		b = append(append(append(b, "Content-Type: "...), r.format...), contentSuffix+"\r\n"...)
	}
	return append(append(b, "\r\n"...), r.body...)
}

func appendHeader(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}
