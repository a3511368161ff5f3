package tables

import (
	"bytes"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxOperations  = 100 // of one transaction
	maxPartHeaders = 64  // of one operation
	maxBoundary    = 70  // characters, by RFC 2046
	changesetType  = "multipart/mixed"
)

// parseBatch reads the operations in the body of a $batch, and reports whether
// they are changes or a query.
func (s *Server) parseBatch(r request) (operations []request, changes bool, bad *failure) {
	parts, bad := split(r.header.Get("Content-Type"), r.body)
	if bad != nil {
		return nil, false, bad
	}
	if len(parts) != 1 { // the service takes one change set, or one query
		return nil, false, errInput
	}
	if changes = strings.HasPrefix(parts[0].contentType, changesetType); changes {
		if parts, bad = split(parts[0].contentType, parts[0].body); bad != nil {
			return nil, false, bad
		}
	}
	if len(parts) == 0 {
		return nil, false, errInput
	}
	operations = make([]request, len(parts))
	for i, p := range parts {
		if operations[i], bad = s.parseOperation(r, p); bad != nil {
			return nil, false, bad
		}
		if (operations[i].method == http.MethodGet) == changes {
			return nil, false, errInput
		}
	}
	return operations, changes, nil
}

// part is one part of a multipart body.
type part struct {
	contentType, contentID string
	body                   []byte
}

// split separates a multipart body into its parts, without copying it. It keeps
// one part more than a transaction may have, so that the caller refuses the excess
// with the right message.
func split(contentType string, body []byte) ([]part, *failure) {
	kind, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	if err != nil || kind != changesetType || boundary == "" || len(boundary) > maxBoundary {
		return nil, errInput
	}
	delimiter := []byte("\r\n--" + boundary)
	_, rest, found := bytes.Cut(append([]byte("\r\n"), body...), delimiter)
	var parts []part
	for found && len(parts) <= maxOperations {
		var line string
		if line, rest = cutLine(rest); strings.HasPrefix(line, "--") {
			return parts, nil // the end
		} else if strings.TrimRight(line, " \t") != "" {
			return nil, errInput
		}
		var content []byte
		if content, rest, found = bytes.Cut(rest, delimiter); !found {
			return nil, errInput
		}
		p, ok := readPart(content)
		if !ok {
			return nil, errInput
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// readPart reads the headers of a part.
func readPart(content []byte) (p part, ok bool) {
	for range maxPartHeaders {
		var line string
		line, content = cutLine(content)
		if line == "" {
			p.body = content
			return p, true
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsRune(value, '\r') {
			return p, false
		}
		switch {
		case strings.EqualFold(name, "Content-Type"):
			p.contentType = strings.TrimSpace(value)
		case strings.EqualFold(name, "Content-ID"):
			p.contentID = strings.TrimSpace(value)
		}
	}
	return p, false
}

// parseOperation reads the HTTP request inside a part.
func (s *Server) parseOperation(outer request, p part) (request, *failure) {
	line, rest := cutLine(p.body)
	method, line, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(line, " ")
	u, err := url.Parse(target)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") {
		return request{}, errInput
	}
	_, path, ok := s.locate(u.Host, u.Path)
	if !ok { // relative to the account
		path = strings.TrimPrefix(u.Path, "/")
	}
	header := make(http.Header, 8)
	for range maxPartHeaders {
		line, rest = cutLine(rest)
		if line == "" {
			if p.contentID != "" && header.Get("Content-Id") == "" {
				header.Set("Content-Id", p.contentID)
			}
			r := request{
				ctx:    outer.ctx,
				method: method,
				path:   path,
				query:  u.Query(),
				header: header,
				body:   bytes.TrimSpace(rest),
				site:   outer.site,
				grant:  outer.grant,
			}
			r.classify()
			return r, nil
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
