package tables

import (
	"strings"
	"time"
	"unicode/utf16"
)

// Limits of an entity, as the service has them.
const (
	maxProperties  = 252        // and PartitionKey, RowKey, Timestamp: 255 in all
	maxValueBytes  = 64 << 10   // of a string (UTF-16) or of bytes
	maxKeyUnits    = 1024       // UTF-16 code units of PartitionKey and of RowKey
	maxNameUnits   = 255        // of a property's name
	maxEntityBytes = 1 << 20    // in the service's own count, see size
	minYear        = 1601       // the service's calendar begins here
	ticksPerSecond = 10_000_000 // times are counted in 100 ns
)

// edm is a property's type.
type edm byte

// The types; their values are part of the stored form.
const (
	edmString edm = iota + 1
	edmBoolean
	edmInt32
	edmInt64
	edmDouble
	edmDateTime
	edmGUID
	edmBinary
)

var edmNames = [...]string{
	edmString: "Edm.String", edmBoolean: "Edm.Boolean", edmInt32: "Edm.Int32", edmInt64: "Edm.Int64",
	edmDouble: "Edm.Double", edmDateTime: "Edm.DateTime", edmGUID: "Edm.Guid", edmBinary: "Edm.Binary",
}

func (k edm) String() string {
	if int(k) < len(edmNames) {
		return edmNames[k]
	}
	return ""
}

// edmOf is the type of a name; 0 = there is none.
func edmOf(name string) edm {
	for k, n := range edmNames {
		if n == name && n != "" {
			return edm(k)
		}
	}
	return 0
}

// value is one value of any type. Strings, bytes and GUIDs (lower case) are in
// text; numbers, booleans (0, 1) and times (ticks since 1970) in number; a
// double in float.
type value struct {
	kind   edm
	text   string
	number int64
	float  float64
}

type property struct {
	name string
	value
}

// entity is a row: keys, version, and properties sorted by name.
type entity struct {
	partition, row string
	ticks          int64 // of the last write: Timestamp and ETag
	props          []property
}

// get finds a property; the keys and the Timestamp are not among them.
func (e *entity) get(name string) *property {
	low, high := 0, len(e.props)
	for low < high {
		mid := (low + high) / 2
		if e.props[mid].name < name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(e.props) && e.props[low].name == name {
		return &e.props[low]
	}
	return nil
}

// value finds a property, a key or the Timestamp for a filter.
func (e *entity) value(name string) (value, bool) {
	switch name {
	case "PartitionKey":
		return value{kind: edmString, text: e.partition}, true
	case "RowKey":
		return value{kind: edmString, text: e.row}, true
	case "Timestamp":
		return value{kind: edmDateTime, number: e.ticks}, true
	}
	if p := e.get(name); p != nil {
		return p.value, true
	}
	return value{}, false
}

// mergeWith returns the entity with the properties of another added; the other wins.
func (e *entity) mergeWith(over *entity) *entity {
	out := &entity{partition: e.partition, row: e.row, props: make([]property, 0, len(e.props)+len(over.props))}
	i, j := 0, 0
	for i < len(e.props) || j < len(over.props) {
		switch {
		case i == len(e.props) || j < len(over.props) && over.props[j].name < e.props[i].name:
			out.props = append(out.props, over.props[j])
			j++
		case j == len(over.props) || e.props[i].name < over.props[j].name:
			out.props = append(out.props, e.props[i])
			i++
		default:
			out.props = append(out.props, over.props[j])
			i++
			j++
		}
	}
	return out
}

// check refuses an entity that breaks the limits on a whole entity.
func (e *entity) check() *failure {
	if len(e.props) > maxProperties {
		return errProperties
	}
	bytes := func(s string) int { return len(s) } // never less than units, and quick
	if e.size(bytes) > maxEntityBytes && e.size(units) > maxEntityBytes {
		return errEntitySize
	}
	return nil
}

// size is the size of an entity in the count of the service. length measures a string.
func (e *entity) size(length func(string) int) int {
	size := 4 + 2*length(e.partition) + 2*length(e.row)
	for i := range e.props {
		size += 8 + 2*length(e.props[i].name) + e.props[i].size(length)
	}
	return size
}

// size is the size of a value in the count of the service.
func (v *value) size(length func(string) int) int {
	switch v.kind {
	case edmString:
		return 4 + 2*length(v.text)
	case edmBinary:
		return 4 + len(v.text)
	case edmBoolean:
		return 1
	case edmInt32:
		return 4
	case edmGUID:
		return 16
	}
	return 8
}

// units is the length of a string in UTF-16 code units, in which the service
// counts.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// checkKey refuses a PartitionKey or RowKey that breaks the rules for keys.
func checkKey(key string) *failure {
	if len(key) > maxKeyUnits && units(key) > maxKeyUnits {
		return errKeySize
	}
	for _, r := range key {
		if r < 0x20 || r >= 0x7f && r <= 0x9f || strings.ContainsRune(`/\#?`, r) {
			return errKeyCharacter
		}
	}
	return nil
}

// timestamp is the time of the last write.
func (e *entity) timestamp() string {
	return timeOf(e.ticks).Format("2006-01-02T15:04:05.0000000Z")
}

// etag is the version of the entity: its timestamp, escaped.
func (e *entity) etag() string { return etagOf(e.ticks) }

func etagOf(ticks int64) string {
	return timeOf(ticks).Format(`W/"datetime'2006-01-02T15%3A04%3A05.0000000Z'"`)
}

func timeOf(ticks int64) time.Time {
	seconds, rest := ticks/ticksPerSecond, ticks%ticksPerSecond
	return time.Unix(seconds, rest*100).UTC()
}

func ticksOf(t time.Time) int64 {
	return t.Unix()*ticksPerSecond + int64(t.Nanosecond())/100
}
