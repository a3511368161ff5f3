package tables

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

const annotation = "@odata.type" // ends the name of a property that tells the type of another

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

type field struct {
	name string
	raw  string
}

// readObjectOf takes a body apart, if it is valid JSON of that form.
func readObjectOf(body []byte) (fields []field, types map[string]edm, ok bool) {
	if len(body) > maxTransactionBytes || !utf8.Valid(body) {
		return nil, nil, false
	}
	return readObject(string(body)) // one copy, which all names and values share
}

// readObject takes JSON apart, one level deep: the fields in order of their
// names, and apart from them the types that annotations tell. No name may stand
// in it twice.
func readObject(body string) (fields []field, types map[string]edm, ok bool) {
	s := scanner{body: body}
	if !s.take('{') {
		return nil, nil, false
	}
	fields = make([]field, 0, 16)
	empty := s.take('}')
	for more := !empty; more; more = s.take(',') {
		s.peek()
		name, isString := unquote(s.element())
		if !isString || !s.take(':') {
			return nil, nil, false
		}
		s.peek()
		raw := s.element()
		if raw == "" {
			return nil, nil, false
		}
		if of, found := strings.CutSuffix(name, annotation); found {
			text, ok := unquote(raw)
			kind := edmOf(text)
			if _, twice := types[of]; !ok || twice || kind == 0 {
				return nil, nil, false
			}
			if types == nil {
				types = make(map[string]edm, 8)
			}
			types[of] = kind
		} else {
			fields = append(fields, field{name, raw})
		}
	}
	closed := empty || s.take('}')
	if s.peek(); !closed || s.at < len(body) {
		return nil, nil, false
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(fields); i++ {
		if fields[i].name == fields[i-1].name {
			return nil, nil, false
		}
	}
	return fields, types, true
}

// scanner walks through JSON.
type scanner struct {
	body string
	at   int
}

// peek skips white space and shows what follows; 0 = nothing.
func (s *scanner) peek() byte {
	for s.at < len(s.body) {
		switch c := s.body[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// take goes over a character if it follows.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// element takes a string, a number or a word; it is empty where anything else
// stands, objects and arrays among them.
func (s *scanner) element() string {
	start := s.at
	if start < len(s.body) && s.body[start] == '"' {
		return s.quoted()
	}
	for s.at < len(s.body) && strings.IndexByte(" \t\r\n,}", s.body[s.at]) < 0 {
		s.at++
	}
	switch text := s.body[start:s.at]; text {
	case "true", "false", "null":
		return text
	default:
		if number(text) {
			return text
		}
	}
	return ""
}

// quoted takes a string with its quotes.
func (s *scanner) quoted() string {
	start := s.at
	for s.at++; s.at < len(s.body); s.at++ {
		switch c := s.body[s.at]; {
		case c == '"':
			s.at++
			return s.body[start:s.at]
		case c < 0x20:
			return ""
		case c == '\\':
			s.at++
			if rest := s.body[s.at:]; rest == "" || strings.IndexByte(`"\/bfnrt`, rest[0]) < 0 && !escapedUnit(rest) {
				return ""
			}
		}
	}
	return ""
}

// escapedUnit reports whether a text begins with u and four hexadecimal digits.
func escapedUnit(text string) bool {
	return len(text) > 4 && text[0] == 'u' && strings.Trim(text[1:5], "0123456789abcdefABCDEF") == ""
}

// number reports whether a text is a number as JSON has them.
func number(text string) bool {
	text = strings.TrimPrefix(text, "-")
	digits := func() int {
		rest := strings.TrimLeft(text, "0123456789")
		n := len(text) - len(rest)
		text = rest
		return n
	}
	zero := strings.HasPrefix(text, "0")
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if rest, ok := strings.CutPrefix(text, "."); ok {
		if text = rest; digits() == 0 {
			return false
		}
	}
	if strings.HasPrefix(text, "e") || strings.HasPrefix(text, "E") {
		text = text[1:]
		if strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-") {
			text = text[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return text == ""
}

// unquote is the text of a JSON string.
func unquote(raw string) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	var s string
	err := json.Unmarshal([]byte(raw), &s)
	return s, err == nil
}

// readValue reads a value of a type, or finds the type where none is told: an
// integer that has no room in 32 bits is a double then.
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
	if kind == edmString && len(v.text) > maxValueBytes/2 && 2*units(v.text) > maxValueBytes || kind == edmBinary && len(v.text) > maxValueBytes {
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

// parseTime reads a time; without a zone it is UTC. What is finer than 100 ns
// is cut off.
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

// checkName holds a property's name against the rules for identifiers.
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
