package tables

import (
	"bytes"
	"strings"
	"time"
	"unicode/utf8"
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
	text   []byte
	number int64
	float  float64
}

type property struct {
	name []byte
	value
}

// entity is a row: its keys, and its version and properties in the stored form.
type entity struct {
	partition, row []byte
	stored         []byte // see ticksBytes
}

// ticks is the version: the time of the last write, from which Timestamp and ETag follow.
func (e *entity) ticks() int64 {
	n, _ := ticksIn(e.stored)
	return n
}

// value finds a property, a key or the Timestamp for a filter. It reads the properties up
// to the one that is asked for.
func (e *entity) value(name string) (v value, found bool, err error) {
	switch name {
	case "PartitionKey":
		return value{kind: edmString, text: e.partition}, true, nil
	case "RowKey":
		return value{kind: edmString, text: e.row}, true, nil
	case "Timestamp":
		return value{kind: edmDateTime, number: e.ticks()}, true, nil
	}
	var p property
	r := e.properties()
	for r.next(&p) {
		if string(p.name) >= name {
			return p.value, string(p.name) == name, nil
		}
	}
	if r.damaged {
		return value{}, false, errDamaged
	}
	return value{}, false, nil
}

// mergeWith returns the entity with the properties of another added; the other wins.
func (e *entity) mergeWith(over *entity) (merged entity, err error) {
	merged = entity{e.partition, e.row, make([]byte, ticksBytes, len(e.stored)+len(over.stored))}
	var p, q property
	old, added := e.properties(), over.properties()
	hasOld, hasAdded := old.next(&p), added.next(&q)
	for hasOld || hasAdded {
		order := -1
		switch {
		case !hasOld:
			order = 1
		case hasAdded:
			order = bytes.Compare(p.name, q.name)
		}
		if order < 0 {
			merged.stored = appendProperty(merged.stored, &p)
		} else {
			merged.stored = appendProperty(merged.stored, &q)
			hasAdded = added.next(&q)
		}
		if order <= 0 {
			hasOld = old.next(&p)
		}
	}
	if old.damaged || added.damaged {
		return merged, errDamaged
	}
	return merged, nil
}

// minPropertyBytes is the least that a property takes in the stored form: its type, and a
// byte each for the length of its name, the name and the value.
const minPropertyBytes = 4

// check refuses an entity that breaks the limits on a whole entity. Small ones, which
// are most, keep them in any case.
func (e *entity) check() *failure {
	if len(e.stored) <= maxProperties*minPropertyBytes {
		return nil
	}
	bytes := func(s []byte) int { return len(s) } // never less than units, and quick
	n, size := e.measure(bytes)
	switch {
	case n > maxProperties:
		return errProperties
	case size <= maxEntityBytes:
		return nil
	}
	if _, size = e.measure(units); size > maxEntityBytes {
		return errEntitySize
	}
	return nil
}

// measure counts the properties of an entity, and its size in the count of the service.
// length measures a text.
func (e *entity) measure(length func([]byte) int) (n, size int) {
	size = 4 + 2*length(e.partition) + 2*length(e.row)
	var p property
	for r := e.properties(); r.next(&p); n++ {
		size += 8 + 2*length(p.name) + p.size(length)
	}
	return n, size
}

// size is the size of a value in the count of the service.
func (v *value) size(length func([]byte) int) int {
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

// units is the length of a text in UTF-16 code units, in which the service counts: one
// for each character, two for those of four bytes.
func units(s []byte) int {
	n := 0
	for _, c := range s {
		switch {
		case c >= 0xf0:
			n += 2
		case c < utf8.RuneSelf || c >= 0xc0:
			n++
		}
	}
	return n
}

// checkKey refuses a PartitionKey or RowKey that breaks the rules for keys.
func checkKey(key string) *failure {
	if len(key) > maxKeyUnits && units([]byte(key)) > maxKeyUnits {
		return errKeySize
	}
	for _, r := range key {
		if r < 0x20 || r >= 0x7f && r <= 0x9f || strings.ContainsRune(`/\#?`, r) {
			return errKeyCharacter
		}
	}
	return nil
}

// appendTime appends a time in UTC, to 100 ns.
func appendTime(b []byte, ticks int64) []byte {
	return timeOf(ticks).AppendFormat(b, "2006-01-02T15:04:05.0000000Z")
}

// appendETag appends the version of an entity: its timestamp, escaped.
func appendETag(b []byte, ticks int64) []byte {
	var text [32]byte
	b = append(b, `W/"datetime'`...)
	for _, c := range appendTime(text[:0], ticks) {
		if c == ':' {
			b = append(b, "%3A"...)
		} else {
			b = append(b, c)
		}
	}
	return append(b, `'"`...)
}

func etagOf(ticks int64) string { return string(appendETag(make([]byte, 0, 48), ticks)) }

func timeOf(ticks int64) time.Time {
	seconds, rest := ticks/ticksPerSecond, ticks%ticksPerSecond
	return time.Unix(seconds, rest*100).UTC()
}

func ticksOf(t time.Time) int64 {
	return t.Unix()*ticksPerSecond + int64(t.Nanosecond())/100
}
