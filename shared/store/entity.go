package store

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// Limits of a property, set by Table Storage: 32 Ki UTF-16 units in a string.
const (
	// chunkUnits is what one property of a long text holds.
	chunkUnits = 32_000
	// chunks is how many properties a long text may take: Name, Name1, ...
	chunks = 8
	// reasonUnits bounds a sentence that came from outside (a node, ARM), so
	// that no row can become too large to be written.
	reasonUnits = 2_000
)

// timeLayout is Edm.DateTime in UTC at its full precision of 100 ns.
const timeLayout = "2006-01-02T15:04:05.0000000Z"

// noTime stands for the zero time where a property has to be there: a merge
// leaves absent properties as they were. It is the earliest time that Table
// Storage accepts.
var noTime = time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)

// entity builds the JSON of one row. Zero values are left out, as the row is
// replaced as a whole, unless full is set, as for a merge.
type entity struct {
	b    []byte
	full bool
}

func newEntity(partition, row string) *entity {
	e := &entity{b: make([]byte, 0, 1024)}
	e.b = append(e.b, `{"PartitionKey":`...)
	e.b = appendString(e.b, partition)
	e.b = append(e.b, `,"RowKey":`...)
	e.b = appendString(e.b, row)
	return e
}

func (e *entity) end() []byte { return append(e.b, '}') }

func (e *entity) name(name string) {
	e.b = append(e.b, ',', '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, '"', ':')
}

func (e *entity) typed(name, edm string) {
	e.b = append(e.b, ',', '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, `@odata.type":"`...)
	e.b = append(e.b, edm...)
	e.b = append(e.b, '"')
}

func (e *entity) text(name, value string) {
	if value != "" || e.full {
		e.name(name)
		e.b = appendString(e.b, value)
	}
}

// sentence is text of which only the beginning matters.
func (e *entity) sentence(name, value string) { e.text(name, cut(value, reasonUnits)) }

// long writes a text over as many properties as it needs. It reports false
// when it does not fit.
func (e *entity) long(name, value string) bool {
	for i := 0; value != ""; i++ {
		if i == chunks {
			return false
		}
		chunk := cut(value, chunkUnits)
		value = value[len(chunk):]
		e.text(chunkName(name, i), chunk)
	}
	return true
}

// chunkName is the name of the nth property of a long text.
func chunkName(name string, n int) string {
	if n == 0 {
		return name
	}
	return name + strconv.Itoa(n)
}

func (e *entity) bool(name string, value bool) {
	if value || e.full {
		e.name(name)
		e.b = strconv.AppendBool(e.b, value)
	}
}

// int is Edm.Int32: for numbers that are small by their nature.
func (e *entity) int(name string, value int) {
	if value != int(int32(value)) {
		e.int64(name, int64(value))
		return
	}
	if value != 0 || e.full {
		e.name(name)
		e.b = strconv.AppendInt(e.b, int64(value), 10)
	}
}

func (e *entity) int64(name string, value int64) {
	if value != 0 || e.full {
		e.name(name)
		e.b = append(e.b, '"')
		e.b = strconv.AppendInt(e.b, value, 10)
		e.b = append(e.b, '"')
		e.typed(name, "Edm.Int64")
	}
}

func (e *entity) time(name string, value time.Time) {
	if value.IsZero() {
		if !e.full {
			return
		}
		value = noTime
	}
	e.name(name)
	e.b = append(e.b, '"')
	e.b = value.UTC().AppendFormat(e.b, timeLayout)
	e.b = append(e.b, '"')
	e.typed(name, "Edm.DateTime")
}

// number is Edm.Double from its decimal text.
func (e *entity) number(name, decimal string) {
	e.name(name)
	e.b = append(e.b, decimal...)
	e.typed(name, "Edm.Double")
}

// appendString writes a JSON string as encoding/json does: the client encodes
// the row once more that way, so that the size counted here is the size sent.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string can always be written
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// cut is the longest beginning of s that has at most this many UTF-16 units.
func cut(s string, units int) string {
	if len(s) <= units {
		return s // no byte makes more than one unit
	}
	n := 0
	for i, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
		if n > units {
			return s[:i]
		}
	}
	return s
}

// when is a time as it is read: noTime is none.
func when(t time.Time) time.Time {
	if t.Equal(noTime) {
		return time.Time{}
	}
	return t
}
