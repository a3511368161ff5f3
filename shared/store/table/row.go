package table

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"dsvmpools/shared/fault"
)

// Limits of a property, set by Table Storage: 32 Ki UTF-16 units in a string.
const (
	// ChunkUnits is what one property of a long text holds, in UTF-16 units.
	ChunkUnits = 32_000
	// chunks is how many properties a long text may take: Name, Name1, ...
	chunks = 8
	// LongUnits is what all properties of a long text hold.
	LongUnits = chunks * ChunkUnits
	// SentenceUnits bounds a sentence that came from outside (a node, ARM), so
	// that no row can become too large to be written.
	SentenceUnits = 2_000
)

const (
	// TimeLayout is Edm.DateTime in UTC at its full precision.
	TimeLayout = "2006-01-02T15:04:05.0000000Z"
	// Tick is that precision: the table keeps no finer time.
	Tick = 100 * time.Nanosecond
)

// noTime stands for the zero time where a property has to be there: a merge
// leaves absent properties as they were. It is the earliest time that Table
// Storage accepts.
var noTime = time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)

// Row builds the JSON of one row. The order of calls is the order of properties.
type Row struct {
	b    []byte
	full bool
}

// NewRow begins a row that leaves zero values out. Use it where the row is
// written as a whole.
func NewRow(partition, row string) *Row {
	r := &Row{b: make([]byte, 0, 1024)}
	r.b = append(r.b, `{"PartitionKey":`...)
	r.b = appendString(r.b, partition)
	r.b = append(r.b, `,"RowKey":`...)
	r.b = appendString(r.b, row)
	return r
}

// NewFullRow begins a row that has zero values too. Use it for a merge, and
// where readers expect every property.
func NewFullRow(partition, row string) *Row {
	r := NewRow(partition, row)
	r.full = true
	return r
}

// KeysOnly is the row that a Delete needs.
func KeysOnly(partition, row string) []byte { return NewRow(partition, row).JSON() }

// JSON ends the row.
func (r *Row) JSON() []byte { return append(r.b, '}') }

func (r *Row) name(name string) {
	r.b = append(r.b, ',', '"')
	r.b = append(r.b, name...)
	r.b = append(r.b, '"', ':')
}

func (r *Row) edmType(name, edm string) {
	r.b = append(r.b, ',', '"')
	r.b = append(r.b, name...)
	r.b = append(r.b, `@odata.type":"`...)
	r.b = append(r.b, edm...)
	r.b = append(r.b, '"')
}

// Text is Edm.String of at most ChunkUnits.
func (r *Row) Text(name, value string) {
	if value != "" || r.full {
		r.name(name)
		r.b = appendString(r.b, value)
	}
}

// Sentence is a text whose beginning is enough.
func (r *Row) Sentence(name, value string) { r.Text(name, Cut(value, SentenceUnits)) }

// Long writes a text into as many properties as it needs: Name, Name1, ...,
// Name7. LongText reads it. It reports false when the text does not fit; the row
// is unchanged then.
func (r *Row) Long(name, value string) bool {
	before := len(r.b)
	for i := 0; value != ""; i++ {
		if i == chunks {
			r.b = r.b[:before]
			return false
		}
		chunk := Cut(value, ChunkUnits)
		value = value[len(chunk):]
		r.Text(chunkName(name, i), chunk)
	}
	return true
}

// LongInPlaceOf is Long for a merge into a row that has the text before: it also
// empties the properties that the new text does not need.
func (r *Row) LongInPlaceOf(name, before, value string) bool {
	if !r.Long(name, value) {
		return false
	}
	used := countChunks(value)
	if used == 0 {
		r.emptyText(name)
	}
	for i := max(used, 1); i < countChunks(before); i++ {
		r.emptyText(chunkName(name, i))
	}
	return true
}

func (r *Row) emptyText(name string) {
	r.name(name)
	r.b = append(r.b, '"', '"')
}

func countChunks(value string) int {
	n := 0
	for ; value != ""; n++ {
		value = value[len(Cut(value, ChunkUnits)):]
	}
	return n
}

// chunkName is the name of the nth property of a long text.
func chunkName(name string, n int) string {
	if n == 0 {
		return name
	}
	return name + strconv.Itoa(n)
}

// Bool is Edm.Boolean.
func (r *Row) Bool(name string, value bool) {
	if value || r.full {
		r.Flag(name, value)
	}
}

// Flag is a Bool that is always written, also when it is false, so that a filter
// finds it.
func (r *Row) Flag(name string, value bool) {
	r.name(name)
	r.b = strconv.AppendBool(r.b, value)
}

// Int is Edm.Int32, for numbers that are small by their nature. A larger one
// becomes Edm.Int64.
func (r *Row) Int(name string, value int) {
	if value != int(int32(value)) {
		r.Int64(name, int64(value))
		return
	}
	if value != 0 || r.full {
		r.name(name)
		r.b = strconv.AppendInt(r.b, int64(value), 10)
	}
}

// Int64 is Edm.Int64.
func (r *Row) Int64(name string, value int64) {
	if value != 0 || r.full {
		r.name(name)
		r.b = append(r.b, '"')
		r.b = strconv.AppendInt(r.b, value, 10)
		r.b = append(r.b, '"')
		r.edmType(name, "Edm.Int64")
	}
}

// Time is Edm.DateTime. In a full row the zero time is there too; TimeOf reads it.
func (r *Row) Time(name string, value time.Time) {
	if value.IsZero() {
		if !r.full {
			return
		}
		value = noTime
	}
	r.name(name)
	r.b = append(r.b, '"')
	r.b = value.UTC().AppendFormat(r.b, TimeLayout)
	r.b = append(r.b, '"')
	r.edmType(name, "Edm.DateTime")
}

// Double is Edm.Double from its decimal text. It is always written.
func (r *Row) Double(name, decimal string) {
	r.name(name)
	r.b = append(r.b, decimal...)
	r.edmType(name, "Edm.Double")
}

// appendString writes a JSON string as encoding/json does: the client encodes a row
// that way when it is written alone, so that the size counted here is the size sent.
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

// Cut is the longest beginning of s that has at most this many UTF-16 units.
func Cut(s string, units int) string {
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

// Compact writes a value as JSON for a property, without escapes that only web
// pages need.
func Compact(v any) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", wrap(fault.Invalid, err, "a row cannot be written")
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}
