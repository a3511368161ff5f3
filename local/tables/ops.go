package tables

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
)

const maxPage = 1000 // entities in one answer

var tableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,62}$`)

func (f *failure) body() []byte {
	b, _ := json.Marshal(map[string]any{"odata.error": map[string]any{"code": f.code, "message": map[string]string{"lang": "en-US", "value": f.message}}})
	return b
}

// do performs one operation that is not a transaction.
func (s *Server) do(r request) (reply, *failure) {
	name, keys, hasKeys := strings.Cut(r.path, "(")
	if hasKeys && !strings.HasSuffix(keys, ")") {
		return reply{}, errInput
	}
	keys = strings.TrimSuffix(keys, ")")
	switch {
	case name == "Tables":
		return s.tables(r, keys)
	case !tableName.MatchString(name):
		return reply{}, fail(http.StatusBadRequest, "InvalidResourceName", "The specifed resource name contains invalid characters.")
	case r.method == http.MethodGet && keys == "":
		return s.query(r, name)
	case r.method == http.MethodGet:
		return s.get(r, name, keys)
	}
	w, err := readWrite(r)
	if err != nil {
		return reply{}, err
	}
	replies, failed, _ := s.apply(w.table, []*write{w})
	if failed != nil {
		return reply{}, failed
	}
	return replies[0], nil
}

// tables creates, deletes and lists tables.
func (s *Server) tables(r request, keys string) (reply, *failure) {
	switch {
	case r.method == http.MethodPost:
		var body struct{ TableName string }
		if json.Unmarshal(r.body, &body) != nil || !tableName.MatchString(body.TableName) || strings.EqualFold(body.TableName, "tables") {
			return reply{}, fail(http.StatusBadRequest, "InvalidResourceName", "The specifed resource name contains invalid characters.")
		}
		err := s.db.Update(func(tx *bbolt.Tx) error {
			if tx.Bucket(bucketOf(body.TableName)) != nil {
				return fail(http.StatusConflict, "TableAlreadyExists", "The table specified already exists.")
			}
			if _, err := tx.CreateBucket(bucketOf(body.TableName)); err != nil {
				return err
			}
			return tx.Bucket(namesBucket).Put([]byte(strings.ToLower(body.TableName)), []byte(body.TableName))
		})
		if err != nil {
			return reply{}, internal(err)
		}
		if r.header.Get("Prefer") == "return-no-content" {
			return reply{status: http.StatusNoContent, headers: map[string]string{"Preference-Applied": "return-no-content"}}, nil
		}
		b, _ := json.Marshal(map[string]string{"TableName": body.TableName})
		return reply{status: http.StatusCreated, body: b, format: minimalMetadata}, nil
	case r.method == http.MethodDelete:
		name := strings.Trim(keys, "'")
		err := s.db.Update(func(tx *bbolt.Tx) error {
			if tx.Bucket(bucketOf(name)) == nil {
				return errNotFound
			}
			if err := tx.DeleteBucket(bucketOf(name)); err != nil {
				return err
			}
			return tx.Bucket(namesBucket).Delete([]byte(strings.ToLower(name)))
		})
		if err != nil {
			return reply{}, internal(err)
		}
		return reply{status: http.StatusNoContent}, nil
	case r.method == http.MethodGet && keys == "":
		return s.listTables(r)
	}
	return reply{}, errNotFound
}

func (s *Server) listTables(r request) (reply, *failure) {
	match, bad := parseFilter(r.query.Get("$filter"))
	top, bad2 := topOf(r)
	if bad != nil || bad2 != nil {
		return reply{}, errInput
	}
	var values []map[string]string
	headers := map[string]string{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(namesBucket).Cursor()
		for k, v := c.Seek([]byte(r.query.Get("NextTableName"))); k != nil; k, v = c.Next() {
			name, _ := json.Marshal(string(v))
			if !match.holds(&entity{props: []property{{"TableName", edmString, name}}}) {
				continue
			}
			if len(values) == top {
				headers["x-ms-continuation-NextTableName"] = string(k)
				return nil
			}
			values = append(values, map[string]string{"TableName": string(v)})
		}
		return nil
	})
	if err != nil {
		return reply{}, internal(err)
	}
	if values == nil {
		values = []map[string]string{}
	}
	b, _ := json.Marshal(map[string]any{"value": values})
	return reply{status: http.StatusOK, headers: headers, body: b, format: minimalMetadata}, nil
}

func bucketOf(table string) []byte { return []byte("t:" + strings.ToLower(table)) }

// parseKeys reads PartitionKey='..',RowKey='..' with doubled quotes.
func parseKeys(keys string) (partition, row string, ok bool) {
	found := map[string]string{}
	for keys != "" {
		name, rest, has := strings.Cut(keys, "='")
		if !has {
			return "", "", false
		}
		var value strings.Builder
		closed := false
		for i := 0; i < len(rest); i++ {
			if rest[i] != '\'' {
				value.WriteByte(rest[i])
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				value.WriteByte('\'')
				i++
				continue
			}
			keys, closed = strings.TrimPrefix(rest[i+1:], ","), true
			break
		}
		if !closed {
			return "", "", false
		}
		found[strings.TrimSpace(name)] = value.String()
	}
	partition, hasPartition := found["PartitionKey"]
	row, hasRow := found["RowKey"]
	return partition, row, hasPartition && hasRow && len(found) == 2
}

// formatOf picks the metadata format the client asks for.
func formatOf(r request) string {
	accept := r.header.Get("Accept")
	if f := r.query.Get("$format"); f != "" {
		accept = f
	}
	switch {
	case strings.Contains(accept, "odata=nometadata"):
		return noMetadata
	case strings.Contains(accept, "odata=fullmetadata"):
		return fullMetadata
	}
	return minimalMetadata
}

// fieldsOf reads $select; nil = all.
func fieldsOf(r request) map[string]bool {
	sel := r.query.Get("$select")
	if sel == "" || sel == "*" {
		return nil
	}
	fields := map[string]bool{}
	for _, f := range strings.Split(sel, ",") {
		fields[strings.TrimSpace(f)] = true
	}
	return fields
}

func topOf(r request) (int, *failure) {
	v := r.query.Get("$top")
	if v == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		return 0, errInput
	}
	return min(n, maxPage), nil
}

func (s *Server) context(table, suffix string) string {
	return "http://" + s.Addr() + "/" + s.cfg.Account + "/$metadata#" + table + suffix
}

// get reads one entity.
func (s *Server) get(r request, table, keys string) (reply, *failure) {
	partition, row, ok := parseKeys(keys)
	if !ok {
		return reply{}, errInput
	}
	s.reads.Add(1)
	var e *entity
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(table))
		if b == nil {
			return errTableNotFound
		}
		k := key(partition, row)
		v := b.Get(k)
		if v == nil {
			return errNotFound
		}
		var err error
		e, err = unpack(k, v)
		return err
	})
	if err != nil {
		return reply{}, internal(err)
	}
	format := formatOf(r)
	return reply{status: http.StatusOK, etag: e.etag(), format: format, body: e.json(format, fieldsOf(r), s.context(table, "/@Element"))}, nil
}

// query lists entities in order, from where the last page ended.
func (s *Server) query(r request, table string) (reply, *failure) {
	s.queries.Add(1)
	match, bad := parseFilter(r.query.Get("$filter"))
	if bad != nil {
		return reply{}, bad
	}
	top, bad := topOf(r)
	if bad != nil {
		return reply{}, bad
	}
	from, to := match.bounds()
	if pk := r.query.Get("NextPartitionKey"); pk != "" {
		if k := key(pk, r.query.Get("NextRowKey")); string(k) > string(from) {
			from = k
		}
	}
	format, fields := formatOf(r), fieldsOf(r)
	headers := map[string]string{}
	body := []byte(`{`)
	if format != noMetadata {
		body = append(append(body, `"odata.metadata":`...), appendString(nil, s.context(table, ""))...)
		body = append(body, ',')
	}
	body = append(body, `"value":[`...)
	n := 0
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(table))
		if b == nil {
			return errTableNotFound
		}
		c := b.Cursor()
		for k, v := c.Seek(from); k != nil && (to == nil || string(k) < string(to)); k, v = c.Next() {
			e, err := unpack(k, v)
			if err != nil {
				return err
			}
			if !match.holds(e) {
				continue
			}
			if n == top || len(body) > maxTransactionBytes {
				headers["x-ms-continuation-NextPartitionKey"], headers["x-ms-continuation-NextRowKey"] = e.partition, e.row
				return nil
			}
			if n++; n > 1 {
				body = append(body, ',')
			}
			body = append(body, e.json(format, fields, "")...)
		}
		return nil
	})
	if err != nil {
		return reply{}, internal(err)
	}
	return reply{status: http.StatusOK, headers: headers, format: format, body: append(body, "]}"...)}, nil
}

// write is one change of an entity.
type write struct {
	kind   writeKind
	table  string
	entity *entity
	match  string // If-Match; "" = none
	quiet  bool   // the client wants no body
	format string
	id     string // Content-ID within a transaction
}

type writeKind int

const (
	insertEntity writeKind = iota
	replaceEntity
	mergeEntity
	deleteEntity
)

// readWrite reads a write operation.
func readWrite(r request) (*write, *failure) {
	table, keys, _ := strings.Cut(r.path, "(")
	keys = strings.TrimSuffix(keys, ")")
	w := &write{table: table, match: r.header.Get("If-Match"), quiet: r.header.Get("Prefer") == "return-no-content", format: formatOf(r), id: r.header.Get("Content-Id")}
	switch r.method {
	case http.MethodPost:
		w.kind = insertEntity
		if r.header.Get("X-HTTP-Method") == "MERGE" {
			w.kind = mergeEntity
		}
	case http.MethodPut:
		w.kind = replaceEntity
	case http.MethodPatch, "MERGE":
		w.kind = mergeEntity
	case http.MethodDelete:
		w.kind = deleteEntity
		if w.match == "" {
			return nil, fail(http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.")
		}
	default:
		return nil, fail(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")
	}
	w.entity = &entity{}
	var bad *failure
	if w.kind != deleteEntity {
		if w.entity, bad = readEntity(r.body); bad != nil {
			return nil, bad
		}
	}
	if w.kind == insertEntity {
		if keys != "" || !strings.Contains(string(r.body), `"PartitionKey"`) || !strings.Contains(string(r.body), `"RowKey"`) {
			return nil, fail(http.StatusBadRequest, "PropertiesNeedValue", "The values are not specified for all properties in the entity.")
		}
		return w, nil
	}
	partition, row, ok := parseKeys(keys)
	if !ok {
		return nil, errInput
	}
	if bad := checkKey(partition); bad != nil {
		return nil, bad
	}
	if bad := checkKey(row); bad != nil {
		return nil, bad
	}
	w.entity.partition, w.entity.row = partition, row
	return w, nil
}

// apply performs writes in one transaction, all or none. Everything is checked
// before anything is written, so that a commit can be shared with others. It
// returns the index of the write that failed.
func (s *Server) apply(table string, writes []*write) (replies []reply, failed *failure, index int) {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		failed, index = nil, 0
		b := tx.Bucket(bucketOf(table))
		if b == nil {
			failed = errTableNotFound
			return nil
		}
		done := make([]*entity, len(writes))
		for i, w := range writes {
			e, bad := w.outcome(b)
			if bad != nil {
				failed, index = bad, i
				return nil
			}
			done[i] = e
		}
		replies = make([]reply, len(writes))
		for i, w := range writes {
			k := key(w.entity.partition, w.entity.row)
			if w.kind == deleteEntity {
				if err := b.Delete(k); err != nil {
					return err
				}
				replies[i] = reply{status: http.StatusNoContent}
				continue
			}
			e := done[i]
			e.ticks = s.clock.next()
			if err := b.Put(k, e.pack()); err != nil {
				return err
			}
			replies[i] = reply{status: http.StatusNoContent, etag: e.etag()}
			if w.kind == insertEntity && !w.quiet {
				replies[i] = reply{status: http.StatusCreated, etag: e.etag(), format: w.format, body: e.json(w.format, nil, s.context(table, "/@Element"))}
			} else if w.quiet {
				replies[i].headers = map[string]string{"Preference-Applied": "return-no-content"}
			}
		}
		return tx.Bucket(metaBucket).Put(ticksKey, binary.BigEndian.AppendUint64(nil, uint64(s.clock.now())))
	})
	if err != nil {
		return nil, internal(err), 0
	}
	if failed == nil {
		s.written.Add(int64(len(writes)))
	}
	return replies, failed, index
}

func (c *clock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// outcome is the entity that a write leaves, or why it must not be done.
func (w *write) outcome(b *bbolt.Bucket) (*entity, *failure) {
	k := key(w.entity.partition, w.entity.row)
	stored := b.Get(k)
	if stored == nil {
		if w.match != "" {
			return nil, errNotFound
		}
		return w.entity, nil
	}
	if w.kind == insertEntity {
		return nil, errExists
	}
	old, err := unpack(k, stored)
	if err != nil {
		return nil, internal(err)
	}
	if w.match != "" && w.match != "*" && w.match != old.etag() {
		return nil, errCondition
	}
	if w.kind != mergeEntity {
		return w.entity, nil
	}
	return old.merged(w.entity)
}

// merged is the entity with the properties of another laid over its own.
func (e *entity) merged(over *entity) (*entity, *failure) {
	out := &entity{partition: e.partition, row: e.row, props: append([]property(nil), over.props...)}
	for _, p := range e.props {
		if over.get(p.name) == nil {
			out.props = append(out.props, p)
		}
	}
	size := 0
	for _, p := range out.props {
		size += 2 * (len(p.name) + len(p.value))
	}
	if len(out.props) > maxProperties || size > 4*maxEntityBytes {
		return nil, fail(http.StatusBadRequest, "EntityTooLarge", "The entity is larger than the maximum allowed size (1MB).")
	}
	sort.Slice(out.props, func(i, j int) bool { return out.props[i].name < out.props[j].name })
	return out, nil
}
