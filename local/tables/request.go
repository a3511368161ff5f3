package tables

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

const maxPage = 1000 // entities, or tables, in one answer

// request is one operation, alone or within a transaction.
type request struct {
	ctx    context.Context
	method string
	path   string // below the account, unescaped
	query  url.Values
	header header
	body   string
	site   site
	grant  *grant

	operation operation // by classify
	table     string
}

// header holds the header fields that matter. "" = it is not there.
type header struct {
	match       string // If-Match
	method      string // X-HTTP-Method
	accept      string
	prefer      string
	contentType string
	contentID   string
}

func headerOf(h http.Header) header {
	return header{
		match:       h.Get("If-Match"),
		method:      h.Get("X-HTTP-Method"),
		accept:      h.Get("Accept"),
		prefer:      h.Get("Prefer"),
		contentType: h.Get("Content-Type"),
		contentID:   h.Get("Content-Id"),
	}
}

// set sets a field by its name, if it matters. A later value replaces an earlier one.
func (h *header) set(name, value string) {
	for _, f := range [...]struct {
		name  string
		value *string
	}{
		{"If-Match", &h.match}, {"X-HTTP-Method", &h.method}, {"Accept", &h.accept}, {"Prefer", &h.prefer},
		{"Content-Type", &h.contentType}, {"Content-ID", &h.contentID},
	} {
		if strings.EqualFold(name, f.name) {
			*f.value = value
			return
		}
	}
}

// reply is the answer of an operation that succeeded.
type reply struct {
	status  int
	version int64  // of an entity, for the ETag; 0 = none
	applied string // the preference that was followed; "" = none
	headers map[string]string
	body    []byte // nil: none
	format  string // of the body
}

func (r *reply) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range r.headers {
		h.Set(k, v)
	}
	if r.version != 0 {
		h.Set("ETag", etagOf(r.version))
	}
	if r.applied != "" {
		h.Set(preferenceApplied, r.applied)
	}
	if r.body != nil {
		h.Set("Content-Type", r.format)
		h.Set("Content-Length", strconv.Itoa(len(r.body)))
		if strings.HasPrefix(r.format, "application/json") {
			h.Set("Content-Type", r.format+contentSuffix)
			h.Set("DataServiceVersion", "3.0;")
		}
	}
	w.WriteHeader(r.status)
	w.Write(r.body)
}

var tableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,62}$`)

// do performs one operation that is not a transaction.
func (s *Server) do(r *request) (reply, *failure) {
	if bad := s.admit(r); bad != nil {
		return reply{}, bad
	}
	switch r.operation {
	case getProperties, setProperties:
		return s.properties(r)
	case getStats:
		return s.stats(r)
	case getPolicies, setPolicies:
		return s.accessPolicies(r)
	}
	name, keys, bad := r.resource()
	switch {
	case bad != nil:
		return reply{}, bad
	case name == "Tables":
		return s.tables(r, keys)
	case !tableName.MatchString(name):
		return reply{}, errTableName
	case r.method == http.MethodGet && keys == "":
		return s.query(r, name)
	case r.method == http.MethodGet:
		return s.get(r, name, keys)
	}
	writes := make([]write, 1)
	if bad = s.readWrite(r, &writes[0], new(fieldsOf)); bad == nil {
		bad = s.rates.take(ofWrites, name, string(writes[0].entity.partition), 1)
	}
	if bad != nil {
		return reply{}, bad
	}
	replies, bad, _ := s.apply(writes)
	if bad != nil {
		return reply{}, bad
	}
	return replies[0], nil
}

// admit refuses a request that this client, this endpoint or the state of the
// table does not allow.
func (s *Server) admit(r *request) *failure {
	switch {
	case r.query.Get("comp") != "" && r.operation == unknown:
		return errNotBuilt
	case r.site.secondary && !r.operation.reads():
		return errSecondary
	}
	if bad := r.grant.allows(r.operation, r.table); bad != nil {
		return bad
	}
	return s.deleted.check(r.table)
}

// resource takes the path apart: Table, Table() or Table(keys).
func (r *request) resource() (name, keys string, bad *failure) {
	name, keys, found := strings.Cut(r.path, "(")
	if found {
		if keys, found = strings.CutSuffix(keys, ")"); !found {
			return "", "", errInput
		}
	}
	return name, keys, nil
}

// parseKeys reads PartitionKey='..',RowKey='..' with doubled quotes, in either
// order.
func parseKeys(keys string) (partition, row string, bad *failure) {
	var hasPartition, hasRow, ok bool
	for rest := keys; rest != ""; {
		var name, text string
		if name, rest, ok = strings.Cut(rest, "="); !ok {
			return "", "", errInput
		}
		if text, rest, ok = cutQuoted(rest); !ok {
			return "", "", errInput
		}
		switch name = strings.TrimSpace(name); {
		case name == "PartitionKey" && !hasPartition:
			partition, hasPartition = text, true
		case name == "RowKey" && !hasRow:
			row, hasRow = text, true
		default:
			return "", "", errInput
		}
		if rest != "" {
			if rest, ok = strings.CutPrefix(rest, ","); !ok {
				return "", "", errInput
			}
		}
	}
	if !hasPartition || !hasRow {
		return "", "", errInput
	}
	if bad := checkKey(partition); bad != nil {
		return "", "", bad
	}
	return partition, row, checkKey(row)
}

// cutQuoted takes a text in single quotes off the front; a doubled quote inside
// stands for one.
func cutQuoted(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '\'' {
		return "", s, false
	}
	s = s[1:]
	for end := 0; ; end += 2 {
		next := strings.IndexByte(s[end:], '\'')
		if next < 0 {
			return "", "", false
		}
		end += next
		if !strings.HasPrefix(s[end+1:], "'") {
			return strings.ReplaceAll(s[:end], "''", "'"), s[end+1:], true
		}
	}
}

// view is how the client wants to see entities.
func (s *Server) view(r *request, table string) view {
	v := view{format: minimalMetadata, base: r.site.base, account: s.cfg.Account, table: table}
	accept := r.query.Get("$format")
	if accept == "" {
		accept = r.header.accept
	}
	if strings.Contains(accept, "odata=nometadata") {
		v.format = noMetadata
	} else if strings.Contains(accept, "odata=fullmetadata") {
		v.format = fullMetadata
	}
	if fields := r.query.Get("$select"); fields != "" && fields != "*" {
		v.fields = map[string]bool{}
		for f := range strings.SplitSeq(fields, ",") {
			v.fields[strings.TrimSpace(f)] = true
		}
	}
	return v
}

// top is how many entities the client wants at most.
func (r *request) top() (int, *failure) {
	text := r.query.Get("$top")
	if text == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, errInput
	}
	return n, nil
}

// What a client may prefer as the answer to what it creates.
const (
	withContent    = "return-content"
	withoutContent = "return-no-content"
)

// preference is what the client prefers. "": the client says nothing, and gets the
// content.
func (r *request) preference() string {
	switch p := r.header.prefer; p {
	case withContent, withoutContent:
		return p
	}
	return ""
}

// preferenceApplied is the header that confirms the preference to the client.
const preferenceApplied = "Preference-Applied"
