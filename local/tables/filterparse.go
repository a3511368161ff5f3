package tables

import (
	"encoding/hex"
	"strings"
)

// Limits on a $filter, so that no client can make one costly to read.
const (
	maxFilterBytes = 32 << 10
	maxFilterDepth = 100
	maxComparisons = 15 // the service's own bound
)

// parseFilter reads a $filter; an empty one matches everything.
func parseFilter(text string) (filter, *failure) {
	if strings.TrimSpace(text) == "" {
		return filter{}, nil
	}
	if len(text) > maxFilterBytes {
		return filter{}, errInput
	}
	p := parser{rest: text}
	p.next()
	root := p.or(0)
	if p.bad || p.kind != end || p.comparisons > maxComparisons {
		return filter{}, errInput
	}
	return filter{root}, nil
}

// token kinds
const (
	end     = 0
	word    = 'w' // in text
	literal = 'l' // in value
	open    = '('
	shut    = ')'
)

// parser reads a filter token by token. The current token is in kind, text and
// value. When bad is set its results have no meaning.
type parser struct {
	rest        string
	kind        byte
	text        string
	value       value
	comparisons int
	bad         bool
}

// accept passes over a word if it is the current token.
func (p *parser) accept(text string) bool {
	if p.kind == word && p.text == text {
		p.next()
		return true
	}
	return false
}

func (p *parser) or(depth int) node {
	n := p.and(depth)
	for !p.bad && p.accept("or") {
		n = either{n, p.and(depth)}
	}
	return n
}

func (p *parser) and(depth int) node {
	n := p.unary(depth)
	for !p.bad && p.accept("and") {
		n = both{n, p.unary(depth)}
	}
	return n
}

func (p *parser) unary(depth int) node {
	if depth > maxFilterDepth {
		p.bad = true
	}
	switch {
	case p.bad:
		return constant(false)
	case p.accept("not"):
		return negation{p.unary(depth + 1)}
	case p.kind == open:
		p.next()
		n := p.or(depth + 1)
		p.bad = p.bad || p.kind != shut
		p.next()
		return n
	}
	p.comparisons++
	return p.comparison()
}

// mirrored is each operator with its sides exchanged.
var mirrored = map[string]string{"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}

// comparison reads `name op literal`, `literal op name`, or a boolean alone.
func (p *parser) comparison() node {
	left := *p
	p.next()
	op := p.text
	if p.kind != word || mirrored[op] == "" {
		switch {
		case left.kind == literal && left.value.kind == edmBoolean:
			return constant(left.value.number != 0)
		case left.kind == word && checkName(left.text) == nil:
			return comparison{left.text, "eq", value{kind: edmBoolean, number: 1}}
		}
		p.bad = true
		return constant(false)
	}
	p.next()
	var c comparison
	switch {
	case left.kind == word && p.kind == literal:
		c = comparison{left.text, op, p.value}
	case left.kind == literal && p.kind == word:
		c = comparison{p.text, mirrored[op], left.value}
	default:
		p.bad = true
	}
	// Keys are strings; the service refuses to compare them with anything else.
	if checkName(c.name) != nil || (c.name == "PartitionKey" || c.name == "RowKey") && c.value.kind != edmString {
		p.bad = true
	}
	p.next()
	return c
}

// next reads a token.
func (p *parser) next() {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	p.kind, p.text = end, ""
	if p.rest == "" || p.bad {
		return
	}
	switch c := p.rest[0]; {
	case c == open || c == shut:
		p.kind, p.rest = c, p.rest[1:]
	case c == '\'':
		p.literal(edmString, p.takeQuoted())
	case c == '-' || c >= '0' && c <= '9':
		p.readNumber()
	default:
		p.readName()
	}
}

// literal makes a value the current token.
func (p *parser) literal(kind edm, text string) {
	v, ok := parseValue(kind, text)
	p.kind, p.value, p.bad = literal, v, p.bad || !ok
}

// takeQuoted reads a text in quotes.
func (p *parser) takeQuoted() string {
	text, rest, ok := cutQuoted(p.rest)
	p.rest, p.bad = rest, p.bad || !ok
	return text
}

// readNumber reads a number: an integer; with L a long integer; with a point, an
// exponent or one of the letters d, f and m a double.
func (p *parser) readNumber() {
	i := 1
	for i < len(p.rest) && strings.IndexByte("0123456789.eE+-", p.rest[i]) >= 0 {
		i++
	}
	text, kind := p.rest[:i], edmInt64
	p.rest = p.rest[i:]
	if strings.ContainsAny(text, ".eE") {
		kind = edmDouble
	}
	if p.rest != "" {
		switch p.rest[0] {
		case 'L', 'l':
			p.bad = p.bad || kind == edmDouble
			p.rest = p.rest[1:]
		case 'd', 'D', 'f', 'F', 'm', 'M':
			kind, p.rest = edmDouble, p.rest[1:]
		}
	}
	p.literal(kind, text)
}

// readName reads a word: an operator, a property, or the mark of a literal.
func (p *parser) readName() {
	i := strings.IndexAny(p.rest, " \t\r\n()'")
	if i < 0 {
		i = len(p.rest)
	}
	p.text, p.rest = p.rest[:i], p.rest[i:]
	if !strings.HasPrefix(p.rest, "'") {
		switch p.text {
		case "true", "false":
			p.literal(edmBoolean, p.text)
		default:
			p.kind = word
		}
		return
	}
	text := p.takeQuoted()
	switch p.text {
	case "datetime":
		p.literal(edmDateTime, text)
	case "guid":
		p.literal(edmGUID, text)
	case "X", "binary":
		b, err := hex.DecodeString(text)
		p.kind, p.value = literal, value{kind: edmBinary, text: b}
		p.bad = p.bad || err != nil
	default:
		p.bad = true
	}
}
