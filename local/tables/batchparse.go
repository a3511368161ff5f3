package tables

import (
	"bytes"
	"context"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxOperations   = 100 // of one transaction
	maxPartHeaders  = 64  // of one operation
	changesetPrefix = "multipart/mixed"
)

// parseBatch takes the operations out of the body of a $batch, and tells
// whether they are changes or a query.
func (s *Server) parseBatch(r *http.Request, body []byte) (operations []request, changes bool, bad *failure) {
	parts, bad := split(r.Header.Get("Content-Type"), body)
	if bad != nil {
		return nil, false, bad
	}
	if len(parts) != 1 { // the service takes one change set, or one query
		return nil, false, errInput
	}
	contentType := http.Header(parts[0].header).Get("Content-Type")
	if changes = strings.HasPrefix(contentType, changesetPrefix); changes {
		if parts, bad = split(contentType, parts[0].body); bad != nil {
			return nil, false, bad
		}
	}
	if len(parts) == 0 {
		return nil, false, errInput
	}
	operations = make([]request, len(parts))
	for i, p := range parts {
		if operations[i], bad = s.parseOperation(r.Context(), p); bad != nil {
			return nil, false, bad
		}
		if (operations[i].method == http.MethodGet) == changes {
			return nil, false, errInput
		}
	}
	return operations, changes, nil
}

type part struct {
	header map[string][]string
	body   []byte
}

// split takes a multipart body apart. One part more than a transaction may have
// is kept, so that the excess is refused with its own message.
func split(contentType string, body []byte) ([]part, *failure) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != changesetPrefix || params["boundary"] == "" {
		return nil, errInput
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var parts []part
	for len(parts) <= maxOperations {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errInput
		}
		content, err := io.ReadAll(p)
		if err != nil {
			return nil, errInput
		}
		parts = append(parts, part{p.Header, content})
	}
	return parts, nil
}

// parseOperation reads the HTTP request inside a part.
func (s *Server) parseOperation(ctx context.Context, p part) (request, *failure) {
	line, rest := cutLine(p.body)
	method, line, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(line, " ")
	u, err := url.Parse(target)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") {
		return request{}, errInput
	}
	path, ok := s.path(u.Path)
	if !ok { // relative to the account
		path = strings.TrimPrefix(u.Path, "/")
	}
	header := make(http.Header, 8)
	for range maxPartHeaders {
		line, rest = cutLine(rest)
		if line == "" {
			if header.Get("Content-Id") == "" {
				if id := p.header["Content-Id"]; len(id) == 1 {
					header.Set("Content-Id", id[0])
				}
			}
			return request{ctx: ctx, method: method, path: path, query: u.Query(), header: header, body: bytes.TrimSpace(rest)}, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsRune(value, '\r') {
			return request{}, errInput
		}
		header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return request{}, errInput
}

// cutLine takes a line off the front, without its end.
func cutLine(b []byte) (string, []byte) {
	line, rest, _ := bytes.Cut(b, []byte{'\n'})
	return string(bytes.TrimSuffix(line, []byte{'\r'})), rest
}
