package tables

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"dsvmpools/local/disk"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// Limits of an entity.
const (
	maxProperties = 252 // and PartitionKey, RowKey, Timestamp
	maxValueBytes = 64 << 10
	maxKeyUnits   = 1024 // UTF-16 code units of PartitionKey and of RowKey
	maxNameUnits  = 255
)

// Types of properties.
const (
	edmString   = "Edm.String"
	edmBoolean  = "Edm.Boolean"
	edmInt32    = "Edm.Int32"
	edmInt64    = "Edm.Int64"
	edmDouble   = "Edm.Double"
	edmDateTime = "Edm.DateTime"
	edmGUID     = "Edm.Guid"
	edmBinary   = "Edm.Binary"
)

// property is one value, as JSON, with its type.
type property struct {
	name  string
	kind  string
	value json.RawMessage
}

// entity is a row: keys, version and properties by name.
type entity struct {
	partition, row string
	ticks          int64 // 100 ns since 1970; Timestamp and ETag
	props          []property
}

func (e *entity) get(name string) *property {
	i := sort.Search(len(e.props), func(i int) bool { return e.props[i].name >= name })
	if i < len(e.props) && e.props[i].name == name {
		return &e.props[i]
	}
	return nil
}

var propertyName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_]*$`)

// readEntity reads the body of a write.
func readEntity(body []byte) (*entity, *failure) {
	var raw map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&raw); err != nil || !utf8.Valid(body) {
		return nil, errInput
	}
	e := &entity{}
	size := 0
	for name, value := range raw {
		if strings.HasPrefix(name, "odata.") || strings.Contains(name, "@odata.") || name == "Timestamp" || string(value) == "null" {
			continue
		}
		p := property{name: name, value: value}
		if t, ok := raw[name+"@odata.type"]; ok {
			if json.Unmarshal(t, &p.kind) != nil {
				return nil, errInput
			}
		}
		n, err := p.check()
		if err != nil {
			return nil, err
		}
		switch size += n + 2*len(name); name {
		case "PartitionKey", "RowKey":
			if p.kind != edmString {
				return nil, errInput
			}
			var key string
			json.Unmarshal(value, &key)
			if err := checkKey(key); err != nil {
				return nil, err
			}
			if name == "RowKey" {
				e.row = key
			} else {
				e.partition = key
			}
			continue
		}
		if !propertyName.MatchString(name) || len(name) > maxNameUnits {
			return nil, fail(http.StatusBadRequest, "PropertyNameInvalid", "The property name is invalid.")
		}
		e.props = append(e.props, p)
	}
	if len(e.props) > maxProperties {
		return nil, fail(http.StatusBadRequest, "TooManyProperties", "The entity contains more properties than allowed. Each entity can include up to 252 properties to store data. Each entity also has 3 system properties.")
	}
	if size > maxEntityBytes || len(body) > 2*maxEntityBytes {
		return nil, fail(http.StatusBadRequest, "EntityTooLarge", "The entity is larger than the maximum allowed size (1MB).")
	}
	sort.Slice(e.props, func(i, j int) bool { return e.props[i].name < e.props[j].name })
	return e, nil
}

// check finds the property's type where none is said, and checks the value. It
// returns the value's size in the service's count.
func (p *property) check() (int, *failure) {
	first := p.value[0]
	if p.kind == "" {
		switch {
		case first == '"':
			p.kind = edmString
		case first == 't' || first == 'f':
			p.kind = edmBoolean
		case bytes.ContainsAny(p.value, ".eE"):
			p.kind = edmDouble
		case first == '{' || first == '[':
			return 0, errInput
		default:
			p.kind = edmInt32
		}
	}
	var s string
	quoted := first == '"' && json.Unmarshal(p.value, &s) == nil
	ok, size := false, 8
	switch p.kind {
	case edmString:
		ok, size = quoted, 2*units(s)
	case edmBoolean:
		ok, size = first == 't' || first == 'f', 1
	case edmInt32:
		_, err := strconv.ParseInt(string(p.value), 10, 32)
		ok, size = err == nil, 4
	case edmInt64:
		_, err := strconv.ParseInt(s, 10, 64)
		ok = quoted && err == nil
	case edmDouble:
		text := string(p.value)
		if quoted {
			text = s
		}
		_, err := strconv.ParseFloat(text, 64)
		ok = err == nil
	case edmDateTime:
		at, err := time.Parse(time.RFC3339Nano, s)
		ok = quoted && err == nil && at.Year() >= 1601
	case edmGUID:
		_, err := uuid.Parse(s)
		ok, size = quoted && err == nil, 16
	case edmBinary:
		b, err := base64.StdEncoding.DecodeString(s)
		ok, size = quoted && err == nil, len(b)
	}
	if !ok {
		return 0, errInput
	}
	if size > maxValueBytes {
		return 0, fail(http.StatusBadRequest, "PropertyValueTooLarge", "The property value exceeds the maximum allowed size (64KB). If the property value is a string, it is UTF-16 encoded and the maximum number of characters should be 32K or less.")
	}
	return size, nil
}

// units is the length of a string in UTF-16 code units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

func checkKey(key string) *failure {
	if units(key) > maxKeyUnits {
		return fail(http.StatusBadRequest, "KeyValueTooLarge", "The PartitionKey or RowKey is larger than 1024 characters.")
	}
	for _, r := range key {
		if r < 0x20 || r >= 0x7f && r <= 0x9f || strings.ContainsRune(`/\#?`, r) {
			return fail(http.StatusBadRequest, "OutOfRangeInput", "One of the request inputs is out of range.")
		}
	}
	return nil
}

// key orders entities as the service does: by partition, then by row. Neither
// may hold a zero byte, so it separates them.
func key(partition, row string) []byte {
	b := make([]byte, 0, len(partition)+1+len(row))
	return append(append(append(b, partition...), 0), row...)
}

// pack is the stored form: the ticks, then for each property its type's letter,
// its name and its JSON, each with its length.
func (e *entity) pack() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(e.ticks))
	for _, p := range e.props {
		b = append(b, letters[p.kind])
		b = binary.AppendUvarint(b, uint64(len(p.name)))
		b = append(b, p.name...)
		b = binary.AppendUvarint(b, uint64(len(p.value)))
		b = append(b, p.value...)
	}
	return b
}

var (
	letters = map[string]byte{edmString: 's', edmBoolean: 'b', edmInt32: 'i', edmInt64: 'l', edmDouble: 'd', edmDateTime: 't', edmGUID: 'g', edmBinary: 'x'}
	kinds   = func() map[byte]string {
		m := map[byte]string{}
		for k, l := range letters {
			m[l] = k
		}
		return m
	}()
)

var errDamaged = fail(http.StatusInternalServerError, "InternalError", "A stored entity cannot be read; the store file is damaged.")

// unpack reads a stored entity.
func unpack(k, b []byte) (*entity, error) {
	partition, row, ok := bytes.Cut(k, []byte{0})
	if !ok || len(b) < 8 {
		return nil, errDamaged
	}
	e := &entity{partition: string(partition), row: string(row), ticks: int64(binary.BigEndian.Uint64(b))}
	b = append([]byte(nil), b[8:]...) // the transaction's memory ends with it
	field := func() []byte {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil
		}
		f := b[w : w+int(n)]
		b = b[w+int(n):]
		return f
	}
	for len(b) > 0 {
		kind := kinds[b[0]]
		b = b[1:]
		name := field()
		value := field()
		if kind == "" || len(name) == 0 || len(value) == 0 {
			return nil, errDamaged
		}
		e.props = append(e.props, property{string(name), kind, value})
	}
	return e, nil
}

// Formats of answers.
const (
	noMetadata      = "application/json;odata=nometadata"
	minimalMetadata = "application/json;odata=minimalmetadata"
	fullMetadata    = "application/json;odata=fullmetadata"
)

// json is the entity as an answer shows it.
func (e *entity) json(format string, fields map[string]bool, context string) []byte {
	b := append(make([]byte, 0, 256), '{')
	text := func(name, value string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(appendString(b, name), ':'), appendString(nil, value)...)
	}
	want := func(name string) bool { return fields == nil || fields[name] }
	if context != "" && format != noMetadata {
		text("odata.metadata", context)
	}
	if format != noMetadata {
		text("odata.etag", e.etag())
	}
	if want("PartitionKey") {
		text("PartitionKey", e.partition)
	}
	if want("RowKey") {
		text("RowKey", e.row)
	}
	if want("Timestamp") {
		if format == fullMetadata {
			text("Timestamp@odata.type", edmDateTime)
		}
		text("Timestamp", e.timestamp())
	}
	for _, p := range e.props {
		if !want(p.name) {
			continue
		}
		if format != noMetadata && p.annotated() {
			text(p.name+"@odata.type", p.kind)
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(appendString(b, p.name), ':'), p.value...)
	}
	return append(b, '}')
}

// annotated reports whether JSON alone does not tell the type.
func (p *property) annotated() bool {
	switch p.kind {
	case edmString, edmBoolean, edmInt32:
		return false
	case edmDouble:
		return p.value[0] == '"' || !bytes.ContainsAny(p.value, ".eE")
	}
	return true
}

func appendString(b []byte, s string) []byte {
	q, _ := json.Marshal(s)
	return append(b, q...)
}

func (e *entity) timestamp() string {
	return time.Unix(e.ticks/1e7, e.ticks%1e7*100).UTC().Format("2006-01-02T15:04:05.0000000Z")
}

func (e *entity) etag() string {
	return fmt.Sprintf(`W/"datetime'%s'"`, url.QueryEscape(e.timestamp()))
}

// clock gives strictly rising ticks, so that no two versions of an entity look
// alike, not even across a restart with the clock set back.
type clock struct {
	mu   sync.Mutex
	last int64
}

func (c *clock) next() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, time.Now().UnixNano()/100)
	return c.last
}

// Buckets of the store file.
var (
	namesBucket = []byte("tables") // lower-case name -> name
	metaBucket  = []byte("meta")
	ticksKey    = []byte("ticks")
)

// restore goes on behind the last tick that was written.
func (c *clock) restore(db *disk.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if v := b.Get(ticksKey); len(v) == 8 {
			c.last = int64(binary.BigEndian.Uint64(v))
		}
		_, err = tx.CreateBucketIfNotExists(namesBucket)
		return err
	})
}
