package tables

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits on a $filter, so that no client can make one costly to read.
const (
	maxFilterBytes = 32 << 10
	maxFilterDepth = 100
)

// filter is a parsed $filter; the zero value lets everything through.
type filter struct{ root node }

// node is and, or, not, or a comparison.
type node interface{ holds(e *entity) bool }

type both struct{ a, b node }
type either struct{ a, b node }
type negation struct{ a node }
type comparison struct {
	name  string
	op    string
	value operand
}
type constant bool

func (n both) holds(e *entity) bool     { return n.a.holds(e) && n.b.holds(e) }
func (n either) holds(e *entity) bool   { return n.a.holds(e) || n.b.holds(e) }
func (n negation) holds(e *entity) bool { return !n.a.holds(e) }
func (n constant) holds(*entity) bool   { return bool(n) }

func (f filter) holds(e *entity) bool { return f.root == nil || f.root.holds(e) }

// operand is a literal, or a property's value, in a form that compares.
type operand struct {
	class byte // s string, n number, i integer, b bool, t time, x bytes, g guid
	text  string
	num   float64
	int   int64
}

func (n comparison) holds(e *entity) bool {
	got, ok := e.operand(n.name)
	if !ok {
		return false
	}
	c, comparable := got.compare(n.value)
	if !comparable {
		return false
	}
	switch n.op {
	case "eq":
		return c == 0
	case "ne":
		return c != 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	default:
		return c <= 0
	}
}

func (a operand) compare(b operand) (int, bool) {
	if a.class == 'i' && b.class == 'i' {
		switch {
		case a.int < b.int:
			return -1, true
		case a.int > b.int:
			return 1, true
		}
		return 0, true
	}
	if (a.class == 'i' || a.class == 'n') && (b.class == 'i' || b.class == 'n') {
		x, y := a.num, b.num
		switch {
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		case x == y:
			return 0, true
		}
		return 0, false
	}
	if a.class != b.class {
		return 0, false
	}
	if a.class == 't' {
		switch {
		case a.int < b.int:
			return -1, true
		case a.int > b.int:
			return 1, true
		}
		return 0, true
	}
	return strings.Compare(a.text, b.text), true
}

// operand is a property in a form that compares.
func (e *entity) operand(name string) (operand, bool) {
	switch name {
	case "PartitionKey":
		return operand{class: 's', text: e.partition}, true
	case "RowKey":
		return operand{class: 's', text: e.row}, true
	case "Timestamp":
		return operand{class: 't', int: e.ticks * 100}, true
	}
	p := e.get(name)
	if p == nil {
		return operand{}, false
	}
	var s string
	if p.value[0] == '"' {
		json.Unmarshal(p.value, &s)
	} else {
		s = string(p.value)
	}
	return operandOf(p.kind, s)
}

func operandOf(kind, s string) (operand, bool) {
	switch kind {
	case edmString:
		return operand{class: 's', text: s}, true
	case edmBoolean:
		return operand{class: 'b', text: s}, s == "true" || s == "false"
	case edmInt32, edmInt64:
		n, err := strconv.ParseInt(s, 10, 64)
		return operand{class: 'i', int: n, num: float64(n)}, err == nil
	case edmDouble:
		n, err := strconv.ParseFloat(s, 64)
		return operand{class: 'n', num: n}, err == nil
	case edmDateTime:
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t, err = time.Parse("2006-01-02T15:04:05.9999999", s)
		}
		return operand{class: 't', int: t.Unix()*1e9 + int64(t.Nanosecond())}, err == nil
	case edmGUID:
		return operand{class: 'g', text: strings.ToLower(s)}, true
	case edmBinary:
		b, err := base64.StdEncoding.DecodeString(s)
		return operand{class: 'x', text: string(b)}, err == nil
	}
	return operand{}, false
}

// bounds is the range of keys that can match: from <= key < to; to nil = no end.
// It follows from the comparisons of PartitionKey, and with an equal one those
// of RowKey, that are joined by "and".
func (f filter) bounds() (from, to []byte) {
	var terms []comparison
	var collect func(n node)
	collect = func(n node) {
		switch n := n.(type) {
		case both:
			collect(n.a)
			collect(n.b)
		case comparison:
			if n.value.class == 's' {
				terms = append(terms, n)
			}
		}
	}
	collect(f.root)
	narrow := func(low, high string) { // [low, high)
		if low > string(from) {
			from = []byte(low)
		}
		if high != "" && (to == nil || high < string(to)) {
			to = []byte(high)
		}
	}
	partition, exact := "", false
	for _, t := range terms {
		if t.name == "PartitionKey" {
			v := t.value.text
			switch t.op {
			case "eq":
				partition, exact = v, true
				narrow(v+"\x00", v+"\x01")
			case "gt":
				narrow(v+"\x01", "")
			case "ge":
				narrow(v+"\x00", "")
			case "lt":
				narrow("", v+"\x00")
			case "le":
				narrow("", v+"\x01")
			}
		}
	}
	if !exact {
		return from, to
	}
	for _, t := range terms {
		if t.name == "RowKey" {
			k := partition + "\x00" + t.value.text
			switch t.op {
			case "eq":
				narrow(k, k+"\x00")
			case "gt":
				narrow(k+"\x00", "")
			case "ge":
				narrow(k, "")
			case "lt":
				narrow("", k)
			case "le":
				narrow("", k+"\x00")
			}
		}
	}
	return from, to
}

var errFilter = fail(http.StatusBadRequest, "InvalidInput", "The $filter expression is not valid.")

// parseFilter reads a $filter; an empty one lets everything through.
func parseFilter(text string) (filter, *failure) {
	if strings.TrimSpace(text) == "" {
		return filter{}, nil
	}
	if len(text) > maxFilterBytes {
		return filter{}, errFilter
	}
	p := parser{rest: text}
	p.next()
	root := p.or(0)
	if p.bad || p.kind != 0 {
		return filter{}, errFilter
	}
	return filter{root}, nil
}

// parser reads tokens: kind w word, l literal, ( and ), 0 end.
type parser struct {
	rest  string
	kind  byte
	text  string
	value operand
	bad   bool
}

func (p *parser) word(w string) bool {
	if p.kind == 'w' && p.text == w {
		p.next()
		return true
	}
	return false
}

func (p *parser) or(depth int) node {
	n := p.and(depth)
	for p.word("or") {
		n = either{n, p.and(depth)}
	}
	return n
}

func (p *parser) and(depth int) node {
	n := p.unary(depth)
	for p.word("and") {
		n = both{n, p.unary(depth)}
	}
	return n
}

func (p *parser) unary(depth int) node {
	if depth > maxFilterDepth || p.bad {
		p.bad = true
		return constant(false)
	}
	if p.word("not") {
		return negation{p.unary(depth + 1)}
	}
	if p.kind == '(' {
		p.next()
		n := p.or(depth + 1)
		if p.kind != ')' {
			p.bad = true
		}
		p.next()
		return n
	}
	return p.comparison()
}

// turned is the operator with its sides changed.
var turned = map[string]string{"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}

func (p *parser) comparison() node {
	var c comparison
	left := *p
	p.next()
	c.op = p.text
	if p.kind != 'w' || turned[c.op] == "" {
		if left.kind == 'l' && left.value.class == 'b' { // a bare true or false
			return constant(left.value.text == "true")
		}
		p.bad = true
		return constant(false)
	}
	p.next()
	switch {
	case left.kind == 'w' && p.kind == 'l':
		c.name, c.value = left.text, p.value
	case left.kind == 'l' && p.kind == 'w':
		c.name, c.value, c.op = p.text, left.value, turned[c.op]
	default:
		p.bad = true
	}
	p.next()
	return c
}

// next reads a token.
func (p *parser) next() {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	p.kind, p.text = 0, ""
	if p.rest == "" {
		return
	}
	switch c := p.rest[0]; {
	case c == '(' || c == ')':
		p.kind, p.rest = c, p.rest[1:]
	case c == '\'':
		p.literal(edmString, p.quoted())
	case c == '-' || c >= '0' && c <= '9':
		p.number()
	default:
		p.name()
	}
}

func (p *parser) literal(kind, text string) {
	var ok bool
	p.kind = 'l'
	if p.value, ok = operandOf(kind, text); !ok {
		p.bad = true
	}
}

// quoted reads a string in quotes, with doubled quotes inside.
func (p *parser) quoted() string {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		if p.rest[i] != '\'' {
			b.WriteByte(p.rest[i])
			continue
		}
		if i+1 < len(p.rest) && p.rest[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.rest = p.rest[i+1:]
		return b.String()
	}
	p.bad, p.rest = true, ""
	return ""
}

func (p *parser) number() {
	i := 1
	for i < len(p.rest) && strings.IndexByte("0123456789.eE+-", p.rest[i]) >= 0 {
		i++
	}
	text := p.rest[:i]
	p.rest = p.rest[i:]
	kind := edmInt64
	switch {
	case p.rest != "" && (p.rest[0] == 'L' || p.rest[0] == 'l'):
		p.rest = p.rest[1:]
	case strings.ContainsAny(text, ".eE"):
		kind = edmDouble
	}
	p.literal(kind, text)
}

// name reads a word: an operator, a property, or the prefix of a literal.
func (p *parser) name() {
	i := 0
	for i < len(p.rest) && !strings.ContainsRune(" \t\r\n()'", rune(p.rest[i])) {
		i++
	}
	word := p.rest[:i]
	p.rest = p.rest[i:]
	if strings.HasPrefix(p.rest, "'") {
		text := p.quoted()
		switch word {
		case "datetime":
			p.literal(edmDateTime, text)
		case "guid":
			p.literal(edmGUID, text)
		case "X", "binary":
			b, err := hex.DecodeString(text)
			p.bad = p.bad || err != nil
			p.kind, p.value = 'l', operand{class: 'x', text: string(b)}
		default:
			p.bad = true
		}
		return
	}
	if word == "true" || word == "false" {
		p.literal(edmBoolean, word)
		return
	}
	p.kind, p.text = 'w', word
	p.bad = p.bad || word == ""
}
