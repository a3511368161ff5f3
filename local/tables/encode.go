package tables

import (
	"encoding/base64"
	"math"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Formats of answers.
const (
	noMetadata      = "application/json;odata=nometadata"
	minimalMetadata = "application/json;odata=minimalmetadata"
	fullMetadata    = "application/json;odata=fullmetadata"
)

// view is how an answer shows entities.
type view struct {
	format  string
	fields  map[string]bool // $select; nil = all
	base    string          // URL of the account, with a slash
	account string
	table   string
}

// context is the URL that names the kind of the answer.
func (v *view) context(suffix string) string {
	return v.base + "$metadata#" + v.table + suffix
}

func (v *view) wants(name string) bool { return v.fields == nil || v.fields[name] }

// object is a JSON object during its writing.
type object struct {
	b     []byte
	begun bool
}

// comma separates what follows from what was written before.
func (o *object) comma() {
	if o.begun {
		o.b = append(o.b, ',')
	}
	o.begun = true
}

func (o *object) name(name string) {
	o.comma()
	o.b = append(appendString(o.b, name), ':')
}

func (o *object) text(name, text string) {
	o.name(name)
	o.b = appendString(o.b, text)
}

// appendEntity writes an entity as it is stored. context is for an answer that has only
// this one.
func (v *view) appendEntity(b []byte, e *entity, context string) ([]byte, error) {
	o := object{b: append(b, '{')}
	if v.format != noMetadata {
		if context != "" {
			o.text("odata.metadata", context)
		}
		if v.format == fullMetadata {
			link := v.table + "(PartitionKey='" + escapeKey(string(e.partition)) + "',RowKey='" + escapeKey(string(e.row)) + "')"
			o.text("odata.type", v.account+"."+v.table)
			o.text("odata.id", v.base+link)
			o.text("odata.editLink", link)
		}
		o.name("odata.etag")
		var etag [48]byte
		o.b = appendString(o.b, appendETag(etag[:0], e.ticks()))
	}
	if v.wants("PartitionKey") {
		o.name("PartitionKey")
		o.b = appendString(o.b, e.partition)
	}
	if v.wants("RowKey") {
		o.name("RowKey")
		o.b = appendString(o.b, e.row)
	}
	if v.wants("Timestamp") {
		if v.format == fullMetadata {
			o.text("Timestamp"+annotation, edmDateTime.String())
		}
		o.name("Timestamp")
		o.b = append(appendTime(append(o.b, '"'), e.ticks()), '"')
	}
	var p property
	r := e.properties()
	for r.next(&p) {
		if v.fields != nil && !v.fields[string(p.name)] {
			continue
		}
		if v.format != noMetadata && p.annotated() {
			o.comma()
			o.b = append(append(append(o.b, '"'), p.name...), annotation+`":`...)
			o.b = appendString(o.b, p.kind.String())
		}
		o.comma()
		o.b = append(append(append(o.b, '"'), p.name...), `":`...) // an identifier, in which nothing is escaped
		o.b = p.value.appendJSON(o.b)
	}
	if r.damaged {
		return o.b, errDamaged
	}
	return append(o.b, '}'), nil
}

// escapeKey is a key as it stands in a URL, quotes doubled.
func escapeKey(key string) string {
	return url.PathEscape(strings.ReplaceAll(key, "'", "''"))
}

// annotated reports whether the type needs an annotation, because JSON alone does not show it.
func (v *value) annotated() bool {
	switch v.kind {
	case edmString, edmBoolean, edmInt32:
		return false
	case edmDouble:
		return math.IsNaN(v.float) || math.IsInf(v.float, 0)
	}
	return true
}

// appendJSON writes a value. A double always has a point or an exponent, so
// that it does not come back as an integer.
func (v *value) appendJSON(b []byte) []byte {
	switch v.kind {
	case edmString:
		return appendString(b, v.text)
	case edmBoolean:
		return strconv.AppendBool(b, v.number != 0)
	case edmInt32:
		return strconv.AppendInt(b, v.number, 10)
	case edmInt64:
		return append(strconv.AppendInt(append(b, '"'), v.number, 10), '"')
	case edmDouble:
		return appendDouble(b, v.float)
	case edmDateTime:
		return append(timeOf(v.number).AppendFormat(append(b, '"'), "2006-01-02T15:04:05.9999999Z"), '"')
	case edmBinary:
		b = append(b, '"')
		return append(base64.StdEncoding.AppendEncode(b, v.text), '"')
	}
	return append(append(append(b, '"'), v.text...), '"')
}

func appendDouble(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'g', -1, 64)
	for _, c := range b[start:] {
		if c == '.' || c == 'e' {
			return b
		}
	}
	return append(b, ".0"...)
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string.
func appendString[text string | []byte](b []byte, s text) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		case c == '"' || c == '\\':
			b = append(append(b, s[start:i]...), '\\', c)
			start = i + 1
		case c < 0x20:
			b = append(append(b, s[start:i]...), '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			start = i + 1
		}
		i++
	}
	return append(append(b, s[start:]...), '"')
}
