package tables

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// transaction performs a $batch: one change set of writes to one partition, or
// a single query. Its status is always 202; the outcome of the change set is in
// the body.
func (s *Server) transaction(w http.ResponseWriter, r request) {
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
		if rep, bad = s.do(operations[0]); bad == nil {
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
	writes := make([]*write, len(operations))
	seen := make(map[string]bool, len(operations))
	for i, op := range operations {
		if bad := s.admit(&op); bad != nil {
			return nil, bad, i
		}
		w, bad := s.readWrite(op)
		if bad != nil {
			return nil, bad, i
		}
		writes[i] = w
		first := writes[0]
		switch {
		case !strings.EqualFold(w.table, first.table) || w.entity.partition != first.entity.partition:
			return nil, errPartitions, i
		case seen[w.entity.row]:
			return nil, errDuplicate, i
		}
		seen[w.entity.row] = true
	}
	if bad := s.rates.take(writes[0].table, writes[0].entity.partition, len(writes)); bad != nil {
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
			id = operations[i].header.Get("Content-Id")
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
	header := func(name, value string) {
		b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
	}
	b = append(append(b, "HTTP/1.1 "...), strconv.Itoa(r.status)+" "+http.StatusText(r.status)+"\r\n"...)
	if id != "" {
		header("Content-ID", id)
	}
	header("X-Content-Type-Options", "nosniff")
	header("Cache-Control", "no-cache")
	header("DataServiceVersion", "3.0;")
	for k, v := range r.headers {
		header(k, v)
	}
	if r.etag != "" {
		header("ETag", r.etag)
	}
	if r.body != nil {
		header("Content-Type", r.format+contentSuffix)
	}
	return append(append(b, "\r\n"...), r.body...)
}
