package tables

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
)

const annotation = "@odata.type" // ends the name of a property that holds the type of another

// document is the body of a write: its properties in the stored form, with room for the
// ticks, and the keys if both are in it.
type document struct {
	partition, row string
	keyed          bool
	stored         []byte
}

// readEntity reads the body of a write: a flat JSON object. Names of OData and
// nulls are skipped, as the service does. The slices in scratch are used again.
func readEntity(body string, scratch *fieldsOf) (d document, bad *failure) {
	all, ok := readObject(body, *scratch)
	if *scratch = all; !ok {
		return d, errInput
	}
	var hasPartition, hasRow bool
	d.stored = make([]byte, ticksBytes, ticksBytes+len(body)) // mostly shorter than JSON
	for _, f := range all.fields {
		if strings.HasPrefix(f.name, "odata.") || f.name == "Timestamp" || f.raw[0] == 'n' {
			continue
		}
		kind := all.typeOf(f.name)
		if f.name == "PartitionKey" || f.name == "RowKey" {
			text, quoted := unquote(f.raw)
			if !quoted || kind != 0 && kind != edmString {
				return d, errInput
			}
			if len(text) > maxValueBytes/2 && 2*units([]byte(text)) > maxValueBytes {
				return d, errValueSize
			}
			if bad := checkKey(text); bad != nil {
				return d, bad
			}
			if f.name == "RowKey" {
				d.row, hasRow = text, true
			} else {
				d.partition, hasPartition = text, true
			}
			continue
		}
		if d.stored, bad = appendField(d.stored, f, kind); bad != nil {
			return d, bad
		}
	}
	d.keyed = hasPartition && hasRow
	e := entity{stored: d.stored}
	return d, e.check()
}

// appendField appends a field in the stored form. Without a type (0) it finds the type: an
// integer that does not fit 32 bits is a double.
func appendField(b []byte, f field, kind edm) ([]byte, *failure) {
	kind, bad := kindOf(kind, f.raw)
	if bad != nil {
		return b, bad
	}
	if kind == edmString {
		return appendStringField(b, f)
	}
	text, quoted := unquote(f.raw)
	if !quoted {
		text = f.raw
	}
	v, ok := parseValue(kind, text)
	switch {
	case !ok:
		return b, errInput
	case kind == edmBinary && len(v.text) > maxValueBytes:
		return b, errValueSize
	}
	if bad := checkName(f.name); bad != nil {
		return b, bad
	}
	return v.append(appendName(b, kind, f.name)), nil
}

// appendStringField appends a string in the stored form. No memory is allocated for it.
func appendStringField(b []byte, f field) ([]byte, *failure) {
	text := f.raw[1 : len(f.raw)-1]
	before := len(b)
	b = appendName(b, edmString, f.name)
	begin := len(b)
	if strings.IndexByte(text, '\\') < 0 {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	} else {
		// The length is known only after the text: it gets the place that it may need,
		// and the text moves if it needs less.
		b = binary.AppendUvarint(b, uint64(len(text)))
		at := len(b)
		b = appendUnescaped(b, text)
		var length [binary.MaxVarintLen64]byte
		n := binary.PutUvarint(length[:], uint64(len(b)-at))
		copy(b[begin:], length[:n])
		b = append(b[:begin+n], b[at:]...)
	}
	if n := len(b) - begin; n > maxValueBytes/2 {
		_, w := binary.Uvarint(b[begin:])
		if 2*units(b[begin+w:]) > maxValueBytes {
			return b[:before], errValueSize
		}
	}
	return b, checkName(f.name)
}

// kindOf is the type of a field: the annotated one (0 = none), if its value may have it.
// Numbers and booleans may be quoted; the others must be, and a JSON boolean is no number.
func kindOf(annotated edm, raw string) (edm, *failure) {
	quoted := raw[0] == '"'
	word := raw[0] == 't' || raw[0] == 'f'
	switch annotated {
	case 0:
		switch {
		case quoted:
			return edmString, nil
		case word:
			return edmBoolean, nil
		}
		if _, err := strconv.ParseInt(raw, 10, 32); err == nil {
			return edmInt32, nil
		}
		return edmDouble, nil
	case edmBoolean:
		if !quoted && !word {
			return 0, errInput
		}
	case edmInt32, edmInt64, edmDouble:
		if word {
			return 0, errInput
		}
	default:
		if !quoted {
			return 0, errInput
		}
	}
	return annotated, nil
}

// parseValue reads the text of a value, without the marks that a filter has
// around it.
func parseValue(kind edm, text string) (value, bool) {
	v := value{kind: kind}
	var err error
	switch kind {
	case edmString:
		v.text = []byte(text)
	case edmBoolean:
		if text == "true" {
			v.number = 1
		} else if text != "false" {
			return v, false
		}
	case edmInt32:
		v.number, err = strconv.ParseInt(text, 10, 32)
	case edmInt64:
		v.number, err = strconv.ParseInt(text, 10, 64)
	case edmDouble:
		return parseDouble(text)
	case edmDateTime:
		return parseTime(text)
	case edmGUID:
		var id uuid.UUID
		id, err = uuid.Parse(text)
		v.text = []byte(id.String())
		if len(text) != len(v.text) {
			return v, false
		}
	case edmBinary:
		v.text, err = base64.StdEncoding.DecodeString(text)
	default:
		return v, false
	}
	return v, err == nil
}

func parseDouble(text string) (value, bool) {
	v := value{kind: edmDouble}
	switch text {
	case "NaN":
		v.float = math.NaN()
		return v, true
	case "Infinity", "INF":
		v.float = math.Inf(1)
		return v, true
	case "-Infinity", "-INF":
		v.float = math.Inf(-1)
		return v, true
	}
	if text == "" || strings.Trim(text, "0123456789.eE+-") != "" {
		return v, false
	}
	var err error
	v.float, err = strconv.ParseFloat(text, 64)
	return v, err == nil
}

// parseTime reads a time; without a zone it is UTC. It drops digits beyond 100 ns.
func parseTime(text string) (value, bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		if t, err = time.Parse("2006-01-02T15:04:05.999999999", text); err != nil {
			return value{}, false
		}
	}
	t = t.UTC()
	if t.Year() < minYear || t.Year() > 9999 {
		return value{}, false
	}
	return value{kind: edmDateTime, number: ticksOf(t)}, true
}

// checkName refuses a property name that is not an identifier.
func checkName(name string) *failure {
	if len(name) > maxNameUnits && units([]byte(name)) > maxNameUnits {
		return errNameSize
	}
	for i, r := range name {
		inside := i > 0 && (unicode.IsDigit(r) || unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Mc, r))
		if !inside && r != '_' && !unicode.IsLetter(r) {
			return errName
		}
	}
	if name == "" {
		return errName
	}
	return nil
}
