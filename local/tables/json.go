package tables

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// field is one field of an object: its name, and its value as written. In the type of a
// property the value is the name of the type.
type field struct {
	name string
	raw  string
}

// fieldsOf is what one JSON object holds: fields, and the types in annotations, both in the
// order of their names.
type fieldsOf struct {
	fields []field
	types  []field
}

// readObject reads a JSON object, one level deep, whose text is valid UTF-8. No name may
// be in it twice. The slices in into are used again.
func readObject(body string, into fieldsOf) (out fieldsOf, ok bool) {
	s := scanner{body: body}
	out = fieldsOf{into.fields[:0], into.types[:0]}
	if len(body) > maxTransactionBytes || !utf8.ValidString(body) || !s.take('{') {
		return out, false
	}
	empty := s.take('}')
	for more := !empty; more; more = s.take(',') {
		s.peek()
		name, isString := unquote(s.takeElement())
		if !isString || !s.take(':') {
			return out, false
		}
		s.peek()
		raw := s.takeElement()
		if raw == "" {
			return out, false
		}
		if of, found := strings.CutSuffix(name, annotation); found {
			kind, ok := unquote(raw)
			if !ok || edmOf(kind) == 0 {
				return out, false
			}
			out.types = append(out.types, field{of, kind})
		} else {
			out.fields = append(out.fields, field{name, raw})
		}
	}
	closed := empty || s.take('}')
	if s.peek(); !closed || s.at < len(body) {
		return out, false
	}
	return out, sortOnce(out.fields) && sortOnce(out.types)
}

// sortOnce sorts fields by their names, and returns false if a name is there twice. Most
// clients send them sorted.
func sortOnce(fields []field) bool {
	sorted := true
	for i := 1; i < len(fields) && sorted; i++ {
		sorted = fields[i-1].name < fields[i].name
	}
	if sorted {
		return true
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(fields); i++ {
		if fields[i].name == fields[i-1].name {
			return false
		}
	}
	return true
}

// typeOf is the annotated type of a property; 0 = there is none. Names are asked for in
// their order: types before the name are dropped.
func (o *fieldsOf) typeOf(name string) edm {
	for len(o.types) > 0 && o.types[0].name <= name {
		t := o.types[0]
		o.types = o.types[1:]
		if t.name == name {
			return edmOf(t.raw)
		}
	}
	return 0
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

// take passes over a character if it follows.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// takeElement takes a string, a number or a word. It returns "" if anything else
// follows, such as an object or an array.
func (s *scanner) takeElement() string {
	start := s.at
	if start < len(s.body) && s.body[start] == '"' {
		return s.takeQuoted()
	}
	for ; s.at < len(s.body); s.at++ {
		if c := s.body[s.at]; c <= ' ' || c == ',' || c == '}' { // no number or word has them
			break
		}
	}
	switch text := s.body[start:s.at]; text {
	case "true", "false", "null":
		return text
	default:
		if isNumber(text) {
			return text
		}
	}
	return ""
}

// takeQuoted takes a string with its quotes.
func (s *scanner) takeQuoted() string {
	body, at := s.body, s.at+1
	for at < len(body) {
		c := body[at]
		at++
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		switch c {
		case '"':
			text := body[s.at:at]
			s.at = at
			return text
		case '\\':
			if rest := body[at:]; rest == "" || strings.IndexByte(`"\/bfnrt`, rest[0]) < 0 && !isEscapedUnit(rest) {
				return ""
			}
			at++
		default:
			return ""
		}
	}
	return ""
}

// isEscapedUnit reports whether a text begins with u and four hexadecimal digits.
func isEscapedUnit(text string) bool {
	return len(text) > 4 && text[0] == 'u' && strings.Trim(text[1:5], "0123456789abcdefABCDEF") == ""
}

// isNumber reports whether a text is a JSON number.
func isNumber(text string) bool {
	text = strings.TrimPrefix(text, "-")
	zero := strings.HasPrefix(text, "0")
	n := leadingDigits(text)
	if n == 0 || zero && n > 1 {
		return false
	}
	text = text[n:]
	if rest, ok := strings.CutPrefix(text, "."); ok {
		n := leadingDigits(rest)
		if n == 0 {
			return false
		}
		text = rest[n:]
	}
	if strings.HasPrefix(text, "e") || strings.HasPrefix(text, "E") {
		text = text[1:]
		if strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-") {
			text = text[1:]
		}
		n := leadingDigits(text)
		if n == 0 {
			return false
		}
		text = text[n:]
	}
	return text == ""
}

// leadingDigits is the number of decimal digits at the beginning of a text.
func leadingDigits(text string) int {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return i
		}
	}
	return len(text)
}

// unquote is the text of a JSON string that the scanner has taken.
func unquote(raw string) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	text := raw[1 : len(raw)-1]
	if strings.IndexByte(text, '\\') < 0 {
		return text, true
	}
	return string(appendUnescaped(make([]byte, 0, len(text)), text)), true
}

// appendUnescaped appends the text inside the quotes of a JSON string that the scanner has
// taken. Half of a surrogate pair becomes U+FFFD, as in encoding/json.
func appendUnescaped(b []byte, text string) []byte {
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 {
			return append(b, text...)
		}
		b = append(b, text[:i]...)
		c := text[i+1]
		text = text[i+2:]
		switch c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := unitAt(text)
			text = text[4:]
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(text) >= 6 && text[0] == '\\' && text[1] == 'u' {
					pair = utf16.DecodeRune(r, unitAt(text[2:]))
				}
				if r = pair; r != utf8.RuneError {
					text = text[6:]
				}
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, c)
		}
	}
}

// unitAt reads four hexadecimal digits, which the scanner has checked.
func unitAt(text string) rune {
	n, _ := strconv.ParseUint(text[:4], 16, 16)
	return rune(n)
}
