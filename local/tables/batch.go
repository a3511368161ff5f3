package tables

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// maxOperations of one entity-group transaction.
const maxOperations = 100

// transaction performs a $batch: one change set of writes to one partition, or
// a single query.
func (s *Server) transaction(w http.ResponseWriter, r *http.Request, body []byte) {
	operations, bad := parseBatch(r.Header.Get("Content-Type"), body, "/"+s.cfg.Account+"/")
	if bad != nil {
		bad.write(w)
		return
	}
	s.transactions.Add(1)
	replies, failed, index := s.commit(operations)
	changeset := "changesetresponse_" + uuid.NewString()
	batch := "batchresponse_" + uuid.NewString()
	var b bytes.Buffer
	fmt.Fprintf(&b, "--%s\r\nContent-Type: multipart/mixed; boundary=%s\r\n\r\n", batch, changeset)
	part := func(status int, id, etag, code string, content []byte) {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 %d %s\r\n", changeset, status, http.StatusText(status))
		b.WriteString("X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nDataServiceVersion: 3.0;\r\n")
		if id != "" {
			fmt.Fprintf(&b, "Content-ID: %s\r\n", id)
		}
		if code != "" {
			fmt.Fprintf(&b, "x-ms-error-code: %s\r\n", code)
		}
		if etag != "" {
			fmt.Fprintf(&b, "ETag: %s\r\n", etag)
		}
		if content != nil {
			b.WriteString("Content-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8\r\n")
		}
		b.WriteString("\r\n")
		b.Write(content)
		b.WriteString("\r\n")
	}
	if failed != nil {
		told := fail(failed.status, failed.code, "%d:%s", index, failed.message)
		part(told.status, "", "", told.code, told.body())
	} else {
		for i, rep := range replies {
			part(rep.status, operations[i].header.Get("Content-Id"), rep.etag, "", rep.body)
		}
	}
	fmt.Fprintf(&b, "--%s--\r\n--%s--\r\n", changeset, batch)
	w.Header().Set("Content-Type", "multipart/mixed; boundary="+batch)
	w.WriteHeader(http.StatusAccepted)
	w.Write(b.Bytes())
}

// commit checks that the operations make one transaction, and performs it.
func (s *Server) commit(operations []request) ([]reply, *failure, int) {
	if len(operations) == 1 && operations[0].method == http.MethodGet {
		rep, bad := s.do(operations[0])
		return []reply{rep}, bad, 0
	}
	if len(operations) > maxOperations {
		return nil, fail(http.StatusBadRequest, "InvalidInput", "The batch request operation exceeds the maximum 100 changes per change set."), maxOperations
	}
	writes := make([]*write, len(operations))
	seen := map[string]bool{}
	for i, op := range operations {
		w, bad := readWrite(op)
		if bad != nil {
			return nil, bad, i
		}
		first := w
		if i > 0 {
			first = writes[0]
		}
		switch {
		case !strings.EqualFold(w.table, first.table) || w.entity.partition != first.entity.partition:
			return nil, fail(http.StatusBadRequest, "CommandsInBatchActOnDifferentPartitions", "All commands in a batch must operate on same entity group."), i
		case seen[w.entity.row]:
			return nil, fail(http.StatusBadRequest, "InvalidDuplicateRow", "The batch request contains multiple changes with same row key. An entity can appear only once in a batch request."), i
		}
		seen[w.entity.row] = true
		writes[i] = w
	}
	return s.apply(writes[0].table, writes)
}

// parseBatch takes the operations out of the body of a $batch.
func parseBatch(contentType string, body []byte, prefix string) ([]request, *failure) {
	parts, bad := split(contentType, body)
	if bad != nil {
		return nil, bad
	}
	if len(parts) != 1 {
		return nil, errInput
	}
	if strings.HasPrefix(parts[0].header.Get("Content-Type"), "multipart/") {
		if parts, bad = split(parts[0].header.Get("Content-Type"), parts[0].body); bad != nil {
			return nil, bad
		}
	}
	if len(parts) == 0 {
		return nil, errInput
	}
	out := make([]request, len(parts))
	for i, p := range parts {
		op, bad := parseOperation(p, prefix)
		if bad != nil {
			return nil, bad
		}
		out[i] = op
	}
	return out, nil
}

type part struct {
	header http.Header
	body   []byte
}

// split takes a multipart body apart. One part more than allowed is kept, so
// that the excess is refused with its own message.
func split(contentType string, body []byte) ([]part, *failure) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return nil, errInput
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var parts []part
	for len(parts) <= maxOperations {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return parts, nil
		}
		if err != nil {
			return nil, errInput
		}
		content, err := io.ReadAll(p)
		if err != nil {
			return nil, errInput
		}
		parts = append(parts, part{http.Header(p.Header), content})
	}
	return parts, nil
}

// parseOperation reads the HTTP request inside a part.
func parseOperation(p part, prefix string) (request, *failure) {
	in := bufio.NewReaderSize(bytes.NewReader(p.body), 4<<10)
	line, err := in.ReadString('\n')
	if err != nil {
		return request{}, errInput
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return request{}, errInput
	}
	u, err := url.Parse(fields[1])
	if err != nil {
		return request{}, errInput
	}
	header := http.Header{}
	for {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || err != nil {
			return request{}, errInput
		}
		header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return request{}, errInput
	}
	if header.Get("Content-Id") == "" {
		if id := p.header.Get("Content-Id"); id != "" {
			header.Set("Content-Id", id)
		}
	}
	path := strings.TrimPrefix(u.Path, prefix)
	return request{method: fields[0], path: strings.TrimPrefix(path, "/"), query: u.Query(), header: header, body: bytes.TrimSpace(body)}, nil
}
