package tables

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// field is one field of an object: its name, and its value as written.
type field struct {
	name string
	raw  string
}

// readObjectOf reads a body that is valid JSON of the form of readObject.
func readObjectOf(body []byte) (fields []field, types map[string]edm, ok bool) {
	if len(body) > maxTransactionBytes || !utf8.Valid(body) {
		return nil, nil, false
	}
	return readObject(string(body)) // one copy, which all names and values share
}

// readObject reads a JSON object, one level deep: its fields in the order of their
// names, and the types in its annotations. No name may be in it twice.
func readObject(body string) (fields []field, types map[string]edm, ok bool) {
	s := scanner{body: body}
	if !s.take('{') {
		return nil, nil, false
	}
	fields = make([]field, 0, 16)
	empty := s.take('}')
	for more := !empty; more; more = s.take(',') {
		s.peek()
		name, isString := unquote(s.takeElement())
		if !isString || !s.take(':') {
			return nil, nil, false
		}
		s.peek()
		raw := s.takeElement()
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
	for s.at < len(s.body) && strings.IndexByte(" \t\r\n,}", s.body[s.at]) < 0 {
		s.at++
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
			if rest := s.body[s.at:]; rest == "" || strings.IndexByte(`"\/bfnrt`, rest[0]) < 0 && !isEscapedUnit(rest) {
				return ""
			}
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
