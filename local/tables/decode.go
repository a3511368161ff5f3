package tables

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
)

const annotation = "@odata.type" // ends the name of a property that holds the type of another

// readEntity reads the body of a write: a flat JSON object. Names of OData and
// nulls are skipped, as the service does. keyed reports whether both keys were
// in it.
func readEntity(body []byte) (e *entity, keyed bool, bad *failure) {
	fields, types, ok := readObjectOf(body)
	if !ok {
		return nil, false, errInput
	}
	e = &entity{props: make([]property, 0, len(fields))}
	var hasPartition, hasRow bool
	for _, f := range fields {
		if strings.HasPrefix(f.name, "odata.") || f.name == "Timestamp" || f.raw[0] == 'n' {
			continue
		}
		v, bad := readValue(types[f.name], f.raw)
		if bad != nil {
			return nil, false, bad
		}
		if f.name == "PartitionKey" || f.name == "RowKey" {
			if v.kind != edmString {
				return nil, false, errInput
			}
			if bad := checkKey(v.text); bad != nil {
				return nil, false, bad
			}
			if f.name == "RowKey" {
				e.row, hasRow = v.text, true
			} else {
				e.partition, hasPartition = v.text, true
			}
			continue
		}
		if bad := checkName(f.name); bad != nil {
			return nil, false, bad
		}
		e.props = append(e.props, property{f.name, v})
	}
	return e, hasPartition && hasRow, e.check()
}

// readValue reads a value of a type. Without a type (0) it finds the type: an
// integer that does not fit 32 bits is a double.
func readValue(kind edm, raw string) (value, *failure) {
	text, quoted := unquote(raw)
	if !quoted {
		text = raw
	}
	word := raw[0] == 't' || raw[0] == 'f'
	if kind == 0 {
		switch {
		case quoted:
			kind = edmString
		case word:
			kind = edmBoolean
		default:
			kind = edmDouble
			if _, err := strconv.ParseInt(text, 10, 32); err == nil {
				kind = edmInt32
			}
		}
	}
	// Numbers and booleans may be quoted; the others must be, and a JSON
	// boolean is no number.
	switch kind {
	case edmBoolean:
		if !quoted && !word {
			return value{}, errInput
		}
	case edmInt32, edmInt64, edmDouble:
		if word {
			return value{}, errInput
		}
	default:
		if !quoted {
			return value{}, errInput
		}
	}
	v, ok := parseValue(kind, text)
	if !ok {
		return value{}, errInput
	}
	if kind == edmString && len(v.text) > maxValueBytes/2 && 2*units(v.text) > maxValueBytes ||
		kind == edmBinary && len(v.text) > maxValueBytes {
		return value{}, errValueSize
	}
	return v, nil
}

// parseValue reads the text of a value, without the marks that a filter has
// around it.
func parseValue(kind edm, text string) (value, bool) {
	v := value{kind: kind}
	var err error
	switch kind {
	case edmString:
		v.text = text
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
		if v.text = id.String(); len(text) != len(v.text) {
			return v, false
		}
	case edmBinary:
		var b []byte
		b, err = base64.StdEncoding.DecodeString(text)
		v.text = string(b)
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
	if len(name) > maxNameUnits && units(name) > maxNameUnits {
		return errNameSize
	}
	for i, r := range name {
		if r == '_' || unicode.IsLetter(r) || i > 0 && (unicode.IsDigit(r) || unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Mc, r)) {
			continue
		}
		return errName
	}
	if name == "" {
		return errName
	}
	return nil
}
