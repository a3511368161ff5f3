package tables

import (
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
func (s *Server) parseBatch(r *request) (operations []request, changes bool, bad *failure) {
	parts, bad := split(r.header.contentType, r.body, 1)
	if bad != nil {
		return nil, false, bad
	}
	if len(parts) != 1 { // the service takes one change set, or one query
		return nil, false, errInput
	}
	if changes = strings.HasPrefix(parts[0].contentType, changesetType); changes {
		if parts, bad = split(parts[0].contentType, parts[0].body, maxOperations); bad != nil {
			return nil, false, bad
		}
	}
	if len(parts) == 0 {
		return nil, false, errInput
	}
	operations = make([]request, len(parts))
	var before target
	for i := range parts {
		if bad = s.parseOperation(r, &parts[i], &operations[i], &before); bad != nil {
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
	body                   string
}

// split separates a multipart body into its parts, without copying them. Lines may end
// in a line feed alone, as those of older .NET clients do. It keeps one part more than
// the expected ones, so that the caller refuses the excess with the right message.
func split(contentType, body string, expected int) ([]part, *failure) {
	kind, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	if err != nil || kind != changesetType || boundary == "" || len(boundary) > maxBoundary {
		return nil, errInput
	}
	delimiter := "\n--" + boundary
	rest, found := strings.CutPrefix(body, delimiter[1:])
	if !found {
		_, rest, found = strings.Cut(body, delimiter)
	}
	var parts []part
	for found && len(parts) <= expected {
		var line string
		if line, rest = cutLine(rest); strings.HasPrefix(line, "--") {
			return parts, nil // the end
		} else if strings.TrimRight(line, " \t") != "" {
			return nil, errInput
		}
		var content string
		if content, rest, found = strings.Cut(rest, delimiter); !found {
			return nil, errInput
		}
		p, ok := readPart(strings.TrimSuffix(content, "\r"))
		if !ok {
			return nil, errInput
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// readPart reads the headers of a part.
func readPart(content string) (p part, ok bool) {
	for range maxPartHeaders {
		var line string
		line, content = cutLine(content)
		if line == "" {
			p.body = content
			return p, true
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.IndexByte(value, '\r') >= 0 {
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

// parseOperation reads the HTTP request inside a part. before is the target of the
// operation before it, and becomes that of this one.
func (s *Server) parseOperation(outer *request, p *part, r *request, before *target) *failure {
	line, rest := cutLine(p.body)
	method, line, _ := strings.Cut(line, " ")
	text, version, _ := strings.Cut(line, " ")
	if !before.parse(text) || !strings.HasPrefix(version, "HTTP/1.") {
		return errInput
	}
	_, path, ok := s.locate(before.host, before.path)
	if !ok { // relative to the account
		path = strings.TrimPrefix(before.path, "/")
	}
	*r = request{ctx: outer.ctx, method: method, path: path, query: before.query, site: outer.site, grant: outer.grant}
	for range maxPartHeaders {
		line, rest = cutLine(rest)
		if line == "" {
			if r.header.contentID == "" {
				r.header.contentID = p.contentID
			}
			r.body = strings.TrimSpace(rest)
			r.classify()
			return nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.IndexByte(value, '\r') >= 0 {
			return errInput
		}
		r.header.set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return errInput
}

// target is the URL of an operation. Those of one transaction mostly differ in their paths
// alone, so what is known of the one before is not parsed again.
type target struct {
	origin   string // scheme and host as they were written; "" = not known
	host     string
	path     string // unescaped
	rawQuery string
	query    url.Values // is only read
}

// parse reads a URL, as url.Parse does.
func (t *target) parse(text string) bool {
	if rest, same := strings.CutPrefix(text, t.origin); same && t.origin != "" && strings.HasPrefix(rest, "/") && isPlainURL(rest) {
		path, rawQuery, _ := strings.Cut(rest, "?")
		if path, err := url.PathUnescape(path); err == nil && rawQuery == t.rawQuery {
			t.path = path
			return true
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	*t = target{host: u.Host, path: u.Path, rawQuery: u.RawQuery}
	if origin := u.Scheme + "://" + u.Host; u.Host != "" && strings.HasPrefix(text, origin) {
		t.origin = origin
	}
	if t.rawQuery != "" {
		t.query = u.Query()
	}
	return true
}

// isPlainURL reports whether a part of a URL has neither a fragment nor characters that are
// not allowed in one.
func isPlainURL(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// cutLine takes a line off the front, without its end.
func cutLine(text string) (line, rest string) {
	line, rest, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}
